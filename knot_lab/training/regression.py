"""Training passes of the streaming student: the sampler's own passes, with gradients.

Single frames know their anchor and nothing else. Streams are rolled out chunk by chunk exactly as they run: anchor
running ahead, knot with fusion, window, commit passes. What a chunk sees of the past is the truth with noise at first,
and more and more the student's own settled frames, so that what it meets after an hour is what it has trained on. The
driving determines a frame, so the loss is a plain regression of the clean latents, at the noise levels that a few-step
sampler visits; half of those below 1 are reached from the student's own first prediction, as they are at inference.

Shapes: B clips or single frames, F latent frames of a pass, C channels, H W latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from knot_core.config import StreamSettings
from knot_core.flow import add_noise, shift_sigma
from knot_core.geometry import num_tokens
from knot_core.stream.chunk import Conditions, commit_chunk, fused, generate_chunk
from knot_core.stream.denoise import Denoiser, capture
from knot_core.stream.plan import ChunkPlan, first_clock, plan_chunk

from ..data.batch import Batch
from ..rng import Dice
from ..stage_recipes import RegressionRecipe
from .judges import NOBODY, Judges
from .landmark_judge import landmarks_apart
from .losses import contrast_loss
from .roles import TrainedModel
from .rollout_cache import RolloutCache
from .self_forcing import generate_learning_last

WITHOUT_KNOT = 0.1  # share of a stream's chunks: a knot of 0 frames is a setting, too
_NEAR = 4  # latent pixels each way over which the strength of edges is compared


def regression_loss(
    model: TrainedModel,
    batch: Batch,
    settings: StreamSettings,
    own: RegressionRecipe,
    dice: Dice,
    judges: Judges = NOBODY,
) -> dict[str, Tensor]:
    """The regression losses of single frames, or of clips that are streamed."""
    if batch.truth_BFCHW.shape[1] == 1:
        return frames_loss(model, batch, settings, own, dice, judges)
    return stream_loss(model, batch, settings, own, dice, judges)


def frames_loss(
    model: TrainedModel,
    batch: Batch,
    settings: StreamSettings,
    own: RegressionRecipe,
    dice: Dice,
    judges: Judges = NOBODY,
) -> dict[str, Tensor]:
    """Regress single frames that know their anchor and nothing else."""
    truth, references = batch.truth_BFCHW, batch.given.reference_B1CHW
    cache = RolloutCache(num_window_frames=0, num_tokens=0)
    ahead = first_clock(settings).anchor_position
    length = own.chunks * settings.num_chunk_frames
    position = dice.shared_below(ahead or length) + (ahead == 0)  # before the anchor, or after it
    denoiser = Denoiser.of(model, batch.given.text_BTD)
    anchor = capture(denoiser, references)
    repeats = len(truth) // len(references)
    anchor = [(k.repeat_interleave(repeats, 0), v.repeat_interleave(repeats, 0)) for k, v in anchor]
    cache.place_anchor(anchor, ahead)
    conditions = _conditions(denoiser, (position,), None, batch.given.signal_BFTS, truth.shape[-2:])
    noise = dice.normal(*truth.shape[1:]).to(truth)
    sigma = _sigmas(own.alone_sigma, truth, settings, dice)
    plan = _with_steps(plan_chunk(settings, first_clock(settings)), sigma)
    x0 = generate_chunk(denoiser, conditions, plan, add_noise(truth, noise, sigma)[None], cache)
    loss, plain = _loss(x0, truth, batch.weight_BF1HW, own, dice, judges)
    return {"loss": loss, "alone": plain}


def stream_loss(
    model: TrainedModel,
    batch: Batch,
    settings: StreamSettings,
    own: RegressionRecipe,
    dice: Dice,
    judges: Judges = NOBODY,
) -> dict[str, Tensor]:
    """Stream a batch of clips and regress every chunk."""
    truth, weight, signal = batch.truth_BFCHW, batch.weight_BF1HW, batch.given.signal_BFTS
    reference, tokens = batch.given.reference_B1CHW, num_tokens(*truth.shape[-2:])
    cache = RolloutCache(num_window_frames=settings.num_window_frames, num_tokens=tokens)
    sums, plain, knot = [], [], reference if settings.start_from_reference else None
    denoiser = Denoiser.of(model, batch.given.text_BTD)
    # also where no anchor is used: older autocasts keep what they cast, and so must cast with a gradient first
    anchor, clock, position = capture(denoiser, reference), first_clock(settings), None
    for number in range(own.chunks):
        plan = plan_chunk(settings, clock)
        if settings.use_anchor and position != plan.anchor_position:
            position = plan.anchor_position
            cache.place_anchor(anchor, position)
        here = slice(plan.positions.start, plan.positions.stop)
        positions = plan.positions[: signal[:, here].shape[1]]
        conditions = _conditions(denoiser, positions, knot, signal[:, here], truth.shape[-2:])
        x0 = denoise_once(denoiser, conditions, plan, truth[:, here], settings, own, cache, dice)
        for kept, value in zip(
            (sums, plain), _loss(x0, truth[:, here], weight[:, here], own, dice, judges), strict=True
        ):
            kept.append(value)
        past = _past(truth[:, here], fused(plan, knot, x0.detach()), own, dice)
        knot = past[:, plan.num_frames :] if plan.num_knot_frames else None
        if dice.shared_uniform() < WITHOUT_KNOT:
            knot = None
        clock = plan.next_clock
        if number + 1 < own.chunks:
            commit_chunk(denoiser, conditions, plan, past, cache)
            cache.commit(plan.num_frames)
    return {"loss": torch.stack(sums).mean(), "first": plain[0], "last": plain[-1]}


def denoise_once(  # noqa: PLR0913, PLR0917 - a chunk, how it is streamed, and what is drawn for it
    denoiser: Denoiser,
    conditions: Conditions,
    plan: ChunkPlan,
    truth: Tensor,
    settings: StreamSettings,
    own: RegressionRecipe,
    cache: RolloutCache,
    dice: Dice,
) -> Tensor:
    """The clean latents that the network predicts in a chunk at one noise level, [B, F, C, H, W], with gradient; the
    knot is not fused in.

    The noised latents are the truth, [B, F, C, H, W], or in half of the cases the network's own prediction from pure
    noise.
    """
    noise = dice.normal(*truth.shape[1:]).to(truth)
    sigma = _sigmas(own.first_sigma, truth, settings, dice)
    if dice.shared_uniform() < 0.5:
        again = dice.normal(*truth.shape[1:]).to(truth)
        plan, noises = _with_steps(plan, 1.0, sigma), torch.stack([noise, again])
    else:
        plan, noises = _with_steps(plan, sigma), add_noise(truth, noise, sigma)[None]
    return generate_learning_last(denoiser, conditions, plan, noises, cache)


def _with_steps(plan: ChunkPlan, *sigmas: float | Tensor) -> ChunkPlan:
    """The same chunk at other noise levels, its prediction as the network makes it."""
    return replace(plan, sigmas=sigmas, timesteps=None, sampler="renoise", fusion=0.0)


def _loss(
    x0: Tensor, truth: Tensor, weight: Tensor, own: RegressionRecipe, dice: Dice, judges: Judges
) -> tuple[Tensor, Tensor]:
    """The whole loss, and the regression's part of it without a gradient."""
    loss = ((x0 - truth).square() * weight).mean()
    plain = loss.detach()
    if own.contrast:
        loss = loss + own.contrast * contrast_loss(x0, truth, weight, _NEAR)
    if judges.code is not None:
        loss = loss + own.landmarks * landmarks_apart(judges.code, x0, truth)
    if judges.adversary is not None:
        loss = judges.adversary.opposed(loss, x0, truth, weight, dice)
    return loss, plain


