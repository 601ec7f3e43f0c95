"""Randomness of a training step, as an argument: the same on one device and on many, and after a restart.

Every clip of the whole batch has dice of its own, and one more is shared by all: a process that trains some of the
clips needs theirs only. Shapes: B clips at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor


class Dice:
    """Random numbers for the clips `rows` of a step's batch; `part` separates critic and student updates."""

    def __init__(self, seed: int, step: int, rows: Sequence[int], part: int = 0) -> None:
        self.step = step
        self._key = (seed, step, part)
        self._shared = _generator(*self._key)
        self._throw([(1 + row,) for row in rows])

    def _throw(self, rows: Sequence[tuple[int, ...]]) -> None:
        self._numbers = rows
        self._rows = [_generator(*self._key, *numbers) for numbers in rows]

    def of(self, rows: Sequence[int]) -> Dice:
        """Random numbers for other clips of the same batch; the shared generator continues from here."""
        other = copy(self)
        other._throw([(1 + row,) for row in rows])
        return other

    def spread(self, count: int) -> Dice:
        """Random numbers for `count` frames of each clip, clip by clip."""
        other = copy(self)
        other._throw([(*numbers, 1 + frame) for numbers in self._numbers for frame in range(count)])
        return other

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [B, *shape]."""
        return torch.stack([torch.randn(shape, generator=row) for row in self._rows])

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), [B, *shape]."""
        return torch.stack([torch.rand(shape, generator=row) for row in self._rows])

    def below(self, limit: int) -> list[int]:
        """A whole number in 0 .. limit-1 for each clip."""
        return [int(torch.randint(limit, (), generator=row)) for row in self._rows]

    def numpy(self) -> list[np.random.Generator]:
        """A generator of NumPy's for each clip, for what draws with those."""
        return [np.random.default_rng(number) for number in self.below(1 << 62)]

    def shared_below(self, limit: int) -> int:
        """A whole number in 0 .. limit-1, the same for all clips of the step."""
        return int(torch.randint(limit, (), generator=self._shared))

    def shared_uniform(self) -> float:
        """A uniform number in [0, 1), the same for all clips of the step."""
        return float(torch.rand((), generator=self._shared))

    def shared_normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [*shape], the same for all clips of the step."""
        return torch.randn(shape, generator=self._shared)

    def shared_order(self, count: int) -> Tensor:
        """The numbers 0 .. count-1 in random order, [count], the same for all clips of the step."""
        return torch.randperm(count, generator=self._shared)


DiceOf = Callable[[Sequence[int]], Dice]  # the dice of some clips of one update's batch


def _generator(*numbers: int) -> torch.Generator:
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))
