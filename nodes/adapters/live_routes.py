"""Routes of live sessions, each also under /api:

GET  /knot_forcing/live/session      a WebSocket, as docs/live.md describes it; it begins with session.attach
POST /knot_forcing/live/change       JSON {"session", "token", "node", "text"}: a timeline of a session was edited
GET  /knot_forcing/live/page/NAME    the modules of the live page, of which the editor's player is built

Session and token are those of the `knot_forcing.live_session` event. The modules are the same for everybody and come
without any check; the other two are refused to strangers as /knot_forcing/control is.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from server import PromptServer

from ...knot_core import KnotError
from ...knot_live.connection import Connection
from ...knot_live.page_files import page_file
from ...knot_live.websocket import serve_websocket
from .live_hub import CHANGE, HUB, LIMITS, PAGE, SESSION, cameras, edit_of
from .routes import Refused, answered, body_of, check_post, check_sender

_open = [0]  # connections


def add_live_routes() -> None:
    """Add the routes to ComfyUI's server, before it starts; where there is none, nothing."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get(SESSION)(session)
        server.routes.route("*", CHANGE)(change)
        server.routes.get(f"{PAGE}/{{name}}")(page)


async def session(request: web.Request) -> web.StreamResponse:
    """One connection, until it ends."""
    try:
        check_sender(request)
        if _open[0] >= LIMITS.max_connections:
            raise Refused(503, "there are too many connections; come back later")
    except Refused as refusal:
        return web.json_response({"error": str(refusal)}, status=refusal.status)
    _open[0] += 1
    try:
        return await serve_websocket(Connection(HUB, None, cameras()), request, LIMITS)
    finally:
        _open[0] -= 1


async def change(request: web.Request) -> web.Response:
    """Answers {"node": ...}, or {"error": one sentence}."""
    return await answered(_changed(request))


async def _changed(request: web.Request) -> Mapping[str, str]:
    check_post(request)
    wish = _wish(await body_of(request, most=LIMITS.max_message_bytes))
    edit = edit_of(wish["session"], wish["token"])
    if edit is None:
        raise Refused(404, "there is no such session, or the token is not its own: take both of its event")
    try:
        await asyncio.to_thread(edit, wish["node"], wish["text"])
    except KnotError as problem:
        raise Refused(422, str(problem)) from None
    return {"node": wish["node"]}


def _wish(body: Any) -> Mapping[str, str]:
    names = ("session", "token", "node", "text")
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
        raise Refused(400, f"got other JSON, wanted an object whose {', '.join(names)} are texts")
    return body


async def page(request: web.Request) -> web.Response:
    """A module, a style or a drawing of the live page."""
    found = await asyncio.to_thread(page_file, request.match_info["name"])
    if found is None:
        return web.json_response({"error": "the live page has no such file"}, status=404)
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=found.body, content_type=found.kind, charset="utf-8", headers=headers)
