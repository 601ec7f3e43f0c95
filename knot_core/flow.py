"""Rectified flow: the equations, in the dtype of the latents (float32 throughout the engine).

x = (1 - sigma) * x0 + sigma * noise,  velocity = noise - x0,  x0 = x - sigma * velocity.
(Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003.)

`sigma` is a number, or a tensor [B, F] against latents [B, F, C, H, W]: a noise level per latent frame.
"""

import torch
from einops import rearrange
from torch import Tensor

NUM_TIMESTEPS = 1000  # the network is fed timestep = 1000 * sigma


def _per_frame(sigma: Tensor | float) -> Tensor | float:
    return rearrange(sigma, "b f -> b f 1 1 1") if isinstance(sigma, Tensor) else sigma


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """x = (1 - sigma) * x0 + sigma * noise"""
    sigma = _per_frame(sigma)
    return (1 - sigma) * x0 + sigma * noise


def to_x0(x: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    """x0 = x - sigma * velocity"""
    return x - _per_frame(sigma) * velocity


def to_velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """velocity = noise - x0: what the network learns to predict"""
    return noise - x0


def to_timestep(sigma: Tensor) -> Tensor:
    """timestep = 1000 * sigma"""
    return NUM_TIMESTEPS * sigma


def fuse(knot: Tensor, x0: Tensor, weight: float) -> Tensor:
    """x0[:k] = (1 - weight) * x0[:k] + weight * knot, over the knot's frames (Knot Forcing, eq. 5: weight 1/2)"""
    num_known = knot.shape[1]
    return torch.cat([torch.lerp(x0[:, :num_known], knot, weight), x0[:, num_known:]], dim=1)


def shift_sigma(sigma: float, shift: float) -> float:
    """shift * sigma / (1 + (shift - 1) * sigma): more steps at high noise (Esser et al., arXiv 2403.03206)"""
    return shift * sigma / (1 + (shift - 1) * sigma)


def schedule(steps: int, shift: float) -> tuple[float, ...]:
    """`steps` noise levels, descending from 1, evenly spaced before the shift; the last step goes to 0."""
    return tuple(shift_sigma(1 - step / steps, shift) for step in range(steps))
