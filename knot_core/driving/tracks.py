"""Tracks: values over pixel frames, readable at any frame, frozen. A driving signal is made of up to three of them.

Shapes: T pixel frames stored, P pixel frames asked for, V values a pixel frame.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

FrameNumbers = np.ndarray  # int64 [P]: which pixel frames, in any order, at least 0
Values = np.ndarray  # float32 [P, V]


class Track(Protocol):
    """Values as a function of the pixel frame alone: no state, so any frame may be asked for at any time."""

    @property
    def num_pixel_frames(self) -> int | None:
        """How long the track is; None where it has no end."""

    @property
    def num_ready(self) -> int | None:
        """How many pixel frames can be had by now; None = all. Less only of sound that still arrives.

        A number as well where a file is read as it is needed, a very large one: its end is not known yet.
        """

    def at(self, frames: FrameNumbers) -> Values:
        """The values at those pixel frames."""

    def content(self) -> bytes:
        """Bytes that differ between two different tracks."""


def last_end(*tracks: Track | None) -> int | None:
    """Pixel frames until the longest of those with an end has ended; None where none has one, or one still arrives."""
    if all_ready(*tracks) is not None:
        return None
    ends = [track.num_pixel_frames for track in tracks if track is not None]
    return max((end for end in ends if end is not None), default=None)


def all_ready(*tracks: Track | None) -> int | None:
    """Pixel frames that all of them have by now; None = all, for ever."""
    ready = [track.num_ready for track in tracks if track is not None]
    return min((count for count in ready if count is not None), default=None)


@dataclass(frozen=True, eq=False)
class Samples:
    """Stored values [T, V]. Past the end the last ones are held, or every value is `beyond`."""

    values: np.ndarray
    beyond: float | None = None
    num_ready: ClassVar[None] = None

    def __post_init__(self) -> None:
        own = np.array(self.values, dtype=np.float32)  # a copy: the caller's array may change
        assert own.ndim == 2, own.shape
        assert len(own) > 0, own.shape
        own.setflags(write=False)
        object.__setattr__(self, "values", own)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.values)} pixel frames of {self.values.shape[1]} values>"

    @property
    def num_pixel_frames(self) -> int:
        return len(self.values)

    def at(self, frames: FrameNumbers) -> Values:
        last = len(self.values) - 1
        values = self.values[np.minimum(frames, last)]
        if self.beyond is not None:
            values[frames > last] = self.beyond
        return values

    def content(self) -> bytes:
        return repr((type(self).__name__, self.values.shape, self.beyond)).encode() + self.values.tobytes()


@dataclass(frozen=True)
class Still:
    """The same values at all times."""

    values: tuple[float, ...]
    num_pixel_frames: None = None
    num_ready: ClassVar[None] = None

    def at(self, frames: FrameNumbers) -> Values:
        return np.tile(np.float32(self.values), (len(frames), 1))

    def content(self) -> bytes:
        return repr(self).encode()
