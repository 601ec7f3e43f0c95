"""The network's forward, compiled, for as long as a context lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...attention_cache import Attended, AttendedApart, AttentionCache
from ...stream import denoise

_MOST_SHAPES = 128


class _OutsideCache:
    """A cache that the compiled forward calls but does not look into: its integers change from chunk to chunk."""

    def __init__(self, cache: AttentionCache) -> None:
        self._extend = torch.compiler.disable(cache.extend)

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended | AttendedApart:
        return self._extend(layer, k_BLNK, v_BLNK)


@contextmanager
def compiled_forward(backend: str = "inductor") -> Iterator[None]:
    """Within it streams denoise through torch.compile of `wan_forward`.

    Shapes are constant once the window is full, so a warm stream compiles nothing more.
    """
    eager = denoise.wan_forward
    compiled = torch.compile(eager, dynamic=False, backend=backend)

    def forward(network: Any, inputs: Any, context: Any, cache: AttentionCache, **more: Any) -> Tensor:
        return compiled(network, inputs, context, _OutsideCache(cache), **more)

    # until the window is full every chunk has shapes of its own; giving up and running eagerly would pass unnoticed
    with torch._dynamo.config.patch(recompile_limit=_MOST_SHAPES, fail_on_recompile_limit_hit=True):
        denoise.wan_forward = forward
        try:
            yield
        finally:
            denoise.wan_forward = eager
