"""What a chunk may attend to: bookkeeping in integers, storage in tensors.

Shapes: B batch, L tokens of the pass, S slots, N heads, K head dim.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .errors import SettingsError
from .room import free_memory


class AttentionCache(Protocol):
    """How the forward meets a cache. Keys arrive rotated to their positions."""

    def read(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the pass attends to, its own included."""

    def write(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:
        """Keep the keys and values of a commit pass; called once per layer, after `read`."""


class NoCache:
    """A pass that attends to itself only."""

    def read(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return k_BLNK, v_BLNK

    def write(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:  # noqa: ARG002
        raise AssertionError("nothing to commit into")


class CapturingCache(NoCache):
    """A pass that attends to itself only and keeps its keys and values, layer by layer: the anchor's."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    def write(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:
        assert layer == len(self.layers), f"layer {layer} written after {len(self.layers)} layers"
        self.layers.append((k_BLNK, v_BLNK))


@dataclass(frozen=True)
class Run:
    """`length` frames in a row: from frame `source` to frame-slot `slot`."""

    source: int
    slot: int
    length: int


@dataclass(frozen=True, kw_only=True)
class CacheIndex:
    """Which slot holds which committed frame. Integers only.

    The first `num_sinks` frames stay in the slots of their own numbers; behind them a ring of `capacity` slots is
    filled from the left, and then over and over. Attention does not see the order of keys, so nothing moves.
    """

    capacity: int
    num_sinks: int = 0
    num_committed: int = 0

    @property
    def num_valid(self) -> int:
        """Frames held: slots 0 .. num_valid-1."""
        return min(self.num_committed, self.num_sinks + self.capacity)

    def slot(self, frame: int) -> int:
        """Where a committed frame goes."""
        return frame if frame < self.num_sinks else self.num_sinks + (frame - self.num_sinks) % self.capacity

    def frames(self) -> tuple[int, ...]:
        """Which committed frame each valid slot holds."""
        last, sinks = self.num_committed - 1, self.num_sinks
        in_ring = (last - (last - slot) % self.capacity for slot in range(sinks, self.num_valid))
        return (*range(min(self.num_committed, sinks)), *in_ring)

    def runs(self, num_frames: int) -> tuple[Run, ...]:
        """Where the next `num_frames` frames go; what neither is a sink nor fits into the ring's end goes nowhere."""
        first, stop = self.num_committed, self.num_committed + num_frames
        sinks = range(first, min(stop, self.num_sinks))
        ring = range(max(first, self.num_sinks, stop - self.capacity), stop)
        before_wrap = min(len(ring), self.num_sinks + self.capacity - self.slot(ring.start)) if ring else 0
        parts = (sinks, ring[:before_wrap], ring[before_wrap:])
        return tuple(Run(part.start - first, self.slot(part.start), len(part)) for part in parts if part)

    def leaving(self, num_frames: int) -> tuple[Run, ...]:
        """Which frames leave the ring, or pass it by, when `num_frames` more come: `source`, their number; `slot`, the
        sink that each joins, which is its number modulo the sinks. Frames of one run lie side by side.
        """
        runs, frame = [], max(self.num_sinks, self.num_committed - self.capacity)
        stop = max(self.num_sinks, self.num_committed + num_frames - self.capacity)
        while frame < stop and self.num_sinks:
            sink = frame % self.num_sinks
            length = min(stop - frame, self.num_sinks - sink)
            if frame < self.num_committed:
                before_wrap = self.num_sinks + self.capacity - self.slot(frame)
                length = min(length, before_wrap, self.num_committed - frame)
            runs.append(Run(frame, sink, length))
            frame += length
        return tuple(runs)

    def advance(self, num_frames: int) -> "CacheIndex":
        """The index after `num_frames` more frames are committed."""
        return replace(self, num_committed=self.num_committed + num_frames)


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """Sizes of a KVCache, in frames and tokens."""

    num_layers: int
    batch: int
    num_tokens: int  # per latent frame
    num_heads: int
    head_dim: int
    num_window_frames: int
    num_anchor_frames: int  # 1, or 0 without an anchor
    num_pass_frames: int  # the most frames of one pass: chunk and knot
    num_sink_frames: int = 0

    @property
    def num_frames(self) -> int:
        return self.num_pass_frames + self.num_anchor_frames + self.num_sink_frames + self.num_window_frames


class KVCache:
    """Keys and values of sinks, window and anchor, and room for the pass at hand, one buffer each per layer.

    A buffer is [pass, ending at the anchor | anchor | sinks | window, a ring filled from the left]: sinks fill before
    the window begins to, so what is valid is always one contiguous slice, and reading concatenates nothing. Keys are
    stored rotated: the window's at their absolute positions, sinks there too unless stream/sinks.py moves them.
    No pass writes the window: `commit`, after a commit pass, copies what the pass left in its slots, so a pass that is
    cut off leaves the window whole.
    """

    def __init__(self, shape: CacheShape, *, dtype: torch.dtype, device: torch.device | str) -> None:
        self.shape = shape
        self.index = CacheIndex(capacity=shape.num_window_frames, num_sinks=shape.num_sink_frames)
        size = (2, shape.batch, shape.num_frames * shape.num_tokens, shape.num_heads, shape.head_dim)
        self._layers = _zeros(shape.num_layers, size, dtype, torch.device(device))
        self._anchor_slot = shape.num_pass_frames * shape.num_tokens
        self._window_slot = self._anchor_slot + shape.num_anchor_frames * shape.num_tokens

    def read(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> tuple[Tensor, Tensor]:
        k_BSNK, v_BSNK = self._layers[layer]
        start = self._anchor_slot - k_BLNK.shape[1]
        stop = self._window_slot + self.index.num_valid * self.shape.num_tokens
        assert start >= 0, f"a pass of {k_BLNK.shape[1]} tokens; the buffer has room for {self._anchor_slot}"
        k_BSNK[:, start : self._anchor_slot] = k_BLNK
        v_BSNK[:, start : self._anchor_slot] = v_BLNK
        return k_BSNK[:, start:stop], v_BSNK[:, start:stop]

    def write(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:
        """Nothing to do: `read` has put them into the pass's slots, where `commit` finds them."""

    def commit(self, num_frames: int) -> None:
        """Move a whole commit pass of `num_frames` frames from the pass's slots to the sinks and the window."""
        tokens = self.shape.num_tokens
        start = self._anchor_slot - num_frames * tokens
        for run in self.index.runs(num_frames):
            source, target = start + run.source * tokens, self._window_slot + run.slot * tokens
            for layer in self._layers:
                layer[:, :, target : target + run.length * tokens] = layer[:, :, source : source + run.length * tokens]
        self.index = self.index.advance(num_frames)

    def place_anchor(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:
        """Set the anchor's keys, rotated to its position, and its values."""
        k_BSNK, v_BSNK = self._layers[layer]
        k_BSNK[:, self._anchor_slot : self._window_slot] = k_BLNK
        v_BSNK[:, self._anchor_slot : self._window_slot] = v_BLNK

    def sinks(self, layer: int) -> Tensor:
        """The sinks' slots, keys and values: [2, B, S, N, K], a view to read and to write."""
        stop = self._window_slot + self.shape.num_sink_frames * self.shape.num_tokens
        return self._layers[layer][:, :, self._window_slot : stop]

    def settled(self, layer: int, frame: int, length: int, num_passing: int) -> Tensor:
        """`length` frames from committed frame `frame` on, a view: of the window, or of a commit pass of `num_passing`
        frames that stands in the pass's slots, to be committed next. They must lie side by side, as in one run.
        """
        tokens, passing = self.shape.num_tokens, frame - self.index.num_committed
        if passing < 0:
            start = self._window_slot + self.index.slot(frame) * tokens
        else:
            start = self._anchor_slot + (passing - num_passing) * tokens
        return self._layers[layer][:, :, start : start + length * tokens]

    def window(self, layer: int) -> Tensor:
        """The valid sinks and window as stored, keys and values: [2, B, S, N, K], a view."""
        stop = self._window_slot + self.index.num_valid * self.shape.num_tokens
        return self._layers[layer][:, :, self._window_slot : stop]

    def load_window(self, index: CacheIndex, layers: Sequence[Tensor]) -> None:
        """Put back what `window` gave, slot by slot, so that a resumed stream sums in the same order."""
        assert index.capacity == self.shape.num_window_frames, f"a window of {index.capacity} frames"
        assert index.num_sinks == self.shape.num_sink_frames, f"{index.num_sinks} sinks"
        assert len(layers) == self.shape.num_layers, f"a window of {len(layers)} layers"
        self.index = index
        for layer, stored in enumerate(layers):
            self.window(layer).copy_(stored)

    def fork(self) -> "KVCache":
        """An independent copy: two streams may go on from one state."""
        twin = KVCache(self.shape, dtype=self._layers[0].dtype, device=self._layers[0].device)
        twin.index = self.index
        for mine, theirs in zip(self._layers, twin._layers, strict=True):
            theirs.copy_(mine)
        return twin

    @property
    def num_bytes(self) -> int:
        return sum(layer.numel() * layer.element_size() for layer in self._layers)


def _zeros(count: int, size: Sequence[int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """So many tensors; refused where they cannot be had, before a system begins to end processes for it."""
    wanted, gib = count * math.prod(size) * dtype.itemsize, 2**30
    free = free_memory(device) if device.type == "cpu" else None  # an accelerator's allocator keeps room of its own
    try:
        if free is not None and wanted > free:
            raise MemoryError
        return [torch.zeros(size, dtype=dtype, device=device) for _ in range(count)]
    except (MemoryError, RuntimeError) as problem:  # torch has no error of its own for it on every device
        raise SettingsError(
            f"the cache needs {wanted / gib:.2f} GiB, which {device} does not have; take a smaller size, or fewer "
            "num_window_frames and num_sink_frames"
        ) from problem
