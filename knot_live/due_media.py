"""Media that leave when their time has come: a player for those whom packets of a network are sent to.

Times are in seconds: those of the stream begin with frame 0, the others are monotonic.
"""

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from .messages import H264, KEY_FRAME, OPUS, unpack
from .sound_bytes import SOUND_RATE

_BEGINS_AFTER = 0.06  # seconds from the first picture's coming until it leaves: the next one's may be late by so much
_MOST_HELD = 4.0  # seconds of what waits to be played, for a viewer whom nobody paces


class MediaPiece(NamedTuple):
    """A picture, or a packet of sound, and where it lies in the stream."""

    seconds: float
    epoch: int
    number: int  # of the picture
    key: bool
    data: bytes


@dataclass(eq=False)
class Playing:
    """Media that leave when they are due, by one clock for pictures and sound."""

    fps: int = 25
    begins: float | None = None  # monotonic seconds at which the stream's second 0 would have left
    origin: float = 0.0  # monotonic seconds: 0 of RTP's clocks
    frame: int = -1  # the last picture that has left
    held: dict[int, deque[MediaPiece]] = field(default_factory=lambda: {H264: deque(), OPUS: deque()})
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    cut: tuple[int, float] = (0, math.inf)  # an epoch, and the second from which on older ones are left out

    def put(self, message: bytes) -> None:
        """A binary message of the protocol."""
        header, payload = unpack(message)
        if header.kind not in self.held:
            return
        seconds = header.position / (self.fps if header.kind == H264 else SOUND_RATE)
        epoch, since = self.cut
        if header.epoch != epoch % 2**16 and seconds >= since:
            return  # it was on its way when the stream was cut
        pieces = self.held[header.kind]
        key = bool(header.flags & KEY_FRAME)
        pieces.append(MediaPiece(seconds, header.epoch, header.position, key, bytes(payload)))
        if pieces[-1].seconds - pieces[0].seconds > _MOST_HELD:
            self._skip()
        self.changed.set()

    def cut_from(self, epoch: int, frame: int) -> None:
        """Nothing of what is held is shown from that frame on."""
        self.cut = epoch, frame / self.fps
        for kind, pieces in self.held.items():
            self.held[kind] = deque(piece for piece in pieces if piece.seconds < frame / self.fps)
        self.changed.set()

    def _skip(self) -> None:
        """On to the newest key frame: whoever watches is too far behind."""
        newest = max((piece.seconds for piece in self.held[H264] if piece.key), default=None)
        if newest is not None:
            for kind, pieces in self.held.items():
                self.held[kind] = deque(piece for piece in pieces if piece.seconds >= newest)
            self.begins = time.monotonic() - newest

    async def next(self, kind: int) -> tuple[MediaPiece, float]:
        """The next one of that kind when its time has come, and that time in seconds of RTP's clocks."""
        while True:
            pieces, now = self.held[kind], time.monotonic()
            if self.begins is None and pieces:
                self.begins = now + _BEGINS_AFTER - pieces[0].seconds
                self.origin = now
            wait = self.begins + pieces[0].seconds - now if pieces else None
            if wait is not None and wait <= 0:
                break
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), wait)
            except asyncio.TimeoutError:
                continue
        piece = pieces.popleft()
        if kind == H264:
            if wait < -1 / self.fps and piece.number > self.frame:
                self.begins -= wait  # pictures ran out: all that follows leaves later
            self.frame = max(self.frame, piece.number)
        return piece, self.begins + piece.seconds - self.origin

    async def played(self) -> None:
        """Until nothing is held."""
        while any(self.held.values()):
            await asyncio.sleep(0.02)
