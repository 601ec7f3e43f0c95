"""Idle motion that is made seconds at once: a few frames of it take as long as many.

Shapes: P pixel frames.
"""

import numpy as np

from .engine import IdleMotion

_BLOCK = 96  # pixel frames
_BLOCKS_KEPT = 3


class IdleBlocks:
    """The values of `IdleMotion`, bit for bit. Not thread-safe."""

    def __init__(self, seed: int) -> None:
        self._idle = IdleMotion(seed)
        self._made: dict[int, np.ndarray] = {}

    def at(self, frames: np.ndarray) -> np.ndarray:
        """[P] -> [P, 6] in the order of `POSE_CONTROLS`."""
        numbers, within = np.divmod(frames, _BLOCK)
        values = np.empty((len(frames), self._block(int(numbers[0])).shape[1]), dtype=np.float32)
        for number in np.unique(numbers):
            here = numbers == number
            values[here] = self._block(int(number))[within[here]]
        return values

    def _block(self, number: int) -> np.ndarray:
        if number not in self._made:
            self._made[number] = self._idle.at(_BLOCK * number + np.arange(_BLOCK, dtype=np.int64))
            if len(self._made) > _BLOCKS_KEPT:
                del self._made[next(iter(self._made))]
        return self._made[number]
