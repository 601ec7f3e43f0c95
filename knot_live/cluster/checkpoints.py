"""A session's state on its way to another process, and only what of it has changed since the one before.

Shapes: N bytes, M blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**14  # bytes that are compared, and sent, together


@dataclass(frozen=True, eq=False)
class Flat:
    """A tensor's bytes, uint8 [N]."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    @classmethod
    def of(cls, tensor: Tensor) -> "Flat":
        """The bytes of a tensor of any shape, [...], on any device; no copy of one that is contiguous on the CPU."""
        plain = tensor.detach().cpu().contiguous()
        data = plain.reshape(-1).view(torch.uint8).numpy()
        return cls(str(plain.dtype).removeprefix("torch."), tuple(plain.shape), data)

    def tensor(self) -> Tensor:
        """A copy of it, [...], that lies where torch would have put it: elsewhere, products round differently."""
        found = torch.empty(len(self.data), dtype=torch.uint8)
        found.numpy()[:] = self.data
        return found.view(getattr(torch, self.dtype)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Changed:
    """Blocks that are others now, in a tensor of the same size: their places [M], and their bytes in a row."""

    blocks: np.ndarray
    data: np.ndarray


Parts = Mapping[str, Flat]
Delta = Mapping[str, Flat | Changed | None]  # None: it is the same


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A session between two chunks; `tensors` are those of the checkpoint before but for what is said here.

    `steps`: so many of the session's journal were done before it. `seconds`: what it took, on the drawing thread and
    beside it.
    """

    chunk: int
    steps: int
    header: Mapping[str, Any]
    notes: Mapping[str, Any]
    tensors: Delta
    whole: bool
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors, as they are sent."""
        return sum(part.data.nbytes for part in self.tensors.values() if part is not None)


def flattened(tensors: Mapping[str, Tensor]) -> Parts:
    """Tensors of any shapes, [...], by name as bytes."""
    return {name: Flat.of(tensor) for name, tensor in tensors.items()}


def delta(before: Parts, now: Parts) -> Delta:
    """The difference from `before`, for somebody who has that."""
    return {name: _changed(before.get(name), part) for name, part in now.items()}


def merged(before: Parts, change: Delta) -> Parts:
    """The parts that `delta` was made for; `before` stays as it is."""
    return {name: _merged(before.get(name), part) for name, part in change.items()}


def _changed(before: Flat | None, now: Flat) -> Flat | Changed | None:
    if before is None or (before.dtype, before.shape) != (now.dtype, now.shape):
        return now
    whole = len(now.data) // BLOCK * BLOCK
    differ = (before.data[:whole].reshape(-1, BLOCK).view(np.int64) != now.data[:whole].reshape(-1, BLOCK).view(
        np.int64)).any(axis=1)  # fmt: skip
    blocks = np.flatnonzero(differ)
    if not np.array_equal(before.data[whole:], now.data[whole:]):
        blocks = np.append(blocks, whole // BLOCK)
    if not len(blocks):
        return None
    if len(blocks) * BLOCK >= 0.9 * len(now.data):
        return now
    return Changed(blocks, np.concatenate([now.data[place * BLOCK : (place + 1) * BLOCK] for place in blocks]))


def _merged(before: Flat | None, part: Flat | Changed | None) -> Flat:
    if isinstance(part, Flat):
        return part
    assert before is not None, "a change came, and not what it is a change of"
    if part is None:
        return before
    data, at = before.data.copy(), 0
    for place in part.blocks:
        piece = data[place * BLOCK : (place + 1) * BLOCK]
        piece[:] = part.data[at : at + len(piece)]
        at += len(piece)
    return Flat(before.dtype, before.shape, data)
