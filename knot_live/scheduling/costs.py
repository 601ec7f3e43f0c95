"""Measured cost of chunks: seconds of a device by shape and by how many sessions are drawn together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

_PIXELS = 4  # pixel frames of a latent frame


class Shape(NamedTuple):
    """The properties that chunks must share to be drawn together."""

    steps: int
    num_chunk_frames: int  # latent frames
    schedule: Any = None  # whatever else must be equal, such as size or noise levels; hashable


class Measured(NamedTuple):
    """Seconds of a group of `sessions` whose chunks have `num_chunk_frames`: of one step, and of all the rest."""

    num_chunk_frames: int
    sessions: int
    step: float
    rest: float  # commit, decode


@dataclass(frozen=True)
class Costs:
    """Cost curves of one device, of which `lanes` groups are drawn at once, such as one on each core.

    Between measured numbers of sessions, and of latent frames, the curves are straight; beyond them sessions are drawn
    in several groups, so that nothing is claimed that was not measured.
    """

    measured: tuple[Measured, ...]
    fps: int
    lanes: int = 1
    factor: float = 1.0  # by which everything takes longer now than when it was measured
    _seconds: dict[tuple[int, int, int], float] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        assert self.measured, "nothing was measured"
        assert all(one.step >= 0 and one.rest >= 0 and one.step + one.rest > 0 for one in self.measured)

    def length(self, shape: Shape) -> float:
        """Seconds of pictures in a chunk."""
        return _PIXELS * shape.num_chunk_frames / self.fps

    @cached_property
    def most_together(self) -> int:
        """The largest group that was measured."""
        return max(one.sessions for one in self.measured)

    def seconds(self, shape: Shape, sessions: int = 1) -> float:
        """Seconds until the next chunks of a group are drawn."""
        key = shape[0], shape[1], sessions
        found = self._seconds.get(key)
        if found is None:
            found = self._seconds[key] = self._found(*key)
        return found

    def share(self, shape: Shape, sessions: int) -> float:
        """The share of the device that so many sessions of a shape take, drawn in groups of the best size."""
        if not sessions:
            return 0.0
        best = min(self.seconds(shape, size) / size for size in range(1, min(sessions, self.most_together) + 1))
        return sessions * best / self.length(shape) / self.lanes

    def slower(self, factor: float) -> "Costs":
        """The same costs on a device that takes that many times as long."""
        return replace(self, factor=self.factor * factor, _seconds={})

    def __str__(self) -> str:
        """The measured costs, and how many are drawn at once, in a sentence for the log."""
        rows = "; ".join(
            f"{one.sessions} of {one.num_chunk_frames} latent frames in {one.step:.3f} s a step and {one.rest:.3f} s"
            for one in self.measured
        )
        way = "one by one" if self.most_together == 1 else f"up to {self.most_together} in one pass"
        return f"sessions are drawn {way}, {self.lanes} at a time; chunks take, as measured: {rows}"

    def to_json(self) -> dict[str, Any]:
        return {"fps": self.fps, "lanes": self.lanes, "measured": [list(one) for one in self.measured]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Costs":
        return cls(tuple(Measured(*one) for one in told["measured"]), told["fps"], told["lanes"])

    def _found(self, steps: int, chunk: int, sessions: int) -> float:
        most = self.most_together
        if sessions > most:
            whole, left = divmod(sessions, most)
            return whole * self._found(steps, chunk, most) + (self._found(steps, chunk, left) if left else 0.0)
        by_chunk = {}
        for one in self.measured:
            seconds = self.factor * (steps * one.step + one.rest)
            by_chunk.setdefault(one.num_chunk_frames, []).append((one.sessions, seconds))
        return _on_line([(length, _on_line(points, sessions)) for length, points in by_chunk.items()], chunk)


def load(costs: Costs, shapes: Iterable[Shape]) -> float:
    """The share of the device that sessions of these shapes take."""
    return sum(costs.share(shape, count) for shape, count in Counter(shapes).items())


def _on_line(points: Sequence[tuple[int, float]], at: int) -> float:
    """Straight between the points; before the first and behind the last in proportion to them."""
    points = sorted(points)
    for (left, low), (right, high) in pairwise(points):
        if left <= at <= right:
            return low + (high - low) * (at - left) / (right - left)
    place, value = points[0] if at < points[0][0] else points[-1]
    return value * at / place
