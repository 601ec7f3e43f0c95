"""Rectified flow: the equations, in the dtype of the latents (float32 throughout the engine).

x = (1 - sigma) * x0 + sigma * noise,  velocity = noise - x0,  x0 = x - sigma * velocity.
(Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003.)

`sigma` is a number, or a tensor [B, F] against latents [B, F, C, H, W]: a noise level per latent frame.
"""

from functools import lru_cache
from typing import TypeVar

import torch
from einops import rearrange
from torch import Tensor

from .config import StreamSettings

Level = TypeVar("Level", float, Tensor)  # one noise level, or many

NUM_TIMESTEPS = 1000  # the network is fed timestep = 1000 * sigma


def per_frame(sigma: Tensor | float) -> Tensor | float:
    """A level per latent frame against [B, F, C, H, W]."""
    return rearrange(sigma, "b f -> b f 1 1 1") if isinstance(sigma, Tensor) else sigma


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """x = (1 - sigma) * x0 + sigma * noise, [B, F, C, H, W]; `sigma` a number or [B, F]"""
    sigma = per_frame(sigma)
    return (1 - sigma) * x0 + sigma * noise


def to_x0(x: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    """x0 = x - sigma * velocity, [B, F, C, H, W]; `sigma` a number or [B, F]"""
    return x - per_frame(sigma) * velocity


def to_velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """velocity = noise - x0, [B, F, C, H, W]: the training target"""
    return noise - x0


def to_timestep(sigma: Tensor) -> Tensor:
    """timestep = 1000 * sigma, of the same shape, [...]"""
    return NUM_TIMESTEPS * sigma


def fuse(knot: Tensor, x0: Tensor, weight: float) -> Tensor:
    """x0[:k] = (1 - weight) * x0[:k] + weight * knot, over the knot's k frames (Knot Forcing, eq. 5: weight 1/2).

    `knot` is [B, k, C, H, W]; `x0` and the result are [B, F, C, H, W].
    """
    num_known = knot.shape[1]
    return torch.cat([torch.lerp(x0[:, :num_known], knot, weight), x0[:, num_known:]], dim=1)


def shift_sigma(sigma: Level, shift: float) -> Level:
    """shift * sigma / (1 + (shift - 1) * sigma): more steps at high noise (Esser et al., arXiv 2403.03206)"""
    return shift * sigma / (1 + (shift - 1) * sigma)


def schedule(steps: int, shift: float) -> tuple[float, ...]:
    """`steps` noise levels, descending from 1, evenly spaced before the shift; the last step goes to 0."""
    return tuple(shift_sigma(1 - step / steps, shift) for step in range(steps))


@lru_cache(maxsize=16)
def sigma_table(shift: float) -> tuple[float, ...]:
    """The 1000 levels that such a table has, highest first: u = 1, .999, ... .001, shifted."""
    return schedule(NUM_TIMESTEPS, shift)


def nearest_level(timestep: float, shift: float) -> float:
    """The sigma of the table's row that is nearest to a timestep (CausVid, StreamDiffusionV2, Krea): of 757 at shift 8
    it is .75676, and of 0 the lowest row's.
    """
    return min(sigma_table(shift), key=lambda sigma: abs(NUM_TIMESTEPS * sigma - timestep))


def noise_levels(settings: StreamSettings, *, first_chunk: bool = False) -> tuple[float, ...]:
    """The sigmas that a chunk is denoised at: of the settings' explicit timesteps, or else of steps and shift."""
    explicit = _explicit(settings, first_chunk)
    if settings.sigma_table:
        fed = explicit or tuple(NUM_TIMESTEPS * sigma for sigma in schedule(settings.steps, settings.shift))
        return tuple(nearest_level(timestep, settings.shift) for timestep in fed)
    if explicit:
        return tuple(timestep / NUM_TIMESTEPS for timestep in explicit)
    return schedule(settings.steps, settings.shift)


def own_timesteps(settings: StreamSettings, *, first_chunk: bool = False) -> tuple[float, ...] | None:
    """The timesteps, if they are not 1000 * sigma: explicit ones, beside the noise levels of a table."""
    return (_explicit(settings, first_chunk) or None) if settings.sigma_table else None


def timesteps(settings: StreamSettings, *, first_chunk: bool = False, dtype: str = "float32") -> tuple[float, ...]:
    """The timesteps of each step of a chunk, rounded to the network's timestep_dtype."""
    fed = own_timesteps(settings, first_chunk=first_chunk)
    if fed is None:
        fed = tuple(NUM_TIMESTEPS * sigma for sigma in noise_levels(settings, first_chunk=first_chunk))
    return tuple(round_timestep(torch.tensor(fed, dtype=torch.float64), dtype).tolist())


def _explicit(settings: StreamSettings, first_chunk: bool) -> tuple[float, ...]:
    return (settings.first_timesteps if first_chunk else ()) or settings.timesteps


def round_timestep(timestep: Tensor, dtype: str) -> Tensor:
    """Round [...] to what a network of this timestep_dtype is fed: bfloat16 makes 937.5 to 936. The tensor keeps its
    dtype.
    """
    return timestep.to(torch.bfloat16).to(timestep.dtype) if dtype == "bfloat16" else timestep
