"""A queued live session and the client that drives it, as clients/live.py does it."""

import json
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import websocket

from .comfyui import RUN_LIMIT, Server
from .following import Following

EVENT = "knot_forcing.live_session"
ROUTE = "/knot_forcing/live/session"
LIVE = "KnotForcingLive"
Json = dict[str, Any]
VIDEO, SOUND = 1, 2


def attaching(begun: Json, **fields: Any) -> Json:
    """The first message of a connection to the session that was told of."""
    return {"type": "session.attach", "session": begun["session"], "token": begun["token"], **fields}


def connect(
    server: Server, first: Json, path: str = ROUTE, *, host: str | None = None, origin: str | None = None
) -> websocket.WebSocket:
    url = f"ws://127.0.0.1:{server.port}{path}"
    given = {"host": host, "suppress_origin": True} if origin is None else {"origin": origin}
    socket = websocket.create_connection(url, timeout=30, **given)
    socket.send(json.dumps(first))
    return socket


class Driving(Following):
    """`with Driving(server, prompt) as session:` queues it; `session.attach()` drives it."""

    EVENT = EVENT

    def attach(self) -> Json:
        """session.created, once the node has begun."""
        self.begun = self.until(lambda data: data.get("begun"))
        return self.attach_late()

    def attach_late(self) -> Json:
        """session.created, where something was told of it already."""
        self.begun = self.live[0]
        self.socket = connect(self.server, attaching(self.begun))
        self.said: list[Json] = []
        self.frames, self.samples, self.epoch = 0, 0, 0
        return self.hear("session.created")

    def __exit__(self, *error: Any) -> None:
        if hasattr(self, "socket"):
            self.socket.close()
        super().__exit__(*error)

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def hear(self, kind: str, wanted: Callable[[Json], Any] = lambda _: True) -> Json:
        """The next message of that kind that is wanted; pictures are acknowledged as they come."""
        deadline = time.monotonic() + RUN_LIMIT
        while time.monotonic() < deadline:
            message = self.socket.recv()
            assert message, "the connection ended"
            if isinstance(message, bytes):
                self._see(message)
                continue
            self.said.append(json.loads(message))
            if self.said[-1]["type"] == kind and wanted(self.said[-1]):
                return self.said[-1]
        raise TimeoutError(f"no {kind} came: {[one['type'] for one in self.said]}")

    def _see(self, message: bytes) -> None:
        kind, _, self.epoch, _, position = struct.unpack_from("<BBHIQ", message)
        if kind == VIDEO:
            self.frames = position + 1
            # the session may have ended, and what it said is still to be read
            with suppress(ConnectionError, websocket.WebSocketException):
                self.send("playback.ack", epoch=self.epoch, frame=position)
        elif kind == SOUND:
            self.samples += (len(message) - 16) // 2

    def chunks(self, count: int) -> Json:
        """After so many more of them."""
        for _ in range(count):
            newest = self.hear("video.chunk_metadata")
        return newest