def _sigmas(at_one: float, truth: Tensor, settings: StreamSettings, dice: Dice) -> Tensor:
    """Noise levels [B, F]: 1 for a share of the clips, for the others one that a few-step sampler visits."""
    levels = dice.uniform() * 0.9 + 0.1
    levels = torch.tensor([shift_sigma(float(level), settings.shift) for level in levels])
    first = dice.uniform() < at_one
    return torch.where(first, torch.ones(len(truth)), levels)[:, None].expand(truth.shape[:2]).to(truth)


def _conditions(
    denoiser: Denoiser, positions: Sequence[int], knot: Tensor | None, signal: Tensor, latent_size: tuple[int, int]
) -> Conditions:
    driving = denoiser.driving(signal, len(positions), starts=positions[0] == 0)
    return Conditions(knot_BMCHW=knot, rope=denoiser.rope(positions, latent_size), driving=driving)


def _past(truth: Tensor, settled: Tensor, own: RegressionRecipe, dice: Dice) -> Tensor:
    """The past that the next chunk sees: per clip the student's own frames, or the truth with some noise."""
    strength = own.past_noise * dice.uniform(1, 1, 1, 1) * dice.normal(*truth.shape[1:])
    mine = dice.uniform(1, 1, 1, 1) < own.own_most * own.turned(dice.step)
    return torch.where(mine.to(truth.device), settled, truth + strength.to(truth))
