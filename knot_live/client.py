"""A client of the live server: the same protocol, for programs. See docs/live.md.

    async with connect("http://127.0.0.1:8765", reference="builtin:ada") as session:
        await session.say("Good morning.")
        async for message in session:
            ...

Shapes: S samples.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from .messages import CAMERA, POINTS, SPEECH, Header, said, unpack

_ANSWER_SECONDS = 60.0  # in which a session must be made: another reference may have to be encoded first
_HEARTBEAT = 15.0

logger = logging.getLogger(__name__)


class LiveError(Exception):
    """The server refused something: its code, and its sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class ConnectionLost(LiveError):  # noqa: N818 - what happened, not whose fault it is
    """The connection ended before the session did; `resume` goes on with it."""

    def __init__(self) -> None:
        super().__init__("connection_lost", "the connection to the server was lost")


@dataclass(frozen=True)
class Media:
    """A binary message."""

    header: Header
    payload: bytes


class ClientSession:
    """A session as its driver, or a viewer, sees it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, created: Mapping[str, Any]) -> None:
        self.created = created
        self.ended: Mapping[str, Any] | None = None  # session.ended, once it came
        self._socket, self._numbers, self._left = socket, itertools.count(1), False

    async def send(self, kind: str, **fields: Any) -> str:
        """A text message; its event id, which comes back with what answers it."""
        event_id = f"event_{next(self._numbers)}"
        await self._socket.send_str(said(kind, event_id=event_id, **fields))
        return event_id

    async def interact(self, **fields: Any) -> str:
        """Controls, a pose, a gesture, a look or a prompt: `session.interaction`."""
        return await self.send("session.interaction", **fields)

    async def say(self, text: str, voice: str = "") -> str:
        """Have a sentence spoken."""
        return await self.send("session.say", text=text, voice=voice)

    async def speak(self, samples: np.ndarray) -> None:
        """Speech, int16 or float [S] in -1..1, at the rate that was announced."""
        if samples.dtype != np.int16:
            samples = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        await self._binary(SPEECH, samples.astype("<i2").tobytes())

    async def show(self, jpeg: bytes) -> None:
        """A picture of the driver's face, which the portrait's pose follows."""
        await self._binary(CAMERA, jpeg)

    async def acknowledge(self, epoch: int, frame: int, transport: float | None = None) -> None:
        """That frame was shown; without it the session draws at most a chunk ahead.

        `transport`: seconds that a message takes there and back, and a picture to be decoded, where that is known.
        """
        measured = {} if transport is None else {"transport": transport}
        await self._socket.send_str(said("playback.ack", epoch=epoch, frame=frame, **measured))

    async def close(self) -> None:
        """Leave; the session goes on for a while, for whoever resumes it."""
        self._left = True
        await self._socket.close()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any] | Media]:
        """The server's messages, texts as dicts, until the session has ended.

        Raises:
            ConnectionLost: the connection ended first.
        """
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                header, payload = unpack(message.data)
                yield Media(header, bytes(payload))
            elif message.type is aiohttp.WSMsgType.TEXT:
                found = json.loads(message.data)
                if found["type"] == "session.ended":
                    self.ended = found
                yield found
        if self.ended is None and not self._left:
            raise ConnectionLost

    async def _binary(self, kind: int, payload: bytes) -> None:
        now = time.monotonic_ns() // 1000
        await self._socket.send_bytes(Header(kind, index=next(self._numbers), position=now).pack() + payload)


@contextlib.asynccontextmanager
async def connect(url: str, *, opening: str = "session.create", **fields: Any) -> AsyncIterator[ClientSession]:
    """A session of the server at `url`: a new one, or with `opening` session.resume, .view or .attach another.

    `fields` are those of the opening message. Leaving ends the connection, not the session.

    Raises:
        LiveError: the server cannot be reached, or refuses.
    """
    async with aiohttp.ClientSession() as http:
        try:
            socket = await http.ws_connect(f"{url.rstrip('/')}/v1/session", heartbeat=_HEARTBEAT, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as problem:
            raise LiveError("refused", f"{url} does not open a session (HTTP {problem.status})") from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise LiveError("unreachable", f"{url} cannot be reached ({problem}); is the server running?") from problem
        async with socket:
            await socket.send_str(said(opening, **fields))
            yield ClientSession(socket, await _created(socket))


async def _created(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    try:
        message = await socket.receive(timeout=_ANSWER_SECONDS)
    except asyncio.TimeoutError:
        raise LiveError("timeout", f"the server made no session in {_ANSWER_SECONDS:.0f} seconds") from None
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise ConnectionLost
    found = json.loads(message.data)
    if found["type"] == "error":
        raise LiveError(found["code"], found["message"])
    return found


async def upload(url: str, picture: bytes, token: str | None = None, points: str = "") -> str:
    """Send a picture as a reference; its name. What its face was found by is logged.

    `points`, "x,y x,y x,y": its eyes and its mouth in pixels, where the server's model aligns faces and finds none.

    Raises:
        LiveError: the server cannot be reached, or refuses the picture.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers |= {POINTS: points} if points else {}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url.rstrip('/')}/v1/references", data=picture, headers=headers) as answer,
        ):
            found = await answer.json()
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        raise LiveError("unreachable", f"{url} cannot be reached ({problem}); is the server running?") from problem
    if "error" in found:
        raise LiveError(found["error"]["code"], found["error"]["message"])
    if "face" in found:
        logger.info("%s", found["face"])
    return found["reference"]
