"""When the next chunk is drawn, and where a stream is cut: functions of counts and times, without threads or clocks.

Frames are pixel frames, counted from the stream's beginning; seconds are those of one clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .engine import TEMPORAL, first_pixel_frame
from .sound_bytes import SOUND_RATE

TRANSPORT = 0.08  # seconds that encoding, sending and decoding may take, unless the viewer says what they do
_NEAREST, _FARTHEST = 0.04, 0.5  # seconds that are believed
_BESIDE = 0.03  # seconds of encoding, and until the screen shows what is decoded
PATIENCE = 0.5  # seconds for which a viewer is believed to play on without an acknowledgement
NUM_MEASURED = 32  # chunks whose times count


def first_sample(frame: int, fps: int) -> int:
    """The sample at which a pixel frame begins."""
    return round(frame * SOUND_RATE / fps)


def lead(taken: Sequence[float], length: float, transport: float = TRANSPORT) -> float:
    """Seconds of pictures that must lie ready when a chunk begins to be drawn, at most one chunk's `length`.

    A viewer who is nearer than `TRANSPORT` gets no less: what he gains is for chunks that take long now and then.
    """
    return min(length, drawn_within(taken, length) + max(TRANSPORT, transport))


def drawn_within(taken: Sequence[float], length: float) -> float:
    """Seconds that 95 in 100 chunks took at most; as long as nothing was measured, a chunk's `length`."""
    return sorted(taken)[math.ceil(0.95 * len(taken)) - 1] if taken else length


def usual(taken: Sequence[float]) -> float:
    """Seconds that half of the chunks take at most; 0 where fewer than two were measured."""
    return sorted(taken)[len(taken) // 2] if len(taken) > 1 else 0.0


def slowest(taken: Sequence[float]) -> float:
    """Seconds that a chunk takes where it is slow, but for the slowest one; 0 where fewer than two were measured."""
    return sorted(taken)[-2] if len(taken) > 1 else 0.0


@dataclass(frozen=True)
class Span:
    """A chunk that was made: pixel frames `first` to `end` - 1, from latent frame `start` on."""

    chunk: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.first

    @property
    def num_latents(self) -> int:
        return math.ceil(self.length / TEMPORAL)  # frame 0 covers one pixel frame

    def first_latents(self, count: int) -> "Span":
        """The span of its first latent frames; it ends where it begins with none of them."""
        return Span.of_latents(self.chunk, self.start, count)

    @classmethod
    def of_latents(cls, chunk: int, start: int, num_latents: int) -> "Span":
        """The span of a chunk of so many latent frames: frame 0 covers one pixel frame, each later one four."""
        return cls(chunk, start, first_pixel_frame(start), first_pixel_frame(start + num_latents))


def first_replaced(playback: "Playback", now: float) -> int:
    """The first frame that can still be replaced on its way to the viewer, who waits for it where pictures ran out."""
    return min(playback.made, math.ceil(playback.position(now) + playback.transport * playback.fps))


@dataclass(frozen=True, kw_only=True)
class Playback:
    """Frames that are made and frames that the viewer has shown; between two acknowledgements he goes on playing.

    `patience` is how many frames he is believed to go on without one: a viewer who is gone stands still soon, and with
    him the stream. Without a viewer it is infinite: the clock plays.
    """

    fps: int
    patience: float
    made: int = 0  # frames up to here
    begun: int = 0  # the frame at which this began
    acknowledged: float = 0.0  # frames up to here, by the viewer's own word
    shown: float = 0.0  # frames up to here, at the time `since`
    since: float | None = None  # None: it stands still
    stalled: float = 0.0  # seconds in which the viewer showed nothing new: he ran out, or was behind what was believed
    transport: float = TRANSPORT  # seconds from a picture's decoding here until the viewer can show it

    @classmethod
    def at(cls, frame: int, fps: int, patience: float) -> "Playback":
        """Nothing made yet, from that frame on."""
        return cls(fps=fps, patience=patience, made=frame, begun=frame, acknowledged=frame, shown=frame)

    def position(self, now: float) -> float:
        """Frames that have been shown."""
        return self.shown if self.since is None else min(self.acknowledged + self.patience, self._without_stall(now))

    def unplayed(self, now: float) -> float:
        """Seconds of pictures that are made and not shown."""
        return (self.made - self.position(now)) / self.fps

    def with_made(self, end: int, now: float) -> "Playback":
        """Frames up to `end` are made; after a cut that may be fewer than before."""
        begins_by_itself = self.since is None and math.isinf(self.patience)
        if begins_by_itself or self._dry(now):
            stalled = 0.0 if self.since is None else now - self.since - (self.made - self.shown) / self.fps
            return replace(self, made=end, shown=float(self.made), since=now, stalled=self.stalled + stalled)
        return replace(self, made=end, shown=min(self.shown, end))

    def with_transport(self, seconds: float) -> "Playback":
        """A message takes the viewer so long there and back, a picture's decoding included."""
        return replace(self, transport=min(max(_NEAREST, seconds + _BESIDE), _FARTHEST))

    def with_acknowledged(self, frame: int, now: float) -> "Playback":
        """The viewer has shown pixel frame `frame`."""
        shown = float(max(self.acknowledged, min(frame + 1, self.made)))
        if (self.since is None and shown <= self.shown) or (self._dry(now) and shown >= self.made):
            return replace(self, acknowledged=shown)  # it still stands, or stands where it was believed to
        late = 0.0 if self.since is None else (self._without_stall(now) - shown) / self.fps
        return replace(self, acknowledged=shown, shown=shown, since=now, stalled=self.stalled + late)

    def standing(self, now: float) -> "Playback":
        """Nothing more is made for now: what runs out from here on is no stall."""
        return replace(self, shown=self.position(now), since=None) if self._dry(now) else self

    def ratio(self, now: float) -> float:
        """The share without stall of the time that it played; 1 before anything was shown."""
        played = (self.position(now) - self.begun) / self.fps
        return min(1.0, played / (played + self.stalled)) if played > 0 else 1.0

    def _without_stall(self, now: float) -> float:
        """Frames that a viewer has shown who went on since, however seldom he acknowledges."""
        return min(self.made, self.shown + (now - self.since) * self.fps)

    def _dry(self, now: float) -> bool:
        return self.since is not None and self.position(now) >= self.made
