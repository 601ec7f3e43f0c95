"""The streaming cache as training needs it: concatenating, so that gradients flow through keys and values.

Shapes: B batch, L tokens of the pass, S cached tokens, N heads, K head dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..wan.rope import Positions, rotate_time

LayerKV = tuple[Tensor, Tensor]  # keys and values of one layer, [B, S, N, K] each


class RolloutCache:
    """An anchor and a window of the last `num_window_frames` committed frames; nothing is changed in place.

    What a `KVCache` does for a stream, one rollout of it does for a loss: same reads, same order of eviction.
    """

    def __init__(self, *, num_window_frames: int, num_tokens: int) -> None:
        self._num_window_tokens = num_window_frames * num_tokens
        self._anchor: tuple[LayerKV, ...] = ()
        self._window: dict[int, LayerKV] = {}

    def place_anchor(self, layers: Sequence[LayerKV], position: Positions) -> None:
        """The reference's keys at position 0 in time, and values, layer by layer; read as if it stood at `position`.

        [B] positions place it differently for each clip of a batch.
        """
        self._anchor = tuple((rotate_time(keys, position), values) for keys, values in layers)

    def read(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> LayerKV:
        parts = [(k_BLNK, v_BLNK)]
        if self._anchor:
            parts.append(self._anchor[layer])
        if layer in self._window:
            parts.append(self._window[layer])
        if len(parts) == 1:
            return parts[0]
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1)

    def write(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> None:
        if self._num_window_tokens == 0:
            return
        old = self._window.get(layer)
        if old is not None:
            k_BLNK, v_BLNK = torch.cat([old[0], k_BLNK], dim=1), torch.cat([old[1], v_BLNK], dim=1)
        self._window[layer] = (k_BLNK[:, -self._num_window_tokens :], v_BLNK[:, -self._num_window_tokens :])

    def fork(self) -> "RolloutCache":
        """A cache that goes on from here on its own; shares the tensors, which nobody changes."""
        twin = RolloutCache(num_window_frames=0, num_tokens=0)
        twin._num_window_tokens = self._num_window_tokens
        twin._anchor, twin._window = self._anchor, dict(self._window)
        return twin

    def detach(self) -> "RolloutCache":
        """A fork that gradients do not enter."""
        twin = self.fork()
        twin._anchor = tuple((keys.detach(), values.detach()) for keys, values in self._anchor)
        twin._window = {layer: (k.detach(), v.detach()) for layer, (k, v) in self._window.items()}
        return twin
