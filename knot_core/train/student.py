"""Train the few-step streaming student: the sampler's own passes, with gradients.

Every step rolls clips out chunk by chunk exactly as a stream runs: anchor running ahead, knot with fusion, window,
commit passes. What the chunk sees of the past is the truth with noise at first, and more and more the student's own
settled frames, so that what it meets after an hour is what it has trained on. The driving determines a clip's frames,
so the loss is a plain regression of the clean latents, at the noise levels that a few-step sampler visits; half of
those below 1 are reached from the student's own first prediction, as they are at inference.

Shapes: B clips, F latent frames of a pass, C channels, H W latent size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..config import AdapterConfig, NetworkConfig, StreamSettings
from ..driving.audio import MEL_DIM
from ..driving.controls import CONTROLS
from ..flow import add_noise, fuse, shift_sigma, to_x0
from ..stream.denoise import Conditions, Denoiser, Frames, capture, commit
from ..stream.plan import ChunkPlan, first_clock, plan_chunk
from ..wan.adapters import DrivingFeatures, encode_driving
from ..wan.checkpoint import open_checkpoint
from ..wan.model import WanNetwork, init_weights
from .cache import RolloutCache
from .clips import Clips
from .common import cosine, load_checkpoint, log_line, save_checkpoint
from .optim import MatrixOptimizer

KNOT_TINY = NetworkConfig(
    dim=256, ffn_dim=1024, num_heads=2, num_layers=8, in_channels=36, layout="inpaint36", adapter=AdapterConfig()
)
_OUTER = ("patch_embedding", "text_embedding", "time_embedding", "time_projection", "head", "audio_proj")


@dataclass(frozen=True, kw_only=True)
class StudentRecipe:
    """Everything that decides the result of the student's training."""

    network: NetworkConfig = KNOT_TINY
    settings: StreamSettings = field(default_factory=StreamSettings)
    clips: int = 4
    chunks: int = 5
    alone_clips: int = 56  # clips of a step that trains without a past: only the anchor tells who it is
    alone_frames: int = 1  # of each: neighbouring frames would teach the same
    alone_first: float = 0.95  # share of such steps at first: what a past shows is not learnt from the reference
    alone_last: float = 0.2
    steps: int = 1950
    warmup: int = 60
    lr: float = 1.5e-3
    muon_lr: float = 4e-3
    first_sigma: float = 0.5  # share of chunks drawn at sigma 1, where everything is decided
    turn: tuple[float, float] = (0.64, 0.8)  # shares of the training between which chunks get a past, and it their own
    own_most: float = 0.8  # how often the past is the student's own after the turn
    context_noise: float = 0.12  # most noise added to a true past
    face: float = 3.0  # how much more a latent pixel in the face box counts
    decay: float = 0.995  # of the averaged weights
    seed: int = 0
    save_every: int = 100
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What the engine's passes need of a model."""

    network: WanNetwork
    config: NetworkConfig
    device: torch.device
    dtype: torch.dtype = torch.bfloat16
    codec: None = None


def train(recipe: StudentRecipe, clips: Clips, folder: Path, start_from: Path | None = None) -> WanNetwork:
    """Train, or go on from the folder's checkpoint; returns the network with averaged weights.

    ``start_from``: a weights file, such as the one that ships, whose network is trained further.
    """
    network = init_weights(WanNetwork(recipe.network), torch.Generator().manual_seed(recipe.seed))
    pass_noise_through(network)
    weigh_signal(network)
    average = WanNetwork(recipe.network).requires_grad_(False)
    if start_from is not None:
        network.load_state_dict({name: tensor.float() for name, tensor in open_checkpoint(start_from).tensors.items()})
    average.load_state_dict(network.state_dict())
    network.to(recipe.device), average.to(recipe.device)
    optimizer = MatrixOptimizer(
        ((key, weight) for key, weight in network.named_parameters() if not _idle(key)),
        _OUTER,
        recipe.lr,
        recipe.muon_lr,
    )
    start, path, began = 0, folder / "student.ckpt", time.time()
    if (state := load_checkpoint(path)) is not None:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    for step in range(start, recipe.steps):
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        losses = rollout(network, recipe, *_draw(recipe, clips, step, rng), recipe.own_most * turned(recipe, step), rng)
        losses["loss"].backward()
        norm = optimizer.step(cosine(step, recipe.steps, recipe.warmup, floor=0.02))
        follow(average, network, min(recipe.decay, (step + 1) / (step + 10)))
        if (step + 1) % 10 == 0:
            figures = {key: value.item() for key, value in losses.items()}
            log_line(folder / "student.log", step=step + 1, **figures, norm=norm.item(), seconds=time.time() - began)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save_checkpoint(path, {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            })  # fmt: skip
    return average


