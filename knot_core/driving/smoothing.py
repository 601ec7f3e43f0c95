"""A track smoothed over time: for speech whose mouth should be calmer, and for poses that were measured and tremble.

Shapes: P pixel frames asked for, O offsets of the kernel, V values.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import DrivingError
from .audio import FPS
from .timeline import Driving
from .tracks import FrameNumbers, Track, Values

MAX_SMOOTHING = 2.0  # seconds


@dataclass(frozen=True)
class Smoothed:
    """A weighted mean of the frames around each frame, as many before as after: nothing comes late."""

    track: Track
    half_width: int  # pixel frames to either side

    @property
    def num_pixel_frames(self) -> int | None:
        return self.track.num_pixel_frames

    @property
    def num_ready(self) -> int | None:
        ready = self.track.num_ready
        return None if ready is None else max(0, ready - self.half_width)

    @cached_property
    def _kernel(self) -> np.ndarray:
        """A Hann window without its zeros, of sum 1: [O]."""
        window = np.hanning(2 * self.half_width + 3)[1:-1]
        return (window / window.sum()).astype(np.float32)

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, V]; before its beginning the track is as it is there."""
        around = frames[:, None] + np.arange(-self.half_width, self.half_width + 1)
        values = self.track.at(np.maximum(around, 0).reshape(-1))
        return np.einsum("pov,o->pv", values.reshape(*around.shape, -1), self._kernel)

    def content(self) -> bytes:
        return f"smoothed {self.half_width} ".encode() + self.track.content()


def smoothed(track: Track | None, seconds: float) -> Track | None:
    """The track smoothed over a window of so many seconds; 0 leaves it."""
    if not 0 <= seconds <= MAX_SMOOTHING:
        raise DrivingError(f"smoothing is {seconds} s; it must be from 0 to {MAX_SMOOTHING:g}")
    half_width = round(seconds * FPS / 2)
    return track if track is None or half_width == 0 else Smoothed(track, half_width)


def smooth_poses(driving: Driving, seconds: float) -> Driving:
    """The same driving with calmer head, eyes and mouth."""
    return replace(driving, **{name: smoothed(getattr(driving, name), seconds) for name in ("pose", "mouth", "units")})
