"""How a leaf of a module tree is fed, ours or a host's."""

import torch
from torch import Tensor, nn


def feed(leaf: nn.Module, x: Tensor, compute_dtype: torch.dtype) -> Tensor:
    """Run a leaf on `x` as it stands where its weights are that precise, or it has none; else on `compute_dtype`."""
    weight = getattr(leaf, "weight", None)
    precise = weight is None or weight.dtype in (torch.float32, torch.float64)
    return leaf(x if precise else x.to(compute_dtype))
