"""POST /knot_forcing/control (also under /api): pause, go on with, or finish a stream that runs.

The body is JSON: {"stream": ..., "token": ..., "action": "pause" | "go_on" | "finish"}; stream and token are those of
the `knot_forcing.live` events. The answer is {"stream": ..., "state": "running" | "paused" | "finishing"}, or
{"error": one sentence} with a status of its kind.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Mapping
from typing import Any

from aiohttp import web
from comfy.cli_args import args
from server import PromptServer

from ...knot_core.stream import ACTIONS
from .route_access import ALLOWED_ORIGINS, access_rules
from .running_streams import running_stream

CONTROL = "/knot_forcing/control"

_MOST_BYTES = 4096
_PATIENCE = 10.0  # seconds for a body to arrive


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """An answer with an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


def add_routes() -> None:
    """Add the route to ComfyUI's server, before it starts; where there is none, nothing."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.route("*", CONTROL)(answer)


async def answer(request: web.Request) -> web.Response:
    return await answered(_control(request))


async def answered(work: Awaitable[Mapping[str, str]]) -> web.Response:
    """What the work gives, or why it is refused, as JSON."""
    headers = {"Cache-Control": "no-store"}
    try:
        return web.json_response(await work, headers=headers)
    except Refused as refusal:
        return web.json_response({"error": str(refusal)}, status=refusal.status, headers=headers | refusal.headers)


async def _control(request: web.Request) -> Mapping[str, str]:
    check_post(request)
    stream, token, action = _wish(await body_of(request))
    running = running_stream(stream)
    if running is None:
        raise Refused(404, "no stream of that name is running: it has ended, or ComfyUI was started again")
    if not running.opened_by(token):
        raise Refused(403, "got a token that is not the stream's: take the one of its knot_forcing.live events")
    return {"stream": stream, "state": running.control.ask(action)}


def check_post(request: web.Request) -> None:
    """JSON that is posted by who may.

    Raises:
        Refused: it is not.
    """
    check_sender(request)
    if request.method != "POST":
        raise Refused(405, f"got {request.method}, wanted POST with a JSON body", Allow="POST")
    if request.content_type != "application/json":
        raise Refused(415, f"got the content type {request.content_type!r:.80}, wanted application/json")


def check_sender(request: web.Request) -> None:
    """Whether a page of this ComfyUI, or a program, asks.

    Raises:
        Refused: its Host or Origin is another's.
    """
    own = access_rules(args.listen, args.enable_cors_header, os.environ.get(ALLOWED_ORIGINS, ""))
    host = request.headers.get("Host")
    origins = request.headers.getall("Origin", [])
    if (wrong := own.wrong_host(host) or own.wrong_origin(origins, host or "")) is not None:
        raise Refused(403, wrong)


async def body_of(request: web.Request, *, most: int = _MOST_BYTES) -> Any:
    """Its JSON, of at most so many bytes.

    Raises:
        Refused: it is longer, late, broken, or no JSON.
    """
    try:
        text = await asyncio.wait_for(_read(request, most), _PATIENCE)
    except asyncio.TimeoutError:
        raise Refused(408, f"the body did not arrive within {_PATIENCE:.0f} seconds") from None
    except web.RequestPayloadError as problem:
        raise Refused(400, f"the body cannot be read ({problem})".replace("\n", " ")) from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(400, "got a body that is not JSON, wanted an object of texts") from None


async def _read(request: web.Request, most: int) -> bytes:
    """No more than is wanted: ComfyUI's own limit is that of uploads."""
    text = b""
    async for piece in request.content.iter_any():
        text += piece
        if len(text) > most:
            raise Refused(413, f"got a body of more than {most} bytes, wanted no more than is asked for")
    return text


def _wish(body: Any) -> tuple[str, str, str]:
    names = ("stream", "token", "action")
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
        raise Refused(400, "got other JSON, wanted an object whose stream, token and action are texts")
    stream, token, action = (body[name] for name in names)
    if action not in ACTIONS:
        raise Refused(400, f"got the action {action!r:.80}, wanted one of {', '.join(ACTIONS)}")
    return stream, token, action
