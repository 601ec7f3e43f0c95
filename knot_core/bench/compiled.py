"""The network's forward, compiled, for as long as a context lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

from ..cache import KVCache
from ..stream import denoise

_MOST_SHAPES = 128


@contextmanager
def compiled_forward(backend: str = "inductor") -> Iterator[None]:
    """torch.compile of the forward. The cache stays outside: its integers change from chunk to chunk.

    Shapes are constant once the window is full, so a warm stream compiles nothing more.
    """
    outside = {name: torch.compiler.disable(getattr(KVCache, name)) for name in ("read", "write")}
    forward = torch.compile(denoise.wan_forward, dynamic=False, backend=backend)
    # until the window is full every chunk has shapes of its own; giving up and running eagerly would pass unnoticed
    limits = torch._dynamo.config.patch(recompile_limit=_MOST_SHAPES, fail_on_recompile_limit_hit=True)
    with limits, mock.patch.multiple(KVCache, **outside), mock.patch.object(denoise, "wan_forward", forward):
        yield
