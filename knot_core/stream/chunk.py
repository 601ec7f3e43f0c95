"""The step, for streams and for training: one chunk is denoised, fused with the knot, and committed.

Functions of what they are given; what lasts is the cache, which belongs to the caller. One chunk of a stream is

    x0 = generate_chunk(denoiser, conditions, plan, noise, cache)
    commit_chunk(denoiser, conditions, plan, x0, cache)
    cache.commit(plan.num_frames)

Each is written in pieces (pieces.py), so that several streams can be drawn together; under its plain name it is
computed at once.

Shapes: S denoising steps, B batch, F latent frames, M known latent frames, C channels, H W latent size.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..attention_cache import AttentionCache
from ..flow import fuse, to_x0
from ..geometry import num_tokens
from ..wan.adapters import NO_DRIVING, DrivingFeatures
from ..wan.rope import RopeTable
from .denoise import Denoiser, Frames
from .pieces import Pieces, at_once
from .plan import ChunkPlan
from .solvers import solver


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """The conditions of a chunk: the same for each of its denoising steps."""

    knot_BMCHW: Tensor | None  # clean latents of the first frames, or what begins the stream; None: nothing is known
    rope: RopeTable
    driving: DrivingFeatures
    unknown_BFCHW: Tensor | None = None  # as in `Frames`
    silence: DrivingFeatures = NO_DRIVING

    def first(self, num_frames: int, num_tokens: int, known_BMCHW: Tensor | None = None) -> "Conditions":
        """The conditions to commit the first `num_frames` frames of a settled chunk; without the knot unless given."""
        return Conditions(
            knot_BMCHW=known_BMCHW,
            rope=self.rope.first(num_frames * num_tokens),
            driving=self.driving.first(num_frames),
            unknown_BFCHW=None if self.unknown_BFCHW is None else self.unknown_BFCHW[:, :num_frames],
            silence=self.silence.first(num_frames),
        )


def generate_pieces(
    denoiser: Denoiser,
    conditions: Conditions,
    plan: ChunkPlan,
    noise_SBFCHW: Tensor,
    cache: AttentionCache,
    before_step: Callable[[int], None] = lambda _step: None,
) -> Pieces[Tensor]:
    """Clean latents of all frames that the chunk denoises, fused with the knot, [B, F, C, H, W].

    The cache is extended by every step and committed by none. `noise`: what the first step begins with, then what later
    ones are noised with anew (`plan.num_noises`). The network is shown the knot without its gradient; fusion keeps it.
    """
    shown = None if conditions.knot_BMCHW is None else conditions.knot_BMCHW.detach()
    num_known, layout = 0 if shown is None else shown.shape[1], denoiser.layout
    step_on = solver(plan.sampler, noise_SBFCHW, plan.sigmas)

    def per_frame(level: float | Tensor) -> Tensor:
        of_frames = level if isinstance(level, Tensor) else noise_SBFCHW.new_full(noise_SBFCHW.shape[1:3], level)
        return layout.frame_sigmas(of_frames, num_known)

    levels = [per_frame(sigma) for sigma in plan.sigmas]
    x = layout.pin(noise_SBFCHW[0], shown)
    for step, sigma_BF in enumerate(levels):
        before_step(step)
        timestep_BF = None if plan.timesteps is None else per_frame(plan.timesteps[step])
        frames = _frames(conditions, x, sigma_BF, shown, timestep_BF)
        velocity = yield from denoiser.velocity_pieces(frames, cache)
        x0 = layout.pin(to_x0(x, velocity, sigma_BF), shown)
        if step + 1 < len(levels):
            x = layout.pin(step_on.next(x, x0, velocity, step, levels[step + 1]), shown)
    return fused(plan, conditions.knot_BMCHW, x0)


generate_chunk = at_once(generate_pieces)


def fused(plan: ChunkPlan, knot_BMCHW: Tensor | None, x0_BFCHW: Tensor) -> Tensor:
    """The prediction [B, F, C, H, W] with the knot fused into it (Knot Forcing, eq. 5); without a knot, unchanged."""
    return fuse(knot_BMCHW, x0_BFCHW, plan.fusion) if knot_BMCHW is not None and plan.num_knot_frames else x0_BFCHW


def commit_pieces(
    denoiser: Denoiser, conditions: Conditions, plan: ChunkPlan, x0_BFCHW: Tensor, cache: AttentionCache
) -> Pieces[None]:
    """The clean pass over the frames that a chunk settles, `conditions` being those of all that it denoised.

    It leaves their keys and values in the cache's slots for a pass. The caller's `cache.commit` keeps them: a stream
    that is drawn ahead does that under a lock, and the pass beside other work.
    """
    known = denoiser.layout.known_at_commit(conditions.knot_BMCHW, from_reference=plan.from_reference)
    settled = conditions.first(plan.num_frames, num_tokens(*x0_BFCHW.shape[-2:]), known)
    yield from clean_pieces(denoiser, settled, x0_BFCHW[:, : plan.num_frames], cache)


commit_chunk = at_once(commit_pieces)


def clean_pieces(denoiser: Denoiser, conditions: Conditions, x0_BFCHW: Tensor, cache: AttentionCache) -> Pieces[None]:
    """One pass over settled frames, at noise level 0."""
    sigma_BF = x0_BFCHW.new_zeros(x0_BFCHW.shape[:2])
    yield from denoiser.velocity_pieces(_frames(conditions, x0_BFCHW, sigma_BF, conditions.knot_BMCHW), cache)


clean_pass = at_once(clean_pieces)


def _frames(
    conditions: Conditions,
    x_BFCHW: Tensor,
    sigma_BF: Tensor,
    known_BMCHW: Tensor | None,
    timestep_BF: Tensor | None = None,
) -> Frames:
    return Frames(
        x_BFCHW=x_BFCHW,
        sigma_BF=sigma_BF,
        timestep_BF=timestep_BF,
        known_BMCHW=known_BMCHW,
        rope=conditions.rope,
        driving=conditions.driving,
        unknown_BFCHW=conditions.unknown_BFCHW,
        silence=conditions.silence,
    )
