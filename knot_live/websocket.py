"""A WebSocket as what a `Connection` goes over."""

import asyncio
import contextlib

from aiohttp import WSCloseCode, WSMsgType, web

from .connection import Connection
from .limits import Limits

_CLOSED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_ENDING = 5.0  # seconds in which the end must be answered


class WebSocket:
    """A connection whose client plays, and says what it has shown."""

    plays = None
    played_frame = None

    def __init__(self, request: web.Request, limits: Limits) -> None:
        self._request = request
        self.response = web.WebSocketResponse(
            heartbeat=limits.heartbeat_seconds, max_msg_size=limits.max_message_bytes, compress=False
        )

    def begin(self, fps: int, rate: int, *, drives: bool) -> None:
        """Nothing is to be done: what comes is sound already, and what goes is played by the client."""

    async def receive(self, seconds: float | None = None) -> str | bytes | None:
        """The next message; None once it has ended."""
        message = await self.response.receive(timeout=seconds)
        return None if message.type in _CLOSED else message.data

    async def send(self, message: str | bytes) -> None:
        """As text or as bytes."""
        if isinstance(message, str):
            await self.response.send_str(message)
        else:
            await self.response.send_bytes(message)

    async def close(self) -> None:
        """With what was sent."""
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(self.response.close(code=WSCloseCode.OK), _ENDING)

    def abort(self) -> None:
        """End it at once; a client that does not read would never see a proper end."""
        if self._request.transport is not None:
            self._request.transport.abort()


async def serve_websocket(connection: Connection, request: web.Request, limits: Limits) -> web.WebSocketResponse:
    """The connection over this request's WebSocket, until it is closed."""
    socket = WebSocket(request, limits)
    await socket.response.prepare(request)
    await connection.serve(socket)
    return socket.response
