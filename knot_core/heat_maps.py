"""Places that maps of likelihood tell (arXiv 1711.08229)."""

import torch
from torch import Tensor


def mean_places(shares_NLHW: Tensor) -> Tensor:
    """The mean place of shares over the cells of a picture, which need not be all: [N, L, 2], in sides (x, y)"""
    down, across = shares_NLHW.sum(dim=-1), shares_NLHW.sum(dim=-2)
    total = across.sum(dim=-1).clamp_min(1e-6)
    return torch.stack([_mean(across), _mean(down)], dim=-1) / total[..., None]


def _mean(shares: Tensor) -> Tensor:
    centres = (torch.arange(shares.shape[-1], device=shares.device) + 0.5) / shares.shape[-1]
    return (shares * centres).sum(dim=-1)
