"""What the streaming student is trained on: the sampler's own passes, with gradients.

Single frames know their anchor and nothing else. Streams are rolled out chunk by chunk exactly as they run: anchor
running ahead, knot with fusion, window, commit passes. What a chunk sees of the past is the truth with noise at first,
and more and more the student's own settled frames, so that what it meets after an hour is what it has trained on. The
driving determines a frame, so the loss is a plain regression of the clean latents, at the noise levels that a few-step
sampler visits; half of those below 1 are reached from the student's own first prediction, as they are at inference.

Shapes: B clips, F latent frames of a pass, C channels, H W latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from knot_core.config import NetworkConfig, StreamSettings
from knot_core.flow import add_noise, shift_sigma
from knot_core.model import native_dtype
from knot_core.stream.chunk import Conditions, commit_chunk, fused, generate_chunk
from knot_core.stream.denoise import Denoiser, capture
from knot_core.stream.plan import ChunkPlan, first_clock, plan_chunk
from knot_core.wan.model import WanNetwork

from ..data.clips import Clips, choose_references
from ..precision import mixed_precision
from ..recipes import TINY_NETWORK
from .discriminator import Adversary
from .losses import contrast_loss
from .rollout_cache import RolloutCache

_NEAR = 4  # latent pixels each way over which the strength of edges is compared


@dataclass(frozen=True, kw_only=True)
class StudentRecipe:
    """Everything that decides the result of the student's training."""

    network: NetworkConfig = TINY_NETWORK
    settings: StreamSettings = field(default_factory=StreamSettings)
    clips: int = 4
    chunks: int = 5
    alone_clips: int = 16  # clips of a step that trains without a past: only the anchor tells who it is
    alone_frames: int = 6  # single frames of each, apart in time: the reference is encoded once for them all
    alone_sigma: float = 0.85  # share of them drawn at sigma 1
    still: float = 0.7  # share of such steps that take pictures of the many people there are no clips of
    alone_first: float = 0.95  # share of such steps at first: what a past shows is not learnt from the reference
    alone_last: float = 0.3
    steps: int = 4200
    warmup: int = 60
    lr: float = 1.5e-3
    muon_lr: float = 4e-3
    first_sigma: float = 0.5  # share of a stream's chunks drawn at sigma 1, where everything is decided
    turn: tuple[float, float] = (0.7, 0.84)  # shares of the training between which chunks get a past, and it their own
    contrast: float = 0.3  # how much the strength of latents' edges counts
    adversarial: float = 0.0  # how strongly a discriminator pulls, as a share of the regression's gradient
    own_most: float = 0.8  # how often the past is the student's own after the turn
    context_noise: float = 0.12  # most noise added to a true past
    face: float = 5.0  # how much more a latent pixel in the face box counts
    mouth: float = 10.0  # how much more still one where the mouth is
    decay: float = 0.995  # of the averaged weights
    seed: int = 0
    save_every: int = 50
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What the engine's passes need of a model."""

    network: WanNetwork
    config: NetworkConfig
    device: torch.device
    dtype: torch.dtype
    codec: None = None


def singles(
    network: WanNetwork,
    recipe: StudentRecipe,
    frames: Clips,
    references: Tensor,
    rng: torch.Generator,
    adversary: Adversary | None = None,
) -> dict[str, Tensor]:
    """Regress single frames that know their anchor and nothing else; returns the losses."""
    truth, weight = frames.latents.to(recipe.device), _weight(frames, recipe)
    cache = RolloutCache(num_window_frames=0, num_tokens=0)
    ahead = first_clock(recipe.settings).anchor_position
    length = recipe.chunks * recipe.settings.num_chunk_frames
    position = int(torch.randint(ahead or length, (), generator=rng)) + (ahead == 0)  # before the anchor, or after it
    signal = given_signal(frames, rng).to(recipe.device)
    with mixed_precision(recipe.device):
        denoiser = _denoiser(network, recipe)
        anchor = capture(denoiser, references.to(recipe.device))
        repeats = len(truth) // len(references)
        anchor = [(k.repeat_interleave(repeats, 0), v.repeat_interleave(repeats, 0)) for k, v in anchor]
        cache.place_anchor(anchor, ahead)
        conditions = _conditions(denoiser, (position,), None, signal, truth.shape[-2:])
        noise = torch.randn(truth.shape, generator=rng).to(truth.device)
        sigma = _sigmas(recipe, recipe.alone_sigma, *truth.shape[:2], rng).to(truth.device)
        plan = _with_steps(plan_chunk(recipe.settings, first_clock(recipe.settings)), sigma)
        x0 = generate_chunk(denoiser, conditions, plan, add_noise(truth, noise, sigma)[None], cache)
    loss = ((x0 - truth).square() * weight).mean()
    losses = {"alone": loss.detach()}
    loss = loss + _contrast(recipe, x0, truth, weight)
    if adversary is not None:
        loss = adversary.opposed(loss, x0, truth, weight, rng)
    return losses | {"loss": loss}


