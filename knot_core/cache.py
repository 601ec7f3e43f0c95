"""The cache of keys and values that a stream's chunks attend to: storage in tensors, its bookkeeping in `cache_index`.

Shapes: B batch, L tokens of the pass, S slots, N heads, K head dim.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .attention_cache import Attended
from .cache_index import CacheIndex, Place, SlotRun
from .errors import SettingsError
from .free_memory import free_memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Overwritten:
    """The slots that a commit overwrote: enough to restore the window as it was before."""

    index: "CacheIndex"
    pieces: tuple[tuple[int, tuple[Tensor, ...]], ...]  # first token of the window, and what stood there, by layer
    sinks: tuple[Tensor, ...] = ()  # see stream/sinks.py

    def put_back(self, window: Sequence[Tensor]) -> None:
        """Write it back into a window by layer, each [2, B, S, N, K], as `KVCache.window` returns it."""
        for start, layers in self.pieces:
            for layer, kept in zip(window, layers, strict=True):
                layer[:, :, start : start + kept.shape[2]] = kept


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
    cut off leaves the window whole. Unless `write_in_place` says where: then every pass writes there, its frames past
    the chunk excepted, and `undo` puts back what stood there.
    """

    def __init__(self, shape: CacheShape, *, dtype: torch.dtype, device: torch.device | str) -> None:
        self.index = CacheIndex(capacity=shape.num_window_frames, num_sinks=shape.num_sink_frames)
        self._take(shape, _layers_of(shape, dtype, torch.device(device)))
        self._passed = 0  # tokens of the last pass
        self._in_place: Place | None = None
        self._replaced: dict[Place, tuple[Tensor, ...]] = {}
        self._before: int | None = None  # tokens of the passes before, where passes see no window

    def _take(self, shape: CacheShape, layers: list[Tensor]) -> None:
        self.shape, self._layers = shape, layers
        self._anchor_slot = shape.num_pass_frames * shape.num_tokens
        self._window_slot = self._anchor_slot + shape.num_anchor_frames * shape.num_tokens

    def make_room(self, num_pass_frames: int) -> None:
        """Make room for passes of so many frames; what it holds stays, and more room than that as well.

        Raises:
            SettingsError: there is no memory for it.
        """
        if num_pass_frames <= self.shape.num_pass_frames:
            return
        old, anchor_slot = self._layers, self._anchor_slot
        shape = replace(self.shape, num_pass_frames=num_pass_frames)
        self._take(shape, _layers_of(shape, old[0].dtype, old[0].device))
        for layer, held in zip(self._layers, old, strict=True):
            layer[:, :, self._anchor_slot :] = held[:, :, anchor_slot:]

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended:
        if self._in_place is not None:
            return self._extend_in_place(layer, torch.stack([k_BLNK, v_BLNK]), self._in_place)
        k_BSNK, v_BSNK = self._layers[layer]
        self._passed = k_BLNK.shape[1]
        end = self._anchor_slot - (self._before or 0)
        start = end - self._passed
        num_valid = self.index.num_valid if self._before is None else 0
        stop = self._window_slot + num_valid * self.shape.num_tokens
        assert start >= 0, f"a pass of {self._passed} tokens; the buffer has room for {end}"
        k_BSNK[:, start:end] = k_BLNK
        v_BSNK[:, start:end] = v_BLNK
        return k_BSNK[:, start:stop], v_BSNK[:, start:stop], None

    def commit(self, num_frames: int) -> None:
        """Move the first `num_frames` of the last pass's frames from the pass's slots to the sinks and the window. What
        passes wrote in place stays where it is.
        """
        tokens, start = self.shape.num_tokens, self._anchor_slot - self._passed
        runs = () if self._in_place is not None else self.index.runs(num_frames)
        for run in runs:
            source, target = start + run.source * tokens, self._window_slot + run.slot * tokens
            for layer in self._layers:
                layer[:, :, target : target + run.length * tokens] = layer[:, :, source : source + run.length * tokens]
        self._in_place, self._replaced = None, {}
        self.index = self.index.advance(num_frames)

    def overwritten(self, num_frames: int, *, with_sinks: bool = False, wholly: bool = False) -> Overwritten:
        """A copy of the slots that the next commit of `num_frames` frames overwrites; `with_sinks`: with all sinks;
        `wholly`: everything. After passes that wrote in place, the slots that they have overwritten.
        """
        tokens, valid = self.shape.num_tokens, self.index.num_valid
        if self._replaced:
            held = ((place.slot, kept) for place, kept in self._replaced.items() if place.slot < valid)
            return Overwritten(index=self.index, pieces=tuple((slot * tokens, kept) for slot, kept in held))
        spans = [(run.slot, min(run.slot + run.length, valid)) for run in self.index.runs(num_frames)]
        spans += [(0, min(self.shape.num_sink_frames, valid))] if with_sinks else []
        spans = [(0, valid)] if wholly else spans
        return Overwritten(
            index=self.index,
            pieces=tuple(
                (start * tokens, tuple(self._slots(layer, start, stop).clone() for layer in self._layers))
                for start, stop in spans
                if start < stop
            ),
        )

    def write_in_place(self, place: Place) -> None:
        """Let the following passes write at `place`; its former contents are kept until `commit` or `undo`."""
        if place not in self._replaced:
            self._replaced[place] = tuple(self._placed(layer, place).clone() for layer in self._layers)
        self._in_place = place

    def undo(self) -> None:
        """Sinks and window as they were before the passes of a chunk that does not happen."""
        for place, layers in self._replaced.items():
            for layer, kept in zip(self._layers, layers, strict=True):
                self._placed(layer, place).copy_(kept)
        self._in_place, self._replaced, self._before = None, {}, None

    def pass_alone(self, num_before: int | None) -> None:
        """From the next pass on passes see the anchor and `num_before` frames of passes before them, and no sinks and
        window; None: again as ever.
        """
        self._before = None if num_before is None else num_before * self.shape.num_tokens

    def replace_window(self, lengths: Sequence[int], num_frames: int) -> None:
        """Passes that saw each other alone, of so many frames each, fill the window from its first slot on, and with
        them `num_frames` more are committed. Which frame stands in which slot attention does not see.
        """
        tokens = self.shape.num_tokens
        for number, length in enumerate(lengths):
            source = self._anchor_slot - sum(lengths[: number + 1]) * tokens
            target = self._window_slot + sum(lengths[:number]) * tokens
            for layer in self._layers:
                layer[:, :, target : target + length * tokens] = layer[:, :, source : source + length * tokens]
        self.index, self._before = self.index.advance(num_frames), None

    def _placed(self, layer: Tensor, place: Place) -> Tensor:
        return self._slots(layer, place.slot, place.slot + place.length)

    def _extend_in_place(self, layer: int, kv_2BLNK: Tensor, place: Place) -> Attended:
        buffer, settled = self._layers[layer], place.length * self.shape.num_tokens
        start = self._anchor_slot - (kv_2BLNK.shape[2] - settled)
        self._placed(buffer, place)[:] = kv_2BLNK[:, :, :settled]
        buffer[:, :, start : self._anchor_slot] = kv_2BLNK[:, :, settled:]
        k_BSNK, v_BSNK = buffer[:, :, start : self._window_slot + place.num_valid * self.shape.num_tokens]
        return k_BSNK, v_BSNK, None

    def place_anchor(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:
        """Set the anchor's keys, rotated to its position, and its values."""
        k_BSNK, v_BSNK = self._layers[layer]
        k_BSNK[:, self._anchor_slot : self._window_slot] = k_BLNK
        v_BSNK[:, self._anchor_slot : self._window_slot] = v_BLNK

    def anchor(self, layer: int) -> Tensor:
        """The anchor's slots, keys and values: [2, B, S, N, K], a view; of no length where there is none."""
        return self._layers[layer][:, :, self._anchor_slot : self._window_slot]

    def sinks(self, layer: int) -> Tensor:
        """The sinks' slots, keys and values: [2, B, S, N, K], a view to read and to write."""
        stop = self._window_slot + self.shape.num_sink_frames * self.shape.num_tokens
        return self._layers[layer][:, :, self._window_slot : stop]

    def settled(self, layer: int, frame: int, length: int) -> Tensor:
        """Keys and values, [2, B, S, N, K], of `length` frames from committed frame `frame` on, a view. They lie in the
        window, or are of the last pass, which is committed next, and in its slots. They must be contiguous, as in one
        run.
        """
        tokens, passing = self.shape.num_tokens, frame - self.index.num_committed
        if passing < 0:
            start = self._window_slot + self.index.slot(frame) * tokens
        else:
            start = self._anchor_slot - self._passed + passing * tokens
        return self._layers[layer][:, :, start : start + length * tokens]

    def window(self, layer: int) -> Tensor:
        """The valid sinks and window as stored, keys and values: [2, B, S, N, K], a view; a copy of them as they were
        while passes write in place.
        """
        window = self._slots(self._layers[layer], 0, self.index.num_valid)
        if not self._replaced:
            return window
        window = window.clone()
        for place, kept in list(self._replaced.items()):
            if place.slot < self.index.num_valid:
                window[:, :, place.slot * self.shape.num_tokens :][:, :, : kept[layer].shape[2]] = kept[layer]
        return window

    def _slots(self, layer: Tensor, start: int, stop: int) -> Tensor:
        tokens = self.shape.num_tokens
        return layer[:, :, self._window_slot + start * tokens : self._window_slot + stop * tokens]

    def load_window(self, index: CacheIndex, layers: Sequence[Tensor]) -> None:
        """Restore what `window` returned, each [2, B, S, N, K], slot by slot, so that a resumed stream sums in the same
        order.
        """
        assert index.capacity == self.shape.num_window_frames, f"a window of {index.capacity} frames"
        assert index.num_sinks == self.shape.num_sink_frames, f"{index.num_sinks} sinks"
        assert len(layers) == self.shape.num_layers, f"a window of {len(layers)} layers"
        self.index = index
        for layer, stored in enumerate(layers):
            self.window(layer).copy_(stored)

    def put_back(self, kept: Overwritten) -> None:
        """Stand where the window stood before the commit that wrote over `kept`."""
        kept.put_back([layer[:, :, self._window_slot :] for layer in self._layers])
        self.index = kept.index

    def cut_short(self, kept: Overwritten, num_frames: int) -> None:
        """Take back the commit that wrote over `kept`, all but its first `num_frames` frames."""
        runs = kept.index.runs(num_frames)
        stay = [[self._run(layer, run).clone() for layer in self._layers] for run in runs]
        self.put_back(kept)
        for run, layers in zip(runs, stay, strict=True):
            for layer, new in zip(self._layers, layers, strict=True):
                self._run(layer, run).copy_(new)
        self.index = self.index.advance(num_frames)

    def _run(self, layer: Tensor, run: SlotRun) -> Tensor:
        return self._slots(layer, run.slot, run.slot + run.length)

    def drop_window(self) -> None:
        """Hold no sinks and no window, as before the first commit."""
        self.index = replace(self.index, num_committed=0)

    def fork(self) -> "KVCache":
        """An independent copy: two streams may go on from one state."""
        twin = KVCache(self.shape, dtype=self._layers[0].dtype, device=self._layers[0].device)
        twin.index, twin._passed = self.index, self._passed
        for mine, theirs in zip(self._layers, twin._layers, strict=True):
            theirs.copy_(mine)
        return twin

    @property
    def num_bytes(self) -> int:
        return sum(layer.numel() * layer.element_size() for layer in self._layers)


def _layers_of(shape: CacheShape, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    size = (2, shape.batch, shape.num_frames * shape.num_tokens, shape.num_heads, shape.head_dim)
    return _zeros(shape.num_layers, size, dtype, device)


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
