"""A client's connection: its first message, its later ones under limits, and what it is sent, whatever carries it."""

import asyncio
import contextlib
import logging
import time
from typing import Protocol

from . import controls
from .access import same_token
from .camera import Cameras
from .hub import Hub
from .json_logs import SESSION
from .limits import Limits, RateLimit
from .live_session import Client, LiveSession
from .messages import Acknowledge, Attach, CameraPicture, Create, Ping, Received, RecentreCamera, Resume, View, said
from .outbox import Outbox
from .protocol import ProtocolError, parse, parse_binary, parse_opening

logger = logging.getLogger(__name__)

_ENDING = 5.0  # seconds in which the last messages must be taken
_ONES_OWN_FAULT = {"too_fast", "not_created"}  # after these the connection ends; after others it goes on


class Transport(Protocol):
    """The carrier of a connection's messages: a WebSocket, or a peer connection of WebRTC.

    A transport that `plays` does what a client does on a WebSocket: pictures and sound, in the formats that it names,
    leave when their time has come, and count as shown then. `played_frame` is the last one.
    """

    plays: tuple[str, str] | None
    played_frame: int | None

    def begin(self, fps: int, rate: int, *, drives: bool) -> None:
        """A session is there: its frame rate, and the sample rate of the speech that is to come."""

    async def receive(self, seconds: float | None = None) -> str | bytes | None:
        """The next message; None once it has ended; a TimeoutError if none comes in time."""

    async def send(self, message: str | bytes) -> None: ...

    async def close(self) -> None:
        """With what was sent."""

    def abort(self) -> None:
        """End it at once."""


class Connection:
    """A connection from its opening to its end."""

    def __init__(self, hub: Hub, token: str | None, cameras: Cameras | None) -> None:
        """`cameras`: what follows drivers' faces, where faces can be found here."""
        self._hub, self._token, self._cameras = hub, token, cameras
        self._limits: Limits = hub.limits
        limits = self._limits
        self._outbox = Outbox(limits.max_waiting_messages, limits.max_waiting_bytes)
        self._messages = RateLimit(limits.messages_per_second, 4 * limits.messages_per_second)
        self._bytes = RateLimit(limits.bytes_per_second, 8 * limits.bytes_per_second)
        self._live: LiveSession | None = None
        self._client: Client | None = None

    async def serve(self, transport: Transport) -> None:
        """Until it is closed."""
        self._transport = transport
        writer = asyncio.create_task(self._write())
        try:
            if await self._open():
                await self._read()
        finally:
            if self._live is not None:
                self._live.leave(self._client)
            self._outbox.close()
            done, _ = await asyncio.wait([writer], timeout=_ENDING)
            if not done:
                writer.cancel()
                transport.abort()
            await transport.close()

    async def _open(self) -> bool:
        """Take the first message; whether the client has a session now."""
        try:
            message = await self._transport.receive(self._limits.opening_seconds)
        except asyncio.TimeoutError:
            self._say("error", code="not_created", message="no first message came in time")
            return False
        if not isinstance(message, str):
            return False
        try:
            wish = parse_opening(message)
            live = await self._session(wish)
            SESSION.set(live.session_id)
            self._client = self._enter(live, wish)
        except ProtocolError as problem:
            self._hub.observer.refused(problem.code)
            self._refuse(problem)
            return False
        except Exception:
            logger.exception("a session cannot be made")
            self._say("error", code="internal", message="the session cannot be made; the server's log says why")
            return False
        self._live = live
        return True

    def _enter(self, live: LiveSession, wish: Create | Resume | View | Attach) -> Client:
        """Drive the session, or watch it."""
        drives, transport = not isinstance(wish, View), self._transport
        video, sound = transport.plays or (wish.video, wish.sound)
        client = Client(self._outbox, video, sound, drives, cut_off=transport.abort)
        if not drives:
            transport.begin(live.made.fps, 0, drives=False)
            live.watch(client)
            return client
        transport.begin(live.made.fps, wish.speech.rate, drives=True)
        told = isinstance(wish, Resume) and transport.plays is None  # what a transport plays, its client cannot count
        live.drive(client, wish.last_frame if told else live.acknowledged)
        live.words = live.words.with_speech(wish.speech)
        return client

    async def _session(self, wish: Create | Resume | View | Attach) -> LiveSession:
        if not isinstance(wish, Create):
            return self._hub.find(wish)
        if self._token is not None and not same_token(wish.token, self._token):
            raise ProtocolError("unauthorized", "the token is missing or is not this server's")
        return await self._hub.create(wish)

    async def _read(self) -> None:
        while True:
            message = await self._transport.receive()
            if message is None:
                return
            try:
                self._check_rate(len(message))
                self._take(message)
            except ProtocolError as problem:
                self._refuse(problem)
                if problem.code in _ONES_OWN_FAULT:
                    return

    def _check_rate(self, size: int) -> None:
        now = time.monotonic()
        if not (self._messages.take(1, now) and self._bytes.take(size, now)):
            limits = self._limits
            raise ProtocolError("too_fast", f"got more than {limits.messages_per_second:.0f} messages or "
                                f"{limits.bytes_per_second:.0f} bytes a second")  # fmt: skip

    def _take(self, data: str | bytes) -> None:
        words = self._live.words
        received = parse(data, words) if isinstance(data, str) else parse_binary(data, words)
        for request in received.requests:
            self._answer(received, request)

    def _answer(self, received: Received, request: object) -> None:
        if isinstance(request, Ping):
            self._say("pong", event_id=received.event_id)
        elif not self._client.drives or self._live.driver is not self._client:
            raise ProtocolError("read_only", "a viewer only watches", received.event_id)
        elif isinstance(request, Acknowledge):
            self._live.acknowledge(request.epoch, request.frame, request.transport)
        elif isinstance(request, controls.Cancel) and self._transport.plays is not None:
            self._live.wish(self._client, received.event_id, controls.Cancel(self._transport.played_frame))
        elif isinstance(request, CameraPicture | RecentreCamera):
            self._see(request)
        else:
            self._live.wish(self._client, received.event_id, request)

    def _see(self, request: CameraPicture | RecentreCamera) -> None:
        if self._cameras is None:
            raise ProtocolError("no_camera", "this server reads no faces: install the extra [pose]")
        if isinstance(request, CameraPicture):
            self._cameras.see(self._live.source, request.jpeg)
        else:
            self._cameras.recentre(self._live.source)

    def _refuse(self, problem: ProtocolError) -> None:
        self._say("error", code=problem.code, message=str(problem), event_id=problem.event_id)

    def _say(self, kind: str, **fields: object) -> None:
        if not self._outbox.put([said(kind, **fields)]):
            self._outbox.drop()

    async def _write(self) -> None:
        """Send what comes into the outbox; then close."""
        with contextlib.suppress(ConnectionError):
            while (message := await self._outbox.take()) is not None:
                await self._transport.send(message)
            await self._transport.close()
