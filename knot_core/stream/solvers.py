"""From a step's prediction to the next step's latents.

Shapes: S denoising steps, B batch, F latent frames, C channels, H W latent size.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from ..config import StreamSettings
from ..errors import SettingsError
from ..flow import Level, add_noise, per_frame

_HIGHEST = 1 - 1e-6  # at 1 the ratio of signal to noise has no logarithm


class Solver(Protocol):
    """A solver for one chunk, called once after every step but the last."""

    def next(self, x_BFCHW: Tensor, x0_BFCHW: Tensor, velocity_BFCHW: Tensor, step: int, sigma: Level) -> Tensor:
        """Latents [B, F, C, H, W] of step + 1, at noise level `sigma`; `x0` and `velocity` are predicted from `x`."""


class Renoise:
    """x = (1 - sigma) * x0 + sigma * fresh noise, all [B, F, C, H, W]: how few-step students are trained."""

    def __init__(self, noise_SBFCHW: Tensor) -> None:
        self._noise = noise_SBFCHW

    def next(self, x_BFCHW: Tensor, x0_BFCHW: Tensor, velocity_BFCHW: Tensor, step: int, sigma: Level) -> Tensor:  # noqa: ARG002
        return add_noise(x0_BFCHW, self._noise[step + 1], sigma)


class Euler:
    """x = x0 + sigma * velocity, all [B, F, C, H, W], along the path that the network predicts."""

    def next(self, x_BFCHW: Tensor, x0_BFCHW: Tensor, velocity_BFCHW: Tensor, step: int, sigma: Level) -> Tensor:  # noqa: ARG002
        return x0_BFCHW + per_frame(sigma) * velocity_BFCHW


class UniPC:
    """Diffusers' multistep solver of order 2 (Zhao et al., arXiv 2302.04867), on [B, F, C, H, W]."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        kind = _diffusers().UniPCMultistepScheduler
        self._scheduler = kind(prediction_type="flow_prediction", use_flow_sigmas=True)
        self._scheduler.set_timesteps(len(sigmas))
        self._scheduler.sigmas = torch.tensor([*(min(sigma, _HIGHEST) for sigma in sigmas), 0.0])
        self._scheduler.timesteps = 1000 * self._scheduler.sigmas[:-1]
        self._scheduler.set_begin_index(0)

    def next(self, x_BFCHW: Tensor, x0_BFCHW: Tensor, velocity_BFCHW: Tensor, step: int, sigma: Level) -> Tensor:  # noqa: ARG002
        return self._scheduler.step(velocity_BFCHW, self._scheduler.timesteps[step], x_BFCHW).prev_sample


def solver(sampler: str, noise_SBFCHW: Tensor, sigmas: Sequence[float]) -> Solver:
    """The solver of one chunk.

    Raises:
        SettingsError: the sampler is unipc, and diffusers does not import.
    """
    if sampler == "euler":
        return Euler()
    return UniPC(sigmas) if sampler == "unipc" else Renoise(noise_SBFCHW)


def check_sampler(settings: StreamSettings) -> None:
    """Check that the settings' sampler can be used.

    Raises:
        SettingsError: the sampler is unipc, and diffusers does not import.
    """
    if settings.sampler == "unipc":
        _diffusers()


def _diffusers() -> ModuleType:
    try:
        import diffusers
    except ImportError as problem:
        raise SettingsError(
            f"the sampler unipc is diffusers', which does not import ({problem}); pip install diffusers, or set "
            "sampler to euler"
        ) from problem
    return diffusers
