"""The live server: a page over HTTP and sessions over one WebSocket, on one port. See docs/live.md."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from .access import AccessRules, check_exposure, same_token
from .camera import Cameras
from .connection import Connection
from .engine import NoFaceError
from .health import Health
from .hub import Hub
from .messages import POINTS, VERSION, said
from .page_files import page_file
from .references import Uploaded
from .webrtc import MOST_OFFER, OfferError, Peers
from .websocket import serve_websocket

logger = logging.getLogger(__name__)

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_UPLOAD_SECONDS = 30.0
_SDP = "application/sdp"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Services:
    """A server's services beside its sessions."""

    about: Callable[[], dict[str, Any]]  # what anybody may know: /v1/info
    add_reference: Callable[[bytes, str], Uploaded]  # picture and points; a ValueError with a sentence where it is none
    picture_of: Callable[[str], tuple[bytes, str] | None]  # a reference for pages, by name: a file, and its media type
    cameras: Cameras | None = None  # what follows drivers' faces
    health: Health = field(default_factory=Health)
    ice_servers: tuple[str, ...] | None = None  # that WebRTC may ask for this machine's addresses; None: no WebRTC


class HttpRefusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer with an HTTP status, a code and one sentence."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code = status, code


class LiveServer:
    """Routes of one server, and what they share."""

    def __init__(self, hub: Hub, services: Services, access: AccessRules, token: str | None = None) -> None:
        self._hub, self._services, self._access, self._token = hub, services, access, token
        self._num_connections = 0
        self._peers = None if services.ice_servers is None else Peers(hub.limits, services.ice_servers)

    def application(self) -> web.Application:
        """Ready to be run."""
        limits = self._hub.limits
        app = web.Application(middlewares=[self._guard], client_max_size=limits.picture_bytes)
        app.router.add_get("/", self._index)
        app.router.add_get("/view", self._view)
        app.router.add_get("/static/{name:.+}", self._static)
        app.router.add_get("/v1/info", self._info)
        app.router.add_get("/v1/session", self._session)
        app.router.add_post("/v1/whep", self._peer)
        app.router.add_delete("/v1/whep/{name}", self._end_peer)
        app.router.add_post("/v1/references", self._reference)
        app.router.add_get("/v1/references/{name}", self._portrait)
        app.router.add_get("/v1/sessions/{id}/recording", self._recording)
        app.add_routes(self._services.health.routes(self._hub))
        app.cleanup_ctx.append(self._running)
        app.on_shutdown.append(self._shut_down)
        return app

    async def _running(self, _: web.Application) -> AsyncIterator[None]:
        tick = asyncio.create_task(self._hub.run())
        yield
        tick.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tick

    async def _shut_down(self, _: web.Application) -> None:
        """Before connections are closed, so that clients are told why."""
        await self._hub.close()
        if self._peers is not None:
            await self._peers.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_sender(request)
            response = await handler(request)
        except HttpRefusal as refusal:
            error = {"error": {"code": refusal.code, "message": str(refusal)}}
            response = web.json_response(error, status=refusal.status)
        except web.HTTPException as problem:
            error = {"error": {"code": "http", "message": problem.reason}}
            response = web.json_response(error, status=problem.status)
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    def _check_sender(self, request: web.Request) -> None:
        host = request.headers.get("Host")
        origins = request.headers.getall("Origin", [])
        if (wrong := self._access.wrong_host(host) or self._access.wrong_origin(origins, host or "")) is not None:
            raise HttpRefusal(403, "wrong_origin", wrong)
        if request.query_string and request.path.startswith("/v1/"):
            raise HttpRefusal(400, "query", "got a query, where secrets would end in logs; send none")

    async def _index(self, _: web.Request) -> web.StreamResponse:
        return await self._file("index.html")

    async def _view(self, _: web.Request) -> web.StreamResponse:
        return await self._file("view.html")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request.match_info["name"])

    async def _file(self, name: str) -> web.StreamResponse:
        found = await asyncio.to_thread(page_file, name)
        if found is None:
            raise HttpRefusal(404, "not_found", "there is no such page")
        return web.Response(body=found.body, content_type=found.kind, charset="utf-8")

    async def _info(self, _: web.Request) -> web.Response:
        hub = self._hub
        return web.json_response({
            "version": VERSION, "token_needed": self._token is not None, "webrtc": self._peers is not None,
            "sessions": hub.num_sessions,
            "max_sessions": hub.limits.max_sessions, **self._services.about(),
        })  # fmt: skip

    async def _session(self, request: web.Request) -> web.StreamResponse:
        self._check_room()
        self._num_connections += 1
        try:
            return await serve_websocket(self._connection(), request, self._hub.limits)
        finally:
            self._num_connections -= 1

    def _check_room(self) -> None:
        if self._num_connections + len(self._peers or ()) >= self._hub.limits.max_connections:
            raise HttpRefusal(503, "server_full", "there are too many connections; come back later")

    def _connection(self) -> Connection:
        return Connection(self._hub, self._token, self._services.cameras)

    async def _peer(self, request: web.Request) -> web.Response:
        """WHEP: an offer's answer. Without a data channel in it, a session's view token shows that session."""
        if self._peers is None:
            raise HttpRefusal(
                404, "no_webrtc", "this server offers no WebRTC; start it with --webrtc, or use the WebSocket"
            )
        bearer = _bearer(request)
        views = any(same_token(bearer, live.view_token) for live in self._hub.sessions.values())
        if self._token is not None and not (views or self._knows(bearer)):
            raise HttpRefusal(401, "unauthorized", "the token is missing, or opens nothing here")
        self._check_room()
        offer = await self._offer(request)
        first = said("session.view", view_token=bearer) if views and "\nm=application" not in offer else None
        try:
            name, answer = await self._peers.open(self._connection(), offer, first, request.remote)
        except OfferError as problem:
            raise HttpRefusal(422, "bad_offer", str(problem)) from None
        return web.Response(status=201, text=answer, content_type=_SDP, headers={"Location": f"/v1/whep/{name}"})

    async def _offer(self, request: web.Request) -> str:
        if request.content_type != _SDP:
            raise HttpRefusal(415, "bad_offer", f"got {request.content_type!r:.80}, wanted an offer as {_SDP}")
        if (request.content_length or MOST_OFFER + 1) > MOST_OFFER:
            raise HttpRefusal(413, "too_large", f"wanted an offer of at most {MOST_OFFER} bytes, and its length")
        try:
            return (await asyncio.wait_for(request.read(), _UPLOAD_SECONDS)).decode()
        except (asyncio.TimeoutError, UnicodeDecodeError):
            raise HttpRefusal(400, "bad_offer", "the offer did not come in time, or is no text") from None

    async def _end_peer(self, request: web.Request) -> web.Response:
        if self._peers is None or not self._peers.delete(request.match_info["name"]):
            raise HttpRefusal(404, "not_found", "there is no such connection")
        return web.Response()

    async def _reference(self, request: web.Request) -> web.Response:
        if self._token is not None and not self._knows(_bearer(request)):
            raise HttpRefusal(401, "unauthorized", "the token is missing or is not this server's")
        most = self._hub.limits.picture_bytes
        try:
            data = await asyncio.wait_for(request.read(), _UPLOAD_SECONDS)
            points = request.headers.get(POINTS, "")
            taken = await asyncio.to_thread(self._services.add_reference, data, points)
        except web.HTTPRequestEntityTooLarge:
            raise HttpRefusal(413, "too_large", f"got a picture of more than {most} bytes; make it smaller") from None
        except asyncio.TimeoutError:
            raise HttpRefusal(408, "too_slow", f"the picture did not come in {_UPLOAD_SECONDS:.0f} seconds") from None
        except NoFaceError as problem:
            raise HttpRefusal(422, "no_face", str(problem)) from None
        except ValueError as problem:
            raise HttpRefusal(422, "bad_picture", str(problem)) from None
        return web.json_response({"reference": taken.name} | ({"face": taken.face} if taken.face else {}))

    async def _portrait(self, request: web.Request) -> web.Response:
        name = request.match_info["name"].removesuffix(".png")
        found = await asyncio.to_thread(self._services.picture_of, name)
        if found is None:
            raise HttpRefusal(404, "not_found", "there is no such portrait")
        return web.Response(body=found[0], content_type=found[1])

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        path = self._hub.recording(request.match_info["id"], _bearer(request))
        if path is None:
            raise HttpRefusal(404, "not_found", "there is no such recording, or the token is not its session's")
        headers = {"Content-Disposition": 'attachment; filename="knot-live.mp4"', "Cache-Control": "no-store"}
        return web.FileResponse(path, headers=headers)

    def _knows(self, token: str | None) -> bool:
        """The server's own token, or that of a session which runs."""
        return same_token(token, self._token) or any(
            same_token(token, live.resume_token) for live in self._hub.sessions.values()
        )


def _bearer(request: web.Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


@dataclass(frozen=True, kw_only=True)
class Address:
    """An address to listen on; `tls`: certificate and key."""

    host: str = "127.0.0.1"
    port: int = 8765
    tls: tuple[Path, Path] | None = None

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{'http' if self.tls is None else 'https'}://{name}:{self.port}"


@contextlib.asynccontextmanager
async def running(server: LiveServer, address: Address, token: str | None = None) -> AsyncIterator[Address]:
    """The server while it listens; port 0 becomes the one that it got.

    Raises:
        AccessError: others reach that address, and there is no token.
        OSError: the port is taken, or the certificate cannot be read.
    """
    check_exposure(address.host, token)
    context = None
    if address.tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*address.tls)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port, ssl_context=context)
        await site.start()
        yield Address(host=address.host, port=runner.addresses[0][1], tls=address.tls)
    finally:
        await runner.cleanup()
