"""Idle motion: a head that sways, breathes, blinks and looks about, for ever and never twice the same.

Every value is a function of (seed, pixel frame) alone: hashed values on a grid in time, smoothly joined. So frame
12,000,000 costs what frame 0 costs, there is no state to save, and nothing loops. Integer arithmetic up to the last
step keeps it exact however far the stream has come.

Shapes: P pixel frames.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import DrivingError
from .tracks import FrameNumbers, Values

# Value noise: grid period in pixel frames (25 a second) and weight. The periods share no divisor.
_SWAY = ((131, 0.60), (61, 0.28), (29, 0.12))
_DRIFT = ((173, 0.7), (73, 0.3))
_YAW, _PITCH, _ROLL, _BROW = 0.38, 0.26, 0.26, 0.22  # reach of each control
_BREATH_PERIOD = 100  # pixel frames: 0.25 Hz
_BREATH_PITCH = 0.07

# One blink in every cell of 4 s, up to 2 s late: neighbouring blinks are 2 to 6 s apart.
_BLINK_CELL, _BLINK_JITTER = 100, 51
_BLINK_SHAPE = np.array([0.45, 1.0, 1.0, 0.6, 0.2, 0.0], dtype=np.float64)  # five frames; the last entry: open

# One decision in every cell of 3 s, up to 1.6 s late: look at the viewer, or aside.
_GLANCE_CELL, _GLANCE_JITTER = 75, 41
_GLANCE_AT_VIEWER = 0.6  # share of the decisions
_GLANCE_MIN, _GLANCE_MAX = 0.25, 0.7
_SACCADE = 3  # pixel frames that the eyes take to move


@dataclass(frozen=True)
class IdleMotion:
    """Yaw, pitch, roll, blink, gaze and brow of a listener, as a function of time and seed."""

    seed: int
    num_pixel_frames: None = None
    num_ready: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise DrivingError(f"the seed is {self.seed}; it must be a whole number from 0 to 2^64 - 1")

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, 6] in the order of `POSE_CONTROLS`."""
        columns = (
            _YAW * self._noise(frames, 0, _SWAY),
            _PITCH * self._noise(frames, 1, _SWAY) + _BREATH_PITCH * self._breath(frames),
            _ROLL * self._noise(frames, 2, _SWAY),
            self._blink(frames),
            self._gaze(frames),
            _BROW * self._noise(frames, 3, _DRIFT),
        )
        return np.stack(columns, axis=1).astype(np.float32)

    def content(self) -> bytes:
        return repr(self).encode()

    def _noise(self, frames: FrameNumbers, channel: int, octaves: tuple[tuple[int, float], ...]) -> np.ndarray:
        """Sum of octaves of value noise, within -1 .. 1."""
        total = np.zeros(len(frames))
        for octave, (period, weight) in enumerate(octaves):
            cell, within = np.divmod(frames, period)
            before, after = (2 * self._uniform(cell + step, channel, octave) - 1 for step in (0, 1))
            total += weight * (before + (after - before) * _smooth(within / period))
        return total

    def _breath(self, frames: FrameNumbers) -> np.ndarray:
        phase = frames % _BREATH_PERIOD / _BREATH_PERIOD + 0.2 * self._noise(frames, 4, _DRIFT)
        return np.sin(2 * np.pi * phase)

    def _blink(self, frames: FrameNumbers) -> np.ndarray:
        cell, within = np.divmod(frames, _BLINK_CELL)
        since = within - np.floor(_BLINK_JITTER * self._uniform(cell, 5)).astype(np.int64)
        never = len(_BLINK_SHAPE) - 1
        return _BLINK_SHAPE[np.where((since >= 0) & (since < never), since, never)]

    def _gaze(self, frames: FrameNumbers) -> np.ndarray:
        cell, within = np.divmod(frames, _GLANCE_CELL)
        since = within - np.floor(_GLANCE_JITTER * self._uniform(cell, 6)).astype(np.int64)
        moved = np.clip((since + 1) / _SACCADE, 0, 1)
        before, after = self._glance(cell - 1), self._glance(cell)
        return before + (after - before) * moved

    def _glance(self, cell: np.ndarray) -> np.ndarray:
        """The direction of the eyes after the decision of a cell."""
        choice = self._uniform(cell, 7) - _GLANCE_AT_VIEWER
        reach = _GLANCE_MIN + (_GLANCE_MAX - _GLANCE_MIN) * self._uniform(cell, 8)
        side = np.where(self._uniform(cell, 9) < 0.5, -1.0, 1.0)
        return np.where(choice < 0, 0.0, side * reach)

    def _uniform(self, cell: np.ndarray, channel: int, octave: int = 0) -> np.ndarray:
        """A hash of (seed, channel, octave, cell) as a number in [0, 1)."""
        key = _mix(np.uint64(self.seed) + _mix(np.uint64(channel * 64 + octave)))
        return (_mix(key + cell.astype(np.uint64)) >> np.uint64(11)) * 2.0**-53


def _smooth(t: np.ndarray) -> np.ndarray:
    """6 t^5 - 15 t^4 + 10 t^3: 0 to 1 with no jump in speed or acceleration."""
    return t * t * t * (t * (6 * t - 15) + 10)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al., 2014), modulo 2^64."""
    with np.errstate(over="ignore"):
        x = np.atleast_1d(x) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
