"""A pass over settled frames that puts its keys and values in the place of those that a window holds of them.

Shapes: B batch, L tokens of the pass, S slots, N heads, K head dim; the 2 are keys and values.
"""

import torch
from torch import Tensor

from ..attention_cache import Attended
from ..cache import KVCache
from .sinks import Sinks


class Recached:
    """An `AttentionCache` of one clean pass over the last `num_frames` settled frames, layer by layer.

    It sees itself, the anchor and, where `kept_sinks` is given, the sinks; that is how many frames of the stream lie
    before sinks and pass, were they one behind the other. Where it is None the pass's first frames become the sinks.
    """

    def __init__(self, cache: KVCache, sinks: Sinks, *, num_frames: int, kept_sinks: int | None) -> None:
        self._cache, self._sinks, self._num_frames, self._kept = cache, sinks, num_frames, kept_sinks

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended:
        new = torch.stack([k_BLNK, v_BLNK])
        seen = [self._cache.anchor(layer), new]
        if self._kept is not None:
            seen.append(self._sinks.at_distance(self._cache, layer, self._kept))
        k_BSNK, v_BSNK = torch.cat(seen, dim=2)
        self._replace(layer, new)
        return k_BSNK, v_BSNK, None

    def commit(self, num_frames: int) -> None:
        """The frames were committed before; sinks that follow go back to where the next chunk wants them."""
        assert num_frames == self._num_frames, f"{num_frames} frames of a pass over {self._num_frames}"
        self._sinks.place(self._cache)

    def _replace(self, layer: int, new: Tensor) -> None:
        """Over the keys and values that the window, or the sinks, hold of these frames."""
        cache, index, tokens = self._cache, self._cache.index, self._cache.shape.num_tokens
        first = index.num_committed - self._num_frames
        if self._kept is None:
            num_sinks = min(index.num_sinks, self._num_frames)
            self._sinks.renew(cache, layer, new[:, :, : num_sinks * tokens], first)
        for frame in range(max(first, index.num_sinks, index.num_committed - index.capacity), index.num_committed):
            offset = (frame - first) * tokens
            cache.settled(layer, frame, 1).copy_(new[:, :, offset : offset + tokens])