def rollout(  # noqa: PLR0913, PLR0917 - a clip, how far, on whose past, against whom
    network: WanNetwork,
    recipe: StudentRecipe,
    batch: Clips,
    chunks: int,
    own: float,
    rng: torch.Generator,
    adversary: Adversary | None = None,
) -> dict[str, Tensor]:
    """Stream a batch of clips and regress every chunk; returns the losses."""
    signal, reference = given_signal(batch, rng).to(recipe.device), pick_reference(batch, rng).to(recipe.device)
    truth, weight = batch.latents.to(recipe.device), _weight(batch, recipe)
    tokens = truth.shape[-2] * truth.shape[-1] // 4
    cache = RolloutCache(num_window_frames=recipe.settings.num_window_frames, num_tokens=tokens)
    losses, sums, knot = [], [], reference if recipe.settings.start_from_reference else None
    with mixed_precision(recipe.device):
        denoiser = _denoiser(network, recipe)
        # also where no anchor is used: older autocasts keep what they cast, and so must cast with a gradient first
        anchor, clock, position = capture(denoiser, reference), first_clock(recipe.settings), None
        for _ in range(chunks):
            plan = plan_chunk(recipe.settings, clock)
            if recipe.settings.use_anchor and position != plan.anchor_position:
                position = plan.anchor_position
                cache.place_anchor(anchor, position)
            here = slice(plan.positions.start, plan.positions.stop)
            positions = plan.positions[: signal[:, here].shape[1]]
            conditions = _conditions(denoiser, positions, knot, signal[:, here], truth.shape[-2:])
            x0 = denoise_once(denoiser, conditions, plan, truth[:, here], recipe, cache, rng)
            loss = ((x0 - truth[:, here]).square() * weight[:, here]).mean()
            losses.append(loss.detach())
            loss = loss + _contrast(recipe, x0, truth[:, here], weight[:, here])
            if adversary is not None:
                loss = adversary.opposed(loss, x0, truth[:, here], weight[:, here], rng)
            sums.append(loss)
            settled = fused(plan, conditions.knot_BMCHW, x0.detach())
            past = _past(truth[:, here], settled, own, recipe.context_noise, rng)
            knot = past[:, plan.num_frames :] if plan.num_knot_frames else None
            if torch.rand((), generator=rng) < 0.1:
                knot = None  # knot 0 is a setting too
            clock = plan.next_clock
            if len(losses) < chunks:
                commit_chunk(denoiser, conditions, plan, past, cache)
                cache.commit(plan.num_frames)
    return {"loss": torch.stack(sums).mean(), "first": losses[0], "last": losses[-1]}


def denoise_once(  # noqa: PLR0913, PLR0917 - a chunk's parts, and how its noise level is drawn
    denoiser: Denoiser,
    conditions: Conditions,
    plan: ChunkPlan,
    truth: Tensor,
    recipe: StudentRecipe,
    cache: RolloutCache,
    rng: torch.Generator,
) -> Tensor:
    """The clean latents that the network sees in a chunk at one noise level, with gradient; the knot is not fused in.

    What is noised is the truth, or in half of the cases the network's own prediction from noise alone.
    """
    noise, device = torch.randn(truth.shape, generator=rng).to(truth.device), truth.device
    sigma = _sigmas(recipe, recipe.first_sigma, *truth.shape[:2], rng).to(device)
    if torch.rand((), generator=rng) < 0.5:
        again = torch.randn(truth.shape, generator=rng).to(device)
        plan, noises = _with_steps(plan, 1.0, sigma), torch.stack([noise, again])
    else:
        plan, noises = _with_steps(plan, sigma), add_noise(truth, noise, sigma)[None]
    return generate_learning_last(denoiser, conditions, plan, noises, cache)


def generate_learning_last(
    denoiser: Denoiser, conditions: Conditions, plan: ChunkPlan, noise_SBFCHW: Tensor, cache: RolloutCache
) -> Tensor:
    """`generate_chunk`; if gradients are on, they are so for its last step alone."""
    learns = torch.is_grad_enabled()

    def before_step(step: int) -> None:
        torch.set_grad_enabled(learns and step + 1 == len(plan.sigmas))

    with torch.no_grad():
        return generate_chunk(denoiser, conditions, plan, noise_SBFCHW, cache, before_step)


