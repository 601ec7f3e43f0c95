"""A client that plays by its clock and decodes nothing: a light stand-in for a person at the page."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..client import ConnectionLost, LiveError, connect
from ..pacing import Playback

_ACKNOWLEDGE = 0.08  # seconds between two acknowledgements, as the page's
_STARTS = 0.05  # seconds from the first pictures to the first that is shown, as on the page
_WAITS = (0.1, 0.2, 0.4, 0.8, 1.0)  # seconds before each attempt to come back, the last one again and again
_LEAVES = 10.0  # seconds in which its session must end
_SHORTEST_STALL = 0.02  # seconds: half a frame
_COMES_BACK = 30.0  # seconds in which it tries


@dataclass
class Arrival:
    """Pictures that came."""

    at: float  # monotonic seconds
    epoch: int
    chunk: int
    first_frame: int
    end: int


@dataclass
class Seen:
    """A viewer's record of what was shown."""

    pieces: list[Arrival] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)  # seconds that each chunk took
    transport: list[float] = field(default_factory=list)  # seconds from each chunk's drawing until it was here
    ways: list[float] = field(default_factory=list)  # seconds from the encoding of each chunk's first pictures on
    outages: list[float] = field(default_factory=list)  # seconds from a lost connection to the next pictures
    stalls: list[float] = field(default_factory=list)  # seconds in which nothing new was shown
    missing: int = 0  # frames that never came
    ended: str = ""  # why it was over before the viewer left
    refused: str = ""  # why it never began


