"""The bidirectional network: a clip at once, every frame seeing every other and the reference.

In the stream's terms it is one chunk as long as the clip, without a window, under an anchor that stands on the clip's
last frame or later. So teacher, critic and student are the same network with the same inputs.
Shapes: B clips, F latent frames, M known latent frames, C channels, H W latent size.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from knot_core.flow import add_noise, noise_levels, schedule, shift_sigma, to_x0
from knot_core.stream.denoise import Denoiser, Frames, capture
from knot_core.wan.layouts import Layout, get_layout

from ..data.batch import Batch, Given
from ..recipes import Recipe
from ..rng import Dice
from .losses import guide, inpainting_loss
from .roles import TrainedModel
from .rollout_cache import RolloutCache


def clip_velocity(
    model: TrainedModel, given: Given, x_BFCHW: Tensor, sigma_BF: Tensor, known_BMCHW: Tensor | None = None
) -> Tensor:
    """The velocity of every frame of a clip, [B, F, C, H, W]."""
    denoiser = Denoiser.of(model, given.text_BTD, reference_B1CHW=given.reference_B1CHW)
    cache = RolloutCache(num_window_frames=0, num_tokens=0)
    cache.place_anchor(capture(denoiser, given.reference_B1CHW), given.reference_position_B)
    num_frames = x_BFCHW.shape[1]
    frames = Frames(
        x_BFCHW=x_BFCHW,
        sigma_BF=sigma_BF,
        known_BMCHW=known_BMCHW,
        rope=denoiser.rope(range(num_frames), x_BFCHW.shape[-2:]),
        driving=denoiser.driving(given.signal_BFTS[:, :num_frames], num_frames, starts=True),
    )
    return denoiser.velocity(frames, cache)


def clip_x0(model: TrainedModel, given: Given, x_BFCHW: Tensor, sigma_B: Tensor, guidance: float = 1.0) -> Tensor:
    """The clean clip, [B, F, C, H, W], that the network predicts from a noisy one, with guidance by what is given."""
    sigma_BF = sigma_B[:, None].expand(x_BFCHW.shape[:2])
    velocity = clip_velocity(model, given, x_BFCHW, sigma_BF)
    if guidance != 1:
        velocity = guide(velocity, clip_velocity(model, given.without_driving(), x_BFCHW, sigma_BF), guidance)
    return to_x0(x_BFCHW, velocity.float(), sigma_BF)


def teacher_loss(model: TrainedModel, batch: Batch, recipe: Recipe, dice: Dice) -> dict[str, Tensor]:
    """Flow matching of a whole clip; of some, the first frames are known, as a knot is."""
    x0 = batch.truth_BFCHW[:, : recipe.clip_frames]
    noise, sigma_B = dice.normal(*x0.shape[1:]).to(x0), noise_level(dice.uniform(), recipe.stream.shift).to(x0)
    num_known = recipe.stream.num_knot_frames if dice.shared_uniform() < recipe.known else 0
    known = x0[:, :num_known] if num_known else None
    layout = get_layout(model.config.layout)
    sigma_BF = layout.frame_sigmas(sigma_B[:, None].expand(x0.shape[:2]), num_known)
    x = layout.pin(add_noise(x0, noise, sigma_B[:, None].expand(x0.shape[:2])), known)
    velocity = clip_velocity(model, batch.given, x, sigma_BF, known)
    return {"loss": inpainting_loss(velocity, x0, noise, learnt_frames(layout, sigma_BF, num_known))}


def learnt_frames(layout: Layout, sigma_BF: Tensor, num_known: int) -> Tensor:
    """1 for frames to predict, 0 for those that the layout pins to known latents: [B, F]."""
    known = sigma_BF.new_zeros(len(sigma_BF), num_known, 1, 1, 1)
    return layout.pin(torch.ones_like(sigma_BF)[..., None, None, None], known)[..., 0, 0, 0]


def noise_level(uniform: Tensor, shift: float, low: float = 0.02, high: float = 0.98) -> Tensor:
    """Noise levels of training, [B], from uniform numbers [B]: even between `low` and `high`, then shifted as the
    schedule is.
    """
    return shift_sigma(low + (high - low) * uniform, shift)


def follow_ode(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, sigmas: Sequence[float]) -> list[Tensor]:
    """dx/dsigma = velocity from noise [B, F, C, H, W] to a clip by Euler's method; x at each of `sigmas`, and at 0."""
    path = [noise]
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        path.append(path[-1] + (after - sigma) * velocity(path[-1], sigma))
    return path


@torch.no_grad()
def teacher_path(model: TrainedModel, given: Given, noise_BFCHW: Tensor, recipe: Recipe) -> list[Tensor]:
    """Latents [B, F, C, H, W] on the teacher's ODE at each of the stream's noise levels, and its clip at the end."""

    def velocity(x: Tensor, sigma: float) -> Tensor:
        x0 = clip_x0(model, given, x, x.new_full(x.shape[:1], sigma), recipe.distill.guidance)
        return (x - x0) / sigma

    wanted = noise_levels(recipe.stream)
    sigmas = sorted({*wanted, *schedule(recipe.causal.ode_steps, recipe.stream.shift)}, reverse=True)
    path = follow_ode(velocity, noise_BFCHW, sigmas)
    return [*(path[sigmas.index(sigma)] for sigma in wanted), path[-1]]
