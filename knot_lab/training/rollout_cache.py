"""The streaming cache as training needs it: concatenating, so that gradients flow through keys and values.

Shapes: B batch, L tokens of the pass, S cached tokens, N heads, K head dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from knot_core.attention_cache import Attended
from knot_core.wan.rope import Positions, rotate_time

LayerKV = tuple[Tensor, Tensor]  # keys and values of one layer, [B, S, N, K] each


class RolloutCache:
    """An anchor and a window of the last `num_window_frames` committed frames; no tensor is changed in place.

    An `AttentionCache` that does for a loss what a `KVCache` does for a stream: passes attend to the same, frames leave
    in the same order.
    """

    def __init__(self, *, num_window_frames: int, num_tokens: int) -> None:
        self._num_tokens = num_tokens  # per latent frame
        self._num_window_tokens = num_window_frames * num_tokens
        self._keeps_passes = num_window_frames > 0
        self._anchor: tuple[LayerKV, ...] = ()
        self._window: dict[int, LayerKV] = {}
        self._passed: dict[int, LayerKV] = {}  # the last pass, to be committed

    def place_anchor(self, layers: Sequence[LayerKV], position: Positions) -> None:
        """The reference's keys at position 0 in time, and values, layer by layer; read as if it stood at `position`.

        [B] positions place it differently for each clip of a batch.
        """
        self._anchor = tuple((rotate_time(keys, position), values) for keys, values in layers)

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended:
        if self._keeps_passes:
            self._passed[layer] = (k_BLNK, v_BLNK)
        parts = [(k_BLNK, v_BLNK)]
        if self._anchor:
            parts.append(self._anchor[layer])
        if layer in self._window:
            parts.append(self._window[layer])
        if len(parts) == 1:
            return k_BLNK, v_BLNK, None
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1), None

    def commit(self, num_frames: int) -> None:
        for layer, passed in self._passed.items():
            settled = [part[:, : num_frames * self._num_tokens] for part in passed]
            if layer in self._window:
                settled = [torch.cat(pair, dim=1) for pair in zip(self._window[layer], settled, strict=True)]
            k_BLNK, v_BLNK = (part[:, -self._num_window_tokens :] for part in settled)
            self._window[layer] = (k_BLNK, v_BLNK)
        self._passed = {}

    def fork(self) -> "RolloutCache":
        """An independent continuation of the cache; the tensors are shared and never changed."""
        twin = RolloutCache(num_window_frames=0, num_tokens=self._num_tokens)
        twin._num_window_tokens, twin._keeps_passes = self._num_window_tokens, self._keeps_passes
        twin._anchor, twin._window, twin._passed = self._anchor, dict(self._window), dict(self._passed)
        return twin

    def for_steps(self) -> "RolloutCache":
        """A fork for passes that are never committed. It keeps nothing of them, so their keys and values need no memory
        until the gradient recomputes the activations.
        """
        twin = self.fork()
        twin._keeps_passes, twin._passed = False, {}
        return twin

    def detach(self) -> "RolloutCache":
        """A fork that gradients do not enter."""
        twin = self.fork()
        twin._anchor = tuple((keys.detach(), values.detach()) for keys, values in self._anchor)
        twin._window = {layer: (k.detach(), v.detach()) for layer, (k, v) in self._window.items()}
        return twin
