"""The two scales of Wan 2.1 latents: what the VAE makes, and what networks are trained on.

Shapes: B batch, F latent frames, C = 16 channels, H W latent size.
"""

import torch
from einops import rearrange
from torch import Tensor

# Mean and standard deviation of the VAE's latents, channel by channel; published with Wan2.1's VAE.
WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


def denormalise(latents_BFCHW: Tensor) -> Tensor:
    """z * std + mean, [B, F, C, H, W]: from the latents of networks to those that the VAE decodes; float32 or
    better.
    """
    precise, mean, std = _precise(latents_BFCHW)
    return precise * std + mean


def normalise(latents_BFCHW: Tensor) -> Tensor:
    """(z - mean) / std, [B, F, C, H, W]: the inverse of `denormalise`."""
    precise, mean, std = _precise(latents_BFCHW)
    return (precise - mean) / std


def _precise(latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    precise = latents.to(torch.promote_types(latents.dtype, torch.float32))
    mean, std = (rearrange(precise.new_tensor(values), "c -> c 1 1") for values in (WAN_MEAN, WAN_STD))
    return precise, mean, std
