"""Sinks that do not stand still: they follow the window in time, or fade into what leaves it.

`rope_positions="window"` means to number sinks, window and chunk from 0 on at every read, however far the stream has
gone (LongLive's unlimited mode, Reward Forcing, Infinity-RoPE). RoPE sees distances only, and between window and chunk
they are the same under both numberings. So it is enough to move the sinks: to just before the window, once per chunk,
from where each was committed. The anchor keeps the distance to the chunk that running ahead gives it.

`sink_decay` d < 1: sink = d * sink + (1 - d) * frame, for every frame that leaves the window, keys and values; keys are
averaged as if the frame stood where the sink does (Reward Forcing, which keeps them before RoPE). Frame t joins sink
t modulo the number of sinks.

Shapes: B batch, S slots of the sinks, N heads, K head dim; the 2 are keys and values.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..cache import KVCache, Overwritten
from ..config import StreamSettings
from ..wan.rope import rotate_time


class Sinks:
    """The sinks as they stood when they were committed, to be moved from there; owned, as the cache, by one stream.

    Their keys, and where they fade, then also their values. Nothing at all where the cache's own slots are enough.
    """

    def __init__(self, settings: StreamSettings, cache: KVCache, layers: Sequence[Tensor] = ()) -> None:
        self._decay, self._follow = settings.sink_decay, settings.rope_positions == "window"
        if not settings.num_sink_frames or not (self._follow or self._decay < 1):
            self.layers: tuple[Tensor, ...] = ()
        elif layers:
            self.layers = tuple(layer.clone() for layer in layers)
        else:
            self.layers = tuple(self._copy(cache.sinks(layer)) for layer in range(cache.shape.num_layers))

    def commit(self, cache: KVCache, num_frames: int) -> None:
        """Commit `num_frames` frames of a pass; then sinks have taken in what left, and stand where they belong."""
        if not self.layers:
            cache.commit(num_frames)
            return
        first, leaving = cache.index.num_committed, cache.index.leaving(num_frames)
        if first < cache.index.num_sinks:  # before any frame fades into them: it may be one of the same pass
            self._take_over(cache, first, min(num_frames, cache.index.num_sinks - first))
        if self._decay < 1:
            for run in leaving:
                self._absorb(cache, run.source, run.slot, run.length)
        cache.commit(num_frames)
        if leaving:
            self.place(cache)

    def at_distance(self, cache: KVCache, layer: int, before: int) -> Tensor:
        """The sinks' keys and values, [2, B, S, N, K], with `before` frames of the stream before the first of them if
        they follow the window; else where they stand.
        """
        slots = cache.sinks(layer)
        if not self.layers or not self._follow:
            return slots
        return torch.stack([rotate_time(slots[0], before - self._shift(cache)), slots[1]])

    def renew(self, cache: KVCache, layer: int, new_2BSNK: Tensor, first: int) -> None:
        """Other frames, from `first` of the stream on, take the sinks' place; then `place` them."""
        length = new_2BSNK.shape[2]
        cache.sinks(layer)[:, :, :length] = new_2BSNK
        if self.layers:
            kept = self.layers[layer]
            moved = torch.stack([rotate_time(new_2BSNK[0], -first), new_2BSNK[1]])
            kept[:, :, :length] = moved[: len(kept)]

    def overwritten(self, cache: KVCache, num_frames: int, *, wholly: bool = False) -> Overwritten:
        """The part of window and sinks that a commit of `num_frames` will overwrite; `wholly`: all of it."""
        kept = cache.overwritten(num_frames, with_sinks=bool(self.layers), wholly=wholly)
        return replace(kept, sinks=tuple(layer.clone() for layer in self.layers))

    def _absorb(self, cache: KVCache, frame: int, sink: int, length: int) -> None:
        tokens = cache.shape.num_tokens
        for layer, kept in enumerate(self.layers):
            into = kept[:, :, sink * tokens : (sink + length) * tokens]
            keys, values = cache.settled(layer, frame, length).to(kept.dtype)
            into.lerp_(torch.stack([rotate_time(keys, sink - frame), values]), 1 - self._decay)

    def _take_over(self, cache: KVCache, first: int, length: int) -> None:
        tokens = cache.shape.num_tokens
        for layer, kept in enumerate(self.layers):
            new = cache.settled(layer, first, length)
            kept[:, :, first * tokens : (first + length) * tokens] = new[: len(kept)]

    def _shift(self, cache: KVCache) -> int:
        """Sink j was committed at j, counted from the stream's beginning, and belongs at j + shift."""
        index = cache.index
        return max(0, index.num_committed - index.capacity - index.num_sinks) if self._follow else 0

    def place(self, cache: KVCache) -> None:
        """Put sinks that move where the next chunk sees them."""
        shift = self._shift(cache)
        for layer, kept in enumerate(self.layers):
            slots = cache.sinks(layer)
            slots[0] = rotate_time(kept[0], shift)
            if self._decay < 1:
                slots[1] = kept[1]

    def _copy(self, slots: Tensor) -> Tensor:
        """In at least float32 where they fade: a thousandth of a frame is lost in bfloat16."""
        if self._decay == 1:
            return slots[:1].clone()
        return slots.to(torch.promote_types(slots.dtype, torch.float32), copy=True)

    def drop(self) -> None:
        """Hold nothing, as before the first commit."""
        for layer in self.layers:
            layer.zero_()

    @property
    def num_bytes(self) -> int:
        return sum(layer.numel() * layer.element_size() for layer in self.layers)
