"""The student's own stream inside training: the sampler's plan, denoising and commit, with a gradient where it counts.

Self Forcing (arXiv 2506.08009): every chunk is denoised from noise, past its own settled frames; a random step is the
last one, and it alone carries a gradient; what is cached carries none. Knot Forcing (arXiv 2512.21734): the knot enters
as a condition, is fused, and the anchor runs ahead. The fused frames' gradient reaches both predictions of the knot.
Shapes: B clips, F latent frames, S denoising steps, C channels, H W latent size.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from knot_core.config import StreamSettings
from knot_core.geometry import num_tokens
from knot_core.stream.chunk import Conditions, commit_chunk, generate_chunk
from knot_core.stream.denoise import Denoiser, capture
from knot_core.stream.plan import ChunkPlan, first_clock, plan_chunk

from ..data.batch import Given
from ..rng import Dice
from .roles import TrainedModel
from .rollout_cache import RolloutCache


@dataclass(frozen=True, kw_only=True)
class Length:
    """How far a rollout goes. `lead` chunks come before those that are scored: as if the stream had run for a while."""

    chunks: int
    lead: int = 0
    start: int = 0  # the first latent frame's position in the stream
    last_step: int | None = None  # the step that a chunk ends with; None: the schedule's last


def roll_out(
    model: TrainedModel, given: Given, settings: StreamSettings, length: Length, dice: Dice
) -> tuple[Tensor, int]:
    """Stream `lead + chunks` chunks: the frames of the last ones, [B, F, C, H, W], and where, from the first of these
    on, the anchor stood at the end. If gradients are on, each of these chunks' final step carries one.
    """
    learns = torch.is_grad_enabled()
    denoiser = Denoiser.of(model, given.text_BTD, reference_B1CHW=given.reference_B1CHW)
    cache = RolloutCache(
        num_window_frames=settings.num_window_frames, num_tokens=num_tokens(*given.reference_B1CHW.shape[-2:])
    )
    # also where no anchor is used: older autocasts keep what they cast, and so must cast with a gradient first
    anchor = capture(denoiser, given.reference_B1CHW)
    clock, knot = first_clock(settings, length.start), given.reference_B1CHW if settings.start_from_reference else None
    first_scored, parts = length.start + length.lead * settings.num_chunk_frames, []
    for number in range(length.lead + length.chunks):
        plan = _as_far_as(length.last_step, plan_chunk(settings, clock))
        if settings.use_anchor:
            cache.place_anchor(anchor, plan.anchor_position)
        with torch.set_grad_enabled(learns and number >= length.lead):
            conditions = _conditions(denoiser, given, plan, first_scored, knot)
            noise = dice.normal(plan.num_noises, len(plan.positions), *given.reference_B1CHW.shape[2:]).transpose(0, 1)
            x0 = generate_learning_last(denoiser, conditions, plan, noise.to(model.device), cache.for_steps())
        with torch.no_grad():
            commit_chunk(denoiser, conditions, plan, x0.detach(), cache)
            cache.commit(plan.num_frames)
        if number >= length.lead:
            parts.append(x0[:, : plan.num_frames])
        knot, clock = x0[:, plan.num_frames :] if plan.num_knot_frames else None, plan.next_clock
    return torch.cat(parts, dim=1), plan.anchor_position - first_scored


def generate_learning_last(
    denoiser: Denoiser, conditions: Conditions, plan: ChunkPlan, noise_SBFCHW: Tensor, cache: RolloutCache
) -> Tensor:
    """`generate_chunk`, [B, F, C, H, W]; if gradients are on, they are on for its last step alone."""
    learns = torch.is_grad_enabled()

    def before_step(step: int) -> None:
        torch.set_grad_enabled(learns and step + 1 == len(plan.sigmas))

    with torch.no_grad():
        return generate_chunk(denoiser, conditions, plan, noise_SBFCHW, cache, before_step)


def played_frames(first: int, count: int, length: int) -> list[int]:
    """Which frames of a driving of `length` frames a rollout plays: back and forth, so that it never jumps.

    From frame 0 on it plays forward; what leads up to it comes to frame 0 from behind.
    """
    period = max(1, 2 * (length - 1))
    return [min(at % period, period - at % period) if length > 1 else 0 for at in range(first, first + count)]


def _conditions(
    denoiser: Denoiser, given: Given, plan: ChunkPlan, first_scored: int, knot: Tensor | None
) -> Conditions:
    frames = played_frames(plan.start - first_scored, len(plan.positions), given.signal_BFTS.shape[1])
    return Conditions(
        knot_BMCHW=knot,
        rope=denoiser.rope(plan.positions, given.reference_B1CHW.shape[-2:]),
        driving=denoiser.driving(given.signal_BFTS[:, frames], len(frames), starts=plan.start == first_scored),
    )


def _as_far_as(last_step: int | None, plan: ChunkPlan) -> ChunkPlan:
    """The same chunk, whose denoising ends with that step."""
    if last_step is None:
        return plan
    fed = None if plan.timesteps is None else plan.timesteps[: last_step + 1]
    return replace(plan, sigmas=plan.sigmas[: last_step + 1], timesteps=fed)
