"""The memory of the warping autoencoder's decoder, from one call to the next.

Shapes: ``B`` batch, ``T`` pixel frames, ``C`` channels, ``H W`` size of features, ``L`` landmarks; N = B*T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .landmark_motion import continued

Memory = tuple[Tensor, ...]


class Past:
    """Hands on what was before the first frame, and keeps what is behind the last one, in the order of the calls."""

    def __init__(self, batch: int, memory: Memory | None) -> None:
        self._batch = batch
        self._before: Iterator[Tensor] | None = None if memory is None else iter(memory)
        self._after: list[Tensor] = []

    def through(self, block: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
        """Features [N, C, H, W] behind the block, which sees the one before each as well."""
        frames = x.unflatten(0, (self._batch, -1))
        first = torch.zeros_like(frames[:, 0]) if self._before is None else next(self._before)
        self._after.append(frames[:, -1].clone())
        return block(x, torch.cat([first[:, None], frames[:, :-1]], dim=1).flatten(0, 1))

    def going_on(self, moved_NL2: Tensor) -> Tensor:
        """The motion of landmarks, [N, L, 2], from where it was without steps."""
        before = None if self._before is None else next(self._before)
        shown, after = continued(moved_NL2.unflatten(0, (self._batch, -1)), before)
        self._after.append(after)
        return shown.flatten(0, 1)

    @property
    def kept(self) -> Memory:
        return tuple(self._after)
