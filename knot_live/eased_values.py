"""Values that are held until they change, and change without a jump: each a list of changes over pixel frames.

A change begins at a frame, from the value that stood there, and eases to its target: a number, or what lies beneath.

Shapes: P pixel frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

EASE_SECONDS = 0.12


@dataclass(frozen=True)
class Change:
    """A change that begins at pixel frame `first` and takes `frames`, to the target; None is what lies beneath.

    A target that moves has its values in `path`, from the frame before on; then it stays. What is eased away is how far
    from it the value stood.
    """

    first: int
    frames: int
    start: float
    target: float | None
    path: tuple[float, ...] = ()


def eased(u: np.ndarray) -> np.ndarray:
    """3 u^2 - 2 u^3, from 0 to 1; [P] -> [P]."""
    u = np.clip(u, 0, 1)
    return u * u * (3 - 2 * u)


class EasedValue:
    """One value over time. Frames are asked for at most as far back as `forget` says; not thread-safe."""

    def __init__(self, changes: Sequence[Change] = ()) -> None:
        self.changes = list(changes)

    @property
    def target(self) -> float | None:
        """The newest change's value; None: that of what lies beneath, also where nothing was ever changed."""
        return self.changes[-1].target if self.changes else None

    def change(self, first: int, frames: int, target: float | None, value_before: Callable[[], float]) -> None:
        """Go to another target from that frame on; the same one goes on as it does."""
        self.cut(first)
        if target != self.target:
            self.changes.append(Change(first, frames, value_before(), target))

    def follow(self, first: int, frames: int, path: tuple[float, ...], value_before: Callable[[], float]) -> None:
        """Go where `path` goes, which begins with the frame before, and stay at its end."""
        self.cut(first)
        self.changes.append(Change(first, frames, value_before(), path[-1], path))

    def cut(self, first: int) -> None:
        """Remove what changed at that frame or later."""
        self.changes = [change for change in self.changes if change.first < first]

    def forget(self, first: int) -> None:
        """Remove what has no part in that frame and later ones."""
        over = [number for number, change in enumerate(self.changes) if change.first <= first]
        self.changes = self.changes[over[-1] :] if over else self.changes

    def at(self, frames: np.ndarray, beneath: np.ndarray) -> np.ndarray:
        """start + (target - start) e((frame - first + 1) / frames) of the last change before each frame: [P]."""
        values = np.array(beneath, dtype=np.float64)
        for change in self.changes:
            here = frames >= change.first
            since = frames[here] - change.first + 1
            start, target = change.start, beneath[here] if change.target is None else change.target
            if change.path:
                target = np.array(change.path)[np.minimum(since, len(change.path) - 1)]
                start = target + change.start - change.path[0]
            values[here] = start + (target - start) * eased(since / change.frames)
        return values

    def given(self, frames: np.ndarray) -> np.ndarray:
        """Whether anything else than what lies beneath has a part in the value: bool [P]."""
        given = np.zeros(len(frames), dtype=bool)
        for change in self.changes:
            here = frames >= change.first
            given[here] = (change.target is not None) | (frames[here] - change.first + 1 < change.frames)
        return given

    def to_state(self) -> Sequence[Mapping[str, Any]]:
        return [asdict(change) for change in self.changes]

    @classmethod
    def from_state(cls, state: Sequence[Mapping[str, Any]]) -> "EasedValue":
        return cls([Change(**{**change, "path": tuple(change["path"])}) for change in state])
