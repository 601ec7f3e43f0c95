"""The latent frames of the next chunk: as many as were asked for, or fewer where those would come late.

Shorter chunks are there sooner, and cost more for each second of pictures. So they are drawn where the viewer would
have to wait for a whole one: in place of a chunk that was given up for something urgent, or that was cut. Those behind
it grow again as time allows. Functions of counts and times, without threads or clocks.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from .engine import TEMPORAL
from .pacing import NUM_MEASURED, TRANSPORT, Span

ASIDE = 0.2  # latent frames whose time a chunk takes beside that of its own: knot-tiny's on a CPU
_RARE = 8  # shorter chunks are rare: so many of their times count
_MOST_SHORT = 12  # shorter chunks in a row, behind which there must be time for a whole one
_SOON = 0.01  # seconds: what is due begins so much later at most
_FRAME = 0.04  # seconds by which a viewer may be further than was believed


class TakenBack(NamedTuple):
    """The part of the last chunks that is drawn anew: so many whole ones, and of the one before them all but its first
    `stay` latent frames; 0: all of it stays. `knot`: whether the next chunk begins without one.
    """

    chunks: int = 0
    stay: int = 0
    knot: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether something that was made is not shown."""
        return self.chunks > 0 or self.stay > 0


NOTHING = TakenBack()


class Times:
    """Seconds until the first pictures of chunks were there, by the chunks' latent frames."""

    def __init__(self) -> None:
        self._taken: dict[int, deque[float]] = {}

    def add(self, num_latents: int, seconds: float, *, asked: int) -> None:
        """A chunk took so long, when chunks of `asked` latent frames were usual."""
        most = NUM_MEASURED if num_latents == asked else _RARE
        self._taken.setdefault(num_latents, deque(maxlen=most)).append(seconds)

    def of(self, num_latents: int) -> Sequence[float]:
        """The last ones, oldest first."""
        return self._taken.get(num_latents, ())

    def clear(self) -> None:
        """Chunks may take longer now."""
        self._taken.clear()


@dataclass(frozen=True)
class Lengths:
    """The chunks that can be drawn: `seconds` by latent frames, the most of which are asked for. A latent frame is
    shown for `each` seconds; `transport`: seconds until the viewer can show what was drawn.
    """

    seconds: Mapping[int, float]
    each: float
    transport: float = TRANSPORT

    @classmethod
    def expected(cls, times: Times, asked: int, taken: float, fps: int, transport: float = TRANSPORT) -> "Lengths":
        """Chunks of `asked` latent frames take `taken` seconds; shorter ones their share, or what was measured where
        that is more.
        """
        seconds = {asked: taken}
        for count in range(1, asked):
            share = (count + ASIDE) / (asked + ASIDE)
            seconds[count] = max(share * taken, median(times.of(count) or [0.0]))
        return cls(seconds, TEMPORAL / fps, transport)

    def only_asked(self) -> "Lengths":
        """The same without shorter chunks."""
        return replace(self, seconds={self.asked: self.seconds[self.asked]})

    @property
    def asked(self) -> int:
        """Latent frames of a whole chunk."""
        return max(self.seconds)

    def next(self, unplayed: float) -> int:
        """The latent frames of a chunk behind one that was drawn in place of another, and behind shorter ones."""
        if self._ready(self.asked, unplayed + _SOON):
            return self.asked
        allowed = min(_FRAME, self.transport / 2)  # the rest of it does for what is late
        return self._longest(unplayed) or self._longest(unplayed + allowed) or self.asked

    def again(self, unplayed: float) -> int | None:
        """The latent frames of a chunk that is drawn in place of one under way; None where it would come late."""
        return self._longest(unplayed - _SOON)

    def cut(
        self, made: Sequence[Span], position: float, fps: int, *, inside: bool = False, whole: bool = False
    ) -> tuple[TakenBack, int | None]:
        """The part of the last chunks to take back, to be shown otherwise as soon as may be without a stall; and the
        latent frames of the chunk that is drawn in its place.

        `position` frames are shown. What is shown of the first replaced one until its replacement is there, stays as it
        is; `whole`: none of it is, since all that is drawn in its place must be shown. `inside`: chunks may be cut
        short.
        """
        soonest, found = ((made[-1].end - position) / fps if made else 0.0), (NOTHING, None)
        for count, span in enumerate(reversed(made)):
            for stay in reversed(range(span.num_latents if inside else 1)):
                begins = (span.first_latents(stay).end - position) / fps
                for length in self._longest_first:
                    ready = self.seconds[length] + self.transport
                    if whole and begins < ready + _SOON:
                        continue
                    seen = max(begins, ready)
                    if seen < soonest and self._goes_on(begins + self._gain(length) - _FRAME):
                        soonest, found = seen, (TakenBack(count if stay else count + 1, stay, knot=True), length)
        return found

    @property
    def _longest_first(self) -> Sequence[int]:
        return sorted(self.seconds, reverse=True)

    def _longest(self, unplayed: float) -> int | None:
        """Latent frames of the longest chunk that is in time, as are those behind it."""
        counts = (count for count in self._longest_first if self.seconds[count] + self.transport <= unplayed)
        return next((count for count in counts if self._goes_on(unplayed + self._gain(count))), None)

    def _goes_on(self, unplayed: float) -> bool:
        """Whether chunks, each as long as it can be, are in time until a whole one is."""
        for _ in range(_MOST_SHORT):
            count = next((count for count in self._longest_first if self._ready(count, unplayed)), None)
            if count is None or count == self.asked:
                return count is not None
            unplayed += self._gain(count)
        return False

    def _ready(self, count: int, unplayed: float) -> bool:
        """Whether such a chunk can begin; a whole one does where its own length lies ready: see `pacing.lead`."""
        taken, needed = self.seconds[count], self.seconds[count] + self.transport
        return unplayed >= (min(needed, max(taken, count * self.each)) if count == self.asked else needed)

    def _gain(self, count: int) -> float:
        """Seconds by which there is more to be shown, once that chunk is drawn."""
        return count * self.each - self.seconds[count]