def _with_steps(plan: ChunkPlan, *sigmas: float | Tensor) -> ChunkPlan:
    """The same chunk at other noise levels, its prediction as the network makes it."""
    return replace(plan, sigmas=sigmas, timesteps=None, sampler="renoise", fusion=0.0)


def given_signal(batch: Clips, rng: torch.Generator) -> Tensor:
    """The driving signal [B, F, 4, 75] with parts left out at random: pose, mouth controls, speech; or all of them."""
    B = len(batch.latents)
    pose = torch.rand(B, generator=rng) < 0.95
    mouth = torch.rand(B, generator=rng) < torch.where(batch.speaking > 0, 0.35, 0.9)
    speech = (batch.speaking > 0) & (torch.rand(B, generator=rng) < torch.where(mouth, 0.5, 0.95))
    flags = torch.stack([speech, pose, mouth], dim=-1).float()[:, None, None].expand(*batch.mel.shape[:3], 3)
    is_mouth = torch.zeros(8, dtype=torch.bool)
    is_mouth[5:7] = True
    keep = torch.where(is_mouth, mouth[:, None], pose[:, None]).float()[:, None, None]
    return torch.cat([batch.mel * speech.float()[:, None, None, None], batch.controls * keep, flags], dim=-1)


def pick_reference(batch: Clips, rng: torch.Generator) -> Tensor:
    """One reference latent [B, 1, C, H, W] per clip."""
    rows = choose_references(*batch.references.shape[:2], rng)
    return batch.references[torch.arange(len(rows)), rows][:, None]


def _denoiser(network: WanNetwork, recipe: StudentRecipe) -> Denoiser:
    device = torch.device(recipe.device)
    model = TrainedModel(network, recipe.network, device, native_dtype(device))
    return Denoiser.of(model, torch.zeros(1, 1, recipe.network.text_dim))


def _contrast(recipe: StudentRecipe, x0: Tensor, truth: Tensor, weight: Tensor) -> Tensor | float:
    return recipe.contrast * contrast_loss(x0, truth, weight, _NEAR) if recipe.contrast else 0.0


def _weight(batch: Clips, recipe: StudentRecipe) -> Tensor:
    """How much each latent pixel counts [B, F, 1, H, W]; 1 in the mean."""
    weight = 1 + recipe.face * batch.face + recipe.mouth * mouth_part(batch.face)
    weight = weight[:, :, None].to(recipe.device)
    return weight / weight.mean()


def mouth_part(face: Tensor) -> Tensor:
    """The part of a face box [..., h, w] where the mouth is: its lower two fifths, the middle half of its width."""
    rows, columns = ((side.cumsum(dim=-1) - side / 2) / side.sum(dim=-1, keepdim=True).clamp_min(1e-6)
                     for side in (face.amax(dim=-1), face.amax(dim=-2)))  # fmt: skip
    return face * (rows > 0.6)[..., :, None] * ((columns - 0.5).abs() < 0.25)[..., None, :]


def _sigmas(recipe: StudentRecipe, at_one: float, B: int, F: int, rng: torch.Generator) -> Tensor:
    """Noise levels [B, F]: 1 for a share of the clips, for the others one that a few-step sampler visits."""
    levels = torch.rand(B, generator=rng) * 0.9 + 0.1
    levels = torch.tensor([shift_sigma(float(level), recipe.settings.shift) for level in levels])
    first = torch.rand(B, generator=rng) < at_one
    return torch.where(first, torch.ones(B), levels)[:, None].expand(B, F)


def _conditions(
    denoiser: Denoiser, positions: Sequence[int], knot: Tensor | None, signal: Tensor, latent_size: tuple[int, int]
) -> Conditions:
    driving = denoiser.driving(signal, len(positions), starts=positions[0] == 0)
    return Conditions(knot_BMCHW=knot, rope=denoiser.rope(positions, latent_size), driving=driving)


def _past(truth: Tensor, settled: Tensor, own: float, noise: float, rng: torch.Generator) -> Tensor:
    """What the next chunk will know of this one: per clip the student's own frames, or the truth with some noise."""
    shape = (len(truth), 1, 1, 1, 1)
    strength = noise * torch.rand(shape, generator=rng) * torch.randn(truth.shape, generator=rng)
    mine = torch.rand(shape, generator=rng) < own
    return torch.where(mine.to(truth.device), settled, truth + strength.to(truth.device))
