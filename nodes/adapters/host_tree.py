"""The host's loaded network as `wan_forward` wants to see it: the same names, every layer fed any dtype.

The weights stay where ComfyUI has put them, in whatever format: a layer is asked to compute, never to move. Where a
layer's weights have another dtype than its input, ComfyUI's own casting does it, for that one call.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


class HostTree:
    """A module of the host's network. Its children are wrapped likewise; everything else is the module's own.

    `more` is a second tree of modules that the host's network lacks (audio modules), under their own names.
    """

    def __init__(self, module: nn.Module, more: nn.Module | None = None) -> None:
        self._module, self._more = module, more

    def __getattr__(self, name: str) -> Any:
        """Look up a name that is not known yet; children are looked up once."""
        if name == "weight":
            return None  # as of a layer that takes every dtype: `_apply` sees to it
        found, more = getattr(self._module, name, None), getattr(self._more, name, None)
        if found is None:
            found, more = more, None
        if found is None:
            raise AttributeError(f"{type(self._module).__name__} has no {name}")
        if isinstance(found, nn.Module):
            found = HostTree(found, more)
            setattr(self, name, found)
        return found

    def __getitem__(self, number: int) -> "HostTree":
        return getattr(self, str(range(len(self))[number]))

    def __len__(self) -> int:
        return len(self._module)

    def __iter__(self) -> Iterator["HostTree"]:
        return (self[number] for number in range(len(self)))

    def __call__(self, x: Tensor) -> Tensor:
        if type(self._module) is nn.Sequential:  # a subclass computes in its own way
            for layer in self:
                x = layer(x)
            return x
        return _apply(self._module, x)


def _apply(layer: nn.Module, x: Tensor) -> Tensor:
    """layer(x), in x's dtype."""
    weight = getattr(layer, "weight", None)
    casts = getattr(layer, "comfy_cast_weights", False) or getattr(layer, "layout_type", None) is not None
    if weight is None or weight.dtype == x.dtype or casts:
        return layer(x)
    if hasattr(layer, "forward_comfy_cast_weights"):
        return layer.forward_comfy_cast_weights(x)
    return layer(x.to(weight.dtype)).to(x.dtype)
