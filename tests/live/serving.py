"""A live server on loopback whose sessions draw nothing: their pictures say which frame they are."""

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from knot_live import controls
from knot_live.access import AccessRules
from knot_live.events import Applied, Cut, Ended, MediaChunk, Refused, StateChanged
from knot_live.hub import Hub
from knot_live.limits import Limits
from knot_live.messages import Vocabulary, unpack
from knot_live.references import Uploaded
from knot_live.server import Address, LiveServer, Services, running
from knot_live.sources import Made

SIZE, FPS, FRAMES = 32, 25, 12
SAMPLES = 24_000 // FPS
WORDS = Vocabulary(controls={"yaw": (-1.0, 1.0), "blink": (0.0, 1.0)}, gestures=("nod",))


class PlainSession:
    """What a hub needs of a session, at most `ahead` frames before what was acknowledged."""

    def __init__(self, *, ahead=2 * FRAMES, fails=None) -> None:
        self.wishes, self.acknowledged, self.listener = [], [], lambda _: None
        self._ahead, self._fails, self._changed = ahead, fails, threading.Condition()
        self._number, self._shown, self._epoch, self._new, self._cut = 0, -1, 0, [], None
        self.paused = self._finished = False

    def listen(self, listener) -> None:
        self.listener = listener

    def apply(self, control) -> int:
        with self._changed:
            self._number += 1
            if isinstance(control, controls.Settings):
                self.listener(Refused(self._number, "no setting may change"))
                return self._number
            self.wishes.append(control)
            self._new.append(self._number)
            self.paused = isinstance(control, controls.Pause) or (
                self.paused and not isinstance(control, controls.GoOn)
            )
            self._finished = self._finished or isinstance(control, controls.Finish)
            if isinstance(control, controls.Cancel):
                self._cut = control.played_frame + 1
            self._changed.notify_all()
            return self._number

    def acknowledge(self, epoch, frame, transport=None) -> None:  # noqa: ARG002
        with self._changed:
            self.acknowledged.append((epoch, frame))
            self._shown = max(self._shown, frame)
            self._changed.notify_all()

    def chunks(self):
        first, chunk = 0, 0
        self.listener(StateChanged("running"))
        while True:
            with self._changed:
                self._changed.wait_for(lambda first=first: self._finished or self._cut is not None or (
                    not self.paused and first - self._shown <= self._ahead))  # fmt: skip
                if self._finished:
                    break
                new, self._new = self._new, []
                if self._cut is not None:
                    first, self._cut, self._epoch = self._cut, None, self._epoch + 1
                    self.listener(Cut(self._epoch, first))
            if self._fails is not None and chunk >= self._fails:
                raise RuntimeError("the device is gone")
            for number in new:
                self.listener(Applied(number, chunk, first))
            yield MediaChunk(
                epoch=self._epoch, chunk=chunk, first_frame=first, frames=pictures(first), sound=tone(first),
                applied=tuple(new), seconds={"chunk": 0.01}, buffer=0.5,
            )  # fmt: skip
            first, chunk = first + FRAMES, chunk + 1
        self.listener(Ended("finished", "the session was finished"))


def pictures(first):
    """uint8 [T, H, W, 3], each as bright as its number says."""
    return np.stack(
        [np.full((SIZE, SIZE, 3), (4 * frame) % 200 + 20, np.uint8) for frame in range(first, first + FRAMES)]
    )


def tone(first):
    return np.sin(np.arange(first * SAMPLES, (first + FRAMES) * SAMPLES) / 9).astype(np.float32) / 2


@dataclass
class Served:
    """A running server, and what it made."""

    url: str
    hub: Hub
    sessions: list = field(default_factory=list)
    pictures: list = field(default_factory=list)  # bytes that were sent as references


@contextlib.asynccontextmanager
async def served(*, token=None, make=PlainSession, services=None, observer=None, **limits):
    """A server with these limits; `make` a session."""
    found = Served("", None)

    def studio(_):
        session = make()
        found.sessions.append(session)
        about = {"fps": FPS, "size": [SIZE, SIZE]}
        return Made(session=session, width=SIZE, height=SIZE, fps=FPS, words=WORDS, about=about, listen=session.listen)

    def add(data, points):
        found.pictures.append(data)
        return Uploaded(name=f"upload:{len(found.pictures)}", face=f"found at {points}" if points else "")

    found.hub = Hub(studio, Limits(**limits), observer=observer)
    services = services or Services(about=dict, add_reference=add, picture_of=lambda _: None)
    server = LiveServer(found.hub, services, AccessRules(listens=("127.0.0.1",), server="server"), token)
    async with running(server, Address(port=0), token) as at:
        found.url = at.url
        yield found


class Wire:
    """A client that says exactly what a test tells it to."""

    def __init__(self, socket) -> None:
        self.socket, self.seen = socket, []  # text messages as dicts, binary ones as (header, payload)

    async def say(self, kind, **fields):
        await self.socket.send_str(json.dumps({"type": kind} | fields))

    async def next(self, seconds=10.0):
        """The next message; None when the connection has ended."""
        message = await self.socket.receive(timeout=seconds)
        if message.type is aiohttp.WSMsgType.TEXT:
            found = json.loads(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            header, payload = unpack(message.data)
            found = header, bytes(payload)
        else:
            return None
        self.seen.append(found)
        return found

    async def until(self, kind, seconds=10.0, **fields):
        """The next text message of that type with those fields; an AssertionError if the connection ends before."""

        async def look():
            while (found := await self.next(seconds)) is not None:
                if isinstance(found, dict) and found["type"] == kind and fields.items() <= found.items():
                    return found
            raise AssertionError(f"the connection ended without {kind}; seen: {self.texts()[-5:]}")

        return await asyncio.wait_for(look(), seconds)

    async def chunks(self, count, *, acknowledge=True):
        """Metadata of the next ones."""
        found = []
        for _ in range(count):
            found.append(await self.until("video.chunk_metadata"))
            if acknowledge:
                last = found[-1]["first_frame"] + found[-1]["frames"] - 1
                await self.say("playback.ack", epoch=found[-1]["epoch"], frame=last)
        return found

    async def end(self, seconds=10.0):
        """Read until the connection ends; its last text message."""

        async def read():
            while await self.next(seconds) is not None:
                pass

        await asyncio.wait_for(read(), seconds)
        return (self.texts() or [None])[-1]

    def texts(self):
        return [one for one in self.seen if isinstance(one, dict)]

    def media(self, kind):
        return [one for one in self.seen if not isinstance(one, dict) and one[0].kind == kind]


@contextlib.asynccontextmanager
async def wire(url, kind=None, *, headers=None, **fields):
    """A connection, opened with that message if there is one."""
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/v1/session", headers=headers) as socket:
        found = Wire(socket)
        if kind is not None:
            await found.say(kind, **fields)
        yield found
