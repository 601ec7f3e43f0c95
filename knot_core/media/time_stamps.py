"""The positions of decoded sound in time: gaps and late starts become silence, overlaps are cut.

Time stamps are rounded (to a millisecond in Matroska) and tremble where they were taken from a clock, so a gap counts
if all of the next frames agree about it. Clocks that start anew, as in files that were put one behind the other, are
followed without a gap. All times are in samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_AGREEING = 8  # frames that must agree
_TREMBLING = 0.015  # seconds by which time stamps may be wrong
_ROUNDED = 0.003  # the same where something is known to be missing
_ANEW = 0.1  # seconds from the beginning: back to there, a clock has started anew


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A decoded frame: when it begins, and how long it is."""

    frame: Any
    start: int | None  # None: behind the one before
    length: int
    damaged: bool = False  # what comes before it could not be read


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The same, with the silence that comes before it, and what is cut from its beginning."""

    frame: Any
    silence: int
    cut: int
    damaged: bool


@dataclass(kw_only=True)
class Placing:
    """Lays frames one behind the other, by their time stamps."""

    sample_rate: int
    longest_gap: float  # seconds; a longer one is another clock
    longest_overlap: float  # the same
    at: int = 0  # samples so far
    _shift: int = 0  # from time stamps to where the sound lies
    _first: int = 0  # time stamp of the beginning
    _waiting: deque[Timed] = field(default_factory=deque)

    def lay(self, frames: Iterable[Timed]) -> Iterator[Placed]:
        """The positions of the frames; frames that lie wholly in an overlap are left out."""
        for number, frame in enumerate(frames):
            if number == 0:
                self._first = frame.start or 0
            self._waiting.append(frame)
            if len(self._waiting) == _AGREEING:
                yield from self._next()
        while self._waiting:
            yield from self._next()

    def _next(self) -> Iterator[Placed]:
        late = self._late()
        head = self._waiting.popleft()
        silence, cut = max(0, late), max(0, -late)
        if cut < head.length:
            self.at += silence + head.length - cut
            yield Placed(frame=head.frame, silence=silence, cut=cut, damaged=head.damaged)

    def _late(self) -> int:
        """Samples by which the next frame comes late; below 0, early. 0 where the time stamps do not agree."""
        off, at = [], self.at
        for frame in self._waiting:
            if frame.start is not None:
                off.append(frame.start + self._shift - at)
            at += frame.length
        late = min(off, key=abs, default=0)
        bound = _ROUNDED if self._waiting[0].damaged else _TREMBLING
        if abs(late) <= bound * self.sample_rate or min(off) * max(off) <= 0:
            return 0
        if self._is_other_clock(late):
            self._shift -= late
            return 0
        return late

    def _is_other_clock(self, late: int) -> bool:
        seconds, so_far = late / self.sample_rate, self.at / self.sample_rate
        from_first = (self.at + late - self._shift - self._first) / self.sample_rate
        anew = seconds < 0 and from_first < _ANEW < so_far
        return anew or seconds > self.longest_gap or seconds < -self.longest_overlap