class Viewer:
    """One session. `greedy`: what comes is acknowledged at once, so that it is drawn as fast as can be."""

    def __init__(self, url: str, *, greedy: bool = False, **wish: Any) -> None:
        self.url, self._greedy, self._wish = url, greedy, wish
        self.seen, self.created = Seen(), {}
        self._playback: Playback | None = None
        self._epoch, self._expected = 0, 0
        self._late = 0.0  # seconds by which the last acknowledgement was
        self._lost_at: float | None = None
        self._session: Any = None  # while it is connected
        self.leaving = False

    @property
    def ratio(self) -> float:
        """The share without stall of the time since the first picture; a session that was lost has stalled since."""
        return 0.0 if self._playback is None else self._running().ratio(time.monotonic())

    @property
    def shown(self) -> float:
        """Frames."""
        return 0.0 if self._playback is None else self._playback.position(time.monotonic()) - self._playback.begun

    @property
    def made(self) -> int:
        """Frames that came, from the stream's beginning on."""
        return 0 if self._playback is None else self._playback.made

    def forget(self) -> None:
        """Count from here on: what was before is no part of the measurement, unless it was all that there will be."""
        if self._playback is not None:
            now = time.monotonic()
            begun = self._playback.position(now)
            at = Playback.at(int(begun), self._playback.fps, inf)
            self._playback = at.with_made(self._playback.made, now)
        self.seen = Seen(ended=self.seen.ended, refused=self.seen.refused)

    async def run(self) -> None:
        """Until it leaves, or all is over; a lost connection is taken up again."""
        opening, fields = "session.create", {"video": "h264", "sound": "pcm16", **self._wish}
        while not self.leaving and not self.seen.ended:
            try:
                async with connect(self.url, opening=opening, **fields) as session:
                    self.created = session.created if not self.created else self.created
                    await self._watch(session)
            except ConnectionLost:
                pass
            except LiveError as problem:
                if not await self._may_try_again(problem):
                    return
            if self.leaving:
                return
            self._lost_at = self._lost_at or time.monotonic()
            secrets = {name: self.created[name] for name in ("session_id", "resume_token")}
            last = -1 if self._playback is None else int(self._playback.position(time.monotonic())) - 1
            opening, fields = "session.resume", {"video": "h264", "sound": "pcm16", **secrets, "last_frame": last}

    async def leave(self) -> None:
        """Finish the session."""
        self.leaving = True
        if self._session is not None:
            with contextlib.suppress(ConnectionError, LiveError):
                await self._session.send("session.finish")

    async def lose(self) -> None:
        """The connection ends, as one that breaks; it comes back."""
        if self._session is not None:
            await self._session.close()

    async def _may_try_again(self, problem: LiveError) -> bool:
        """After a refusal: whether the server may only be on its way back."""
        if not self.created:
            self.seen.refused = f"{problem.code}: {problem}"
            return False
        self._lost_at = self._lost_at or time.monotonic()
        away = time.monotonic() - self._lost_at
        if problem.code not in ("unreachable", "connection_lost", "timeout", "refused") or away > _COMES_BACK:
            self.seen.ended = f"lost after {away:.1f} s: {problem}"
            return False
        await asyncio.sleep(next((wait for wait in _WAITS if away < 5 * wait), _WAITS[-1]))
        return True

    async def _watch(self, session: Any) -> None:
        playing, self._session = asyncio.create_task(self._play(session)), session
        try:
            async for message in session:
                if isinstance(message, dict):
                    await self._heed(session, message)
        finally:
            self._session = None
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await playing

    async def _heed(self, session: Any, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "video.chunk_metadata":
            self._take(message, time.monotonic())
            if self._greedy:
                await session.acknowledge(self._epoch, self._playback.made - 1)
        elif kind == "output_audio_buffer.cleared" and self._playback is not None:
            self._expected = min(self._expected, message["first_frame"])
        elif kind == "session.ended" and not self.leaving:
            self.seen.ended = message["message"]

    def _take(self, about: dict[str, Any], now: float) -> None:
        """Pictures are here."""
        first, end, seen = about["first_frame"], about["first_frame"] + about["frames"], self.seen
        if self._playback is None:
            self._playback, self._expected = Playback.at(first, self.created["fps"], inf), first
            self._playback = self._playback.with_made(first, now + _STARTS)
        begins_chunk = not seen.pieces or (about["epoch"], about["chunk"]) != (
            seen.pieces[-1].epoch,
            seen.pieces[-1].chunk,
        )
        if begins_chunk:
            seen.drawn.append(about["seconds"].get("chunk", 0.0))
            seen.ways.append(now - about["ready"])
            unplayed = self._running().unplayed(now)
            if unplayed > 0 and not self._greedy:
                seen.transport.append(about["buffer"] - unplayed - self._late)
        stall = -self._in_hand(now)
        if stall > _SHORTEST_STALL:
            seen.stalls.append(stall)
        seen.missing += max(0, first - self._expected)
        self._expected = max(self._expected, end) if about["epoch"] == self._epoch else end
        self._epoch = about["epoch"]
        self._playback = self._playback.with_made(max(end, self._playback.made), now)
        seen.pieces.append(Arrival(now, about["epoch"], about["chunk"], first, end))
        if self._lost_at is not None:
            seen.outages.append(now - self._lost_at)
            self._lost_at = None

    def _in_hand(self, now: float) -> float:
        """Seconds until the pictures run out; below 0: since they did."""
        playback = self._playback
        return (playback.made - playback.shown) / playback.fps - (now - playback.since)

    def _running(self) -> Playback:
        """With the time since it ran dry counted as a stall."""
        return self._playback.with_made(self._playback.made, time.monotonic())

    async def _play(self, session: Any) -> None:
        """Acknowledge the newest picture that is shown by now."""
        told = -1
        while True:
            await asyncio.sleep(_ACKNOWLEDGE)
            if self._playback is None or self._greedy:
                continue
            position = self._playback.position(time.monotonic())
            frame = int(position) - 1
            if frame > told or (frame >= 0 and self._lost_at is not None):
                told = frame
                self._late = (position - int(position)) / self._playback.fps
                await session.acknowledge(self._epoch, frame)


@contextlib.asynccontextmanager
async def watching(viewers: list[Viewer]) -> AsyncIterator[None]:
    """They run meanwhile, and finish their sessions in the end."""
    tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
    try:
        yield
    finally:
        await asyncio.gather(*(viewer.leave() for viewer in viewers))
        _, left = await asyncio.wait(tasks, timeout=_LEAVES)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_see(viewers: list[Viewer], seconds: float = 60.0) -> None:
    """Until each has its first pictures, or was refused.

    Raises:
        LiveError: that takes longer.
    """
    until = time.monotonic() + seconds
    while not all(viewer.seen.pieces or viewer.seen.refused or viewer.seen.ended for viewer in viewers):
        if time.monotonic() > until:
            raise LiveError("timeout", f"not every session has begun in {seconds:.0f} seconds")
        await asyncio.sleep(0.05)
