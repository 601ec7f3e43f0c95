"""How a leaf module of a network is called, in our tree or a host's."""

import torch
from torch import Tensor, nn


def feed(leaf: nn.Module, x: Tensor, compute_dtype: torch.dtype) -> Tensor:
    """Run a leaf module on `x` [..., D]: unchanged if its weights are float32 or float64, or it has none; else cast to
    `compute_dtype`.
    """
    weight = getattr(leaf, "weight", None)
    precise = weight is None or weight.dtype in (torch.float32, torch.float64)
    return leaf(x if precise else x.to(compute_dtype))