def turned(recipe: StudentRecipe, step: int) -> float:
    """How far the training has turned from single chunks to streams: 0 before, 1 after."""
    begin, end = recipe.turn
    return min(1.0, max(0.0, (step / recipe.steps - begin) / (end - begin)))


def _draw(recipe: StudentRecipe, clips: Clips, step: int, rng: torch.Generator) -> tuple[Clips, int]:
    """A step's clips and how many chunks of them to stream."""
    alone = recipe.alone_first + turned(recipe, step) * (recipe.alone_last - recipe.alone_first)
    if torch.rand((), generator=rng) >= alone:
        return clips.pick(torch.randint(len(clips.latents), (recipe.clips,), generator=rng)), recipe.chunks
    batch = clips.pick(torch.randint(len(clips.latents), (recipe.alone_clips,), generator=rng))
    last = batch.latents.shape[1] - recipe.alone_frames
    starts = torch.randint(-last // 3, last + 1, (recipe.alone_clips,), generator=rng).clamp(min=0)  # one in four at 0
    return batch.window(starts, recipe.alone_frames), 1


def rollout(
    network: WanNetwork, recipe: StudentRecipe, batch: Clips, chunks: int, own: float, rng: torch.Generator
) -> dict[str, Tensor]:
    """Stream a batch of clips and regress every chunk; returns the losses."""
    model = TrainedModel(network, recipe.network, torch.device(recipe.device))
    signal, reference = given_signal(batch, rng).to(recipe.device), pick_reference(batch, rng).to(recipe.device)
    truth, weight = batch.latents.to(recipe.device), (1 + recipe.face * batch.face[:, :, None]).to(recipe.device)
    weight = weight / weight.mean()
    tokens = truth.shape[-2] * truth.shape[-1] // 4
    cache = RolloutCache(num_window_frames=recipe.settings.num_window_frames, num_tokens=tokens)
    losses, knot = [], None
    with torch.autocast(recipe.device.split(":")[0], torch.bfloat16):
        denoiser = Denoiser.of(model, torch.zeros(1, 1, recipe.network.text_dim))
        anchor, clock, position = capture(denoiser, reference), first_clock(recipe.settings), None
        for _ in range(chunks):
            plan = plan_chunk(recipe.settings, clock)
            if position != plan.anchor_position:
                position = plan.anchor_position
                cache.place_anchor(anchor, position)
            here = slice(plan.positions.start, plan.positions.stop)
            conditions = _conditions(denoiser, plan, knot, signal[:, here], truth.shape[-2:])
            x0 = denoise_once(denoiser, conditions, truth[:, here], recipe, cache, rng)
            losses.append(((x0 - truth[:, here]).square() * weight[:, here]).mean())
            settled = x0.detach() if conditions.knot_BMCHW is None else fuse(knot, x0.detach(), recipe.settings.fusion)
            past = _past(truth[:, here], settled, own, recipe.context_noise, rng)
            knot = past[:, plan.num_frames :]
            if torch.rand((), generator=rng) < 0.1:
                knot = None  # knot 0 is a setting too
            clock = plan.next_clock
            if len(losses) < chunks:
                commit(denoiser, conditions.first(plan.num_frames, tokens), past[:, : plan.num_frames], cache)
    return {"loss": torch.stack(losses).mean(), "first": losses[0].detach(), "last": losses[-1].detach()}


def denoise_once(
    denoiser: Denoiser,
    conditions: Conditions,
    truth: Tensor,
    recipe: StudentRecipe,
    cache: RolloutCache,
    rng: torch.Generator,
) -> Tensor:
    """The clean latents that the network sees in a chunk at one noise level, with gradient."""
    B, F = truth.shape[:2]
    noise, device = torch.randn(truth.shape, generator=rng).to(truth.device), truth.device
    levels = torch.tensor(
        [shift_sigma(float(u), recipe.settings.shift) for u in torch.rand(B, generator=rng) * 0.9 + 0.1]
    )
    sigma = (
        torch.where(torch.rand(B, generator=rng) < recipe.first_sigma, torch.ones(B), levels)[:, None]
        .expand(B, F)
        .to(device)
    )
    signal = truth
    if torch.rand((), generator=rng) < 0.5:
        with torch.no_grad():
            signal = _predict(denoiser, conditions, noise, torch.ones_like(sigma), cache)
        noise = torch.randn(truth.shape, generator=rng).to(device)
    return _predict(denoiser, conditions, add_noise(signal, noise, sigma), sigma, cache)


def given_signal(batch: Clips, rng: torch.Generator) -> Tensor:
    """The driving signal [B, F, 4, 75] with parts left out at random: pose, mouth controls, speech; or all of them."""
    B = len(batch.latents)
    pose = torch.rand(B, generator=rng) < 0.9
    mouth = torch.rand(B, generator=rng) < torch.where(batch.speaking > 0, 0.35, 0.9)
    speech = (batch.speaking > 0) & (torch.rand(B, generator=rng) < torch.where(mouth, 0.5, 0.95))
    flags = torch.stack([speech, pose, mouth], dim=-1).float()[:, None, None].expand(*batch.mel.shape[:3], 3)
    is_mouth = torch.zeros(8, dtype=torch.bool)
    is_mouth[5:7] = True
    keep = torch.where(is_mouth, mouth[:, None], pose[:, None]).float()[:, None, None]
    return torch.cat([batch.mel * speech.float()[:, None, None, None], batch.controls * keep, flags], dim=-1)


def pick_reference(batch: Clips, rng: torch.Generator) -> Tensor:
    """One reference latent [B, 1, C, H, W] per clip."""
    rows = torch.randint(batch.references.shape[1], (len(batch.references),), generator=rng)
    return batch.references[torch.arange(len(rows)), rows][:, None]


def pass_noise_through(network: WanNetwork) -> None:
    """Start the network as `velocity = x`: the noise, of which a velocity is mostly made, needs no learning."""
    patch, head = network.patch_embedding.weight, network.head.head.weight
    channels = 4 * network.config.out_channels
    assert network.config.dim >= channels, (
        f"a width of {network.config.dim} has no room for a patch of {channels} values"
    )
    with torch.no_grad():
        patch[:channels].zero_()
        for row in range(channels):  # head rows are (row, column, channel), patch columns (channel, row, column)
            place, channel = divmod(row, network.config.out_channels)
            patch[row, channel, 0, place // 2, place % 2] = 1
        patch[channels:, : network.config.out_channels] *= 0.2
        head.zero_()
        head[:, :channels] = torch.eye(channels) * 0.6


def weigh_signal(network: WanNetwork) -> None:
    """Start the adapter with the few controls as loud as the many bands of sound, which would drown them."""
    adapter = network.config.adapter
    with torch.no_grad():
        columns = network.audio_proj.proj.weight.unflatten(1, (adapter.num_packed, adapter.signal_dim))
        columns[..., :MEL_DIM] *= 0.35
        columns[..., MEL_DIM : MEL_DIM + len(CONTROLS)] *= 8.0


@torch.no_grad()
def follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def _idle(key: str) -> bool:
    """Weights that the null text never reaches: cross-attention with one key needs no query, key or norm."""
    return "norm3" in key or any(f"cross_attn.{part}" in key for part in ("q.", "k.", "norm_q", "norm_k"))


def _predict(denoiser: Denoiser, conditions: Conditions, x: Tensor, sigma: Tensor, cache: RolloutCache) -> Tensor:
    frames = Frames(
        x_BFCHW=x, sigma_BF=sigma, known_BMCHW=conditions.knot_BMCHW, rope=conditions.rope, driving=conditions.driving
    )
    return to_x0(x, denoiser.velocity(frames, cache).float(), sigma)


def _conditions(
    denoiser: Denoiser, plan: ChunkPlan, knot: Tensor | None, signal: Tensor, latent_size: tuple[int, int]
) -> Conditions:
    adapter = denoiser.model.config.adapter
    driving: DrivingFeatures = encode_driving(denoiser.model.network, adapter.blocks, signal)
    rope = denoiser.rope(plan.positions[: signal.shape[1]], latent_size)
    return Conditions(knot_BMCHW=knot, rope=rope, driving=driving)


def _past(truth: Tensor, settled: Tensor, own: float, noise: float, rng: torch.Generator) -> Tensor:
    """What the next chunk will know of this one: per clip the student's own frames, or the truth with some noise."""
    shape = (len(truth), 1, 1, 1, 1)
    strength = noise * torch.rand(shape, generator=rng) * torch.randn(truth.shape, generator=rng)
    mine = torch.rand(shape, generator=rng) < own
    return torch.where(mine.to(truth.device), settled, truth + strength.to(truth.device))
