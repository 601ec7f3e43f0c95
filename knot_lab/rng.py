"""Randomness of a training step, as an argument: the same on one device and on many, and after a restart.

Every clip of the whole batch has dice of its own, and one more is shared by all: a process that trains some of the
clips needs theirs only. Shapes: B clips at hand.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Dice:
    """Of the clips `rows` of a step's batch; `part` tells the step's parts apart (critic's updates, student's)."""

    def __init__(self, seed: int, step: int, rows: Sequence[int], part: int = 0) -> None:
        self._shared = _generator(seed, step, part)
        self._rows = [_generator(seed, step, part, 1 + row) for row in rows]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [B, *shape]."""
        return torch.stack([torch.randn(shape, generator=row) for row in self._rows])

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), [B, *shape]."""
        return torch.stack([torch.rand(shape, generator=row) for row in self._rows])

    def below(self, limit: int) -> list[int]:
        """A whole number in 0 .. limit-1 for each clip."""
        return [int(torch.randint(limit, (), generator=row)) for row in self._rows]

    def shared_below(self, limit: int) -> int:
        """A whole number in 0 .. limit-1, the same for all clips of the step."""
        return int(torch.randint(limit, (), generator=self._shared))

    def shared_uniform(self) -> float:
        """In [0, 1), the same for all clips of the step."""
        return float(torch.rand((), generator=self._shared))


def _generator(*numbers: int) -> torch.Generator:
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))
