"""One chunk: the passes over the network, as functions of what they are given.

Shapes: S denoising steps, B batch, F latent frames, M known latent frames, C channels, H W latent size,
T text tokens or packed pixel frames, D text dim, Q signal dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cache import AttentionCache, CapturingCache
from ..config import AudioCrossConfig
from ..errors import DrivingError
from ..flow import round_timestep, to_timestep, to_x0
from ..geometry import PATCH
from ..transfer import to_device
from ..wan.adapters import NO_DRIVING, DrivingFeatures, encode_driving, encode_sound
from ..wan.branches import Branch
from ..wan.forward import CrossContext, FrameInputs, encode_context, wan_forward
from ..wan.layouts import Layout, layout_of
from ..wan.rope import RopeTable, rope_table
from .guidance import Guide, OfBranch, mixed, under
from .model import StreamModel, latent_dtype
from .solvers import Renoise, Solver


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoiser:
    """A network with its prompt and its reference: everything that stays the same from pass to pass."""

    model: StreamModel
    layout: Layout
    context: CrossContext
    reference_B1CHW: Tensor | None = None  # clean; for layouts that show it beside every frame
    guides: tuple[Guide, ...] = ()  # branches of guidance; the first is this prompt, with everything

    @classmethod
    def of(
        cls,
        model: StreamModel,
        text_BTD: Tensor,
        *,
        reference_B1CHW: Tensor | None = None,
        image_BTE: Tensor | None = None,
    ) -> "Denoiser":
        context = encode_context(
            model.network,
            text_BTD.to(model.device),
            head_dim=model.config.head_dim,
            compute_dtype=model.dtype,
            image_BTE=None if image_BTE is None else image_BTE.to(model.device),
        )
        layout = layout_of(model.config)
        return cls(model=model, layout=layout, context=context, reference_B1CHW=reference_B1CHW)

    def rope(self, positions: Sequence[int], latent_size: tuple[int, int]) -> RopeTable:
        """Turns of the tokens of latent frames at `positions`."""
        height, width = latent_size
        grid = (height // PATCH, width // PATCH)
        dtype = latent_dtype(self.model).to_complex()
        return rope_table(positions, grid, self.model.config.head_dim, device=self.model.device, dtype=dtype)

    def driving(self, signal_FTQ: Tensor, num_frames: int, *, starts: bool = False) -> DrivingFeatures:
        """What the blocks take of the driving of `num_frames` latent frames; `starts`: the first is its very first."""
        adapter = self.model.config.adapter
        if adapter is None:
            return NO_DRIVING
        got, wanted = tuple(signal_FTQ.shape), (num_frames, adapter.num_packed, adapter.signal_dim)
        if got != wanted:
            raise DrivingError(
                f"the driving gives {got} values (latent frames, pixel frames of each, signal), this model takes "
                f"{wanted}; make the driving for this model"
            )
        signal_BFTQ = to_device(signal_FTQ[None], self.model.device, latent_dtype(self.model))
        network, head_dim, dtype = self.model.network, self.model.config.head_dim, self.model.dtype
        if isinstance(adapter, AudioCrossConfig):
            return encode_sound(network, adapter, signal_BFTQ, starts=starts, head_dim=head_dim, compute_dtype=dtype)
        return encode_driving(network, adapter.blocks, signal_BFTQ, compute_dtype=dtype)

    def no_signal(self, num_frames: int) -> DrivingFeatures:
        """What frames without any driving are fed: zeros, all flags off."""
        adapter = self.model.config.adapter
        if adapter is None:
            return NO_DRIVING
        nothing = torch.zeros(num_frames, adapter.num_packed, adapter.signal_dim)
        return self.driving(nothing, num_frames, starts=True)  # a picture is a video's very first frame

    def guided(self, guides: tuple[Branch, ...], negative: CrossContext) -> "Denoiser":
        """With the branches of guidance, if there are several."""
        if len(guides) == 1:
            return self
        made = (Guide(branch, negative if branch.negative else self.context) for branch in guides)
        return replace(self, guides=tuple(made))

    def under(self, context: CrossContext) -> "Denoiser":
        """The same with another prompt."""
        return replace(self, context=context, guides=tuple(under(guide, context) for guide in self.guides))

    def velocity(self, frames: "Frames", cache: AttentionCache) -> Tensor:
        """One pass over the network, or one for each branch of guidance."""
        if not self.guides:
            return self._pass(frames, self.context, cache)
        found = []
        for number, guide in enumerate(self.guides):
            seen = replace(frames, driving=frames.silence) if guide.branch.silent else frames
            of_branch = OfBranch(cache, number * self.model.config.num_layers)
            found.append(self._pass(seen, guide.context, of_branch))
        return mixed(found, self.guides)

    def _pass(self, frames: "Frames", context: CrossContext, cache: AttentionCache) -> Tensor:
        timestep_BF = to_timestep(frames.sigma_BF) if frames.timestep_BF is None else frames.timestep_BF
        inputs = FrameInputs(
            x_BFCHW=self.layout.channels(
                frames.x_BFCHW, frames.known_BMCHW, self.reference_B1CHW, frames.unknown_BFCHW
            ),
            timestep_BF=round_timestep(timestep_BF, self.model.config.timestep_dtype),
            rope=frames.rope,
            driving=frames.driving,
        )
        return wan_forward(self.model.network, inputs, context, cache, compute_dtype=self.model.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Latent frames as a pass meets them."""

    x_BFCHW: Tensor
    sigma_BF: Tensor
    known_BMCHW: Tensor | None
    rope: RopeTable
    driving: DrivingFeatures
    timestep_BF: Tensor | None = None  # what the network is fed, if not 1000 * sigma
    unknown_BFCHW: Tensor | None = None  # what is shown of frames that are not known, if not zeros
    silence: DrivingFeatures = NO_DRIVING  # in the driving's place, for branches of guidance without sound


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """What a chunk is drawn under."""

    knot_BMCHW: Tensor | None
    rope: RopeTable
    driving: DrivingFeatures
    unknown_BFCHW: Tensor | None = None  # as in `Frames`
    silence: DrivingFeatures = NO_DRIVING

    def first(self, num_frames: int, num_tokens: int, known_BMCHW: Tensor | None = None) -> "Conditions":
        """Of the first `num_frames` frames, without the knot unless given: how a settled chunk is committed."""
        return Conditions(
            knot_BMCHW=known_BMCHW,
            rope=self.rope.first(num_frames * num_tokens),
            driving=self.driving.first(num_frames),
            unknown_BFCHW=None if self.unknown_BFCHW is None else self.unknown_BFCHW[:, :num_frames],
            silence=self.silence.first(num_frames),
        )


def denoise(  # noqa: PLR0913, PLR0917 - a chunk's five parts, and what it may be fed instead of its noise levels
    denoiser: Denoiser,
    conditions: Conditions,
    noise_SBFCHW: Tensor,
    sigmas: Sequence[float],
    cache: AttentionCache,
    before_step: Callable[[int], None],
    timesteps: Sequence[float] | None = None,
    solver: Solver | None = None,
) -> Tensor:
    """Clean latents of a chunk's frames; the cache is read only.

    `timesteps`: fed instead of 1000 * sigma. `solver`: how it goes from step to step; None: by noise anew.
    """
    solver = solver or Renoise(noise_SBFCHW)
    layout, knot = denoiser.layout, conditions.knot_BMCHW
    num_known = 0 if knot is None else knot.shape[1]

    def per_frame(level: float) -> Tensor:
        return layout.frame_sigmas(noise_SBFCHW.new_full(noise_SBFCHW.shape[1:3], level), num_known)

    levels = [per_frame(sigma) for sigma in sigmas]
    x = layout.pin(noise_SBFCHW[0], knot)
    for step, sigma_BF in enumerate(levels):
        before_step(step)
        frames = Frames(
            x_BFCHW=x,
            sigma_BF=sigma_BF,
            timestep_BF=None if timesteps is None else per_frame(timesteps[step]),
            known_BMCHW=knot,
            rope=conditions.rope,
            driving=conditions.driving,
            unknown_BFCHW=conditions.unknown_BFCHW,
            silence=conditions.silence,
        )
        velocity = denoiser.velocity(frames, cache)
        x0 = layout.pin(to_x0(x, velocity, sigma_BF), knot)
        if step + 1 < len(levels):
            x = layout.pin(solver.next(x, x0, velocity, step, levels[step + 1]), knot)
    return x0


def commit(denoiser: Denoiser, conditions: Conditions, x0_BFCHW: Tensor, cache: AttentionCache) -> None:
    """The clean pass over settled frames, whose keys and values the cache's own `commit` then keeps."""
    frames = Frames(
        x_BFCHW=x0_BFCHW,
        sigma_BF=x0_BFCHW.new_zeros(x0_BFCHW.shape[:2]),
        known_BMCHW=conditions.knot_BMCHW,
        rope=conditions.rope,
        driving=conditions.driving,
        unknown_BFCHW=conditions.unknown_BFCHW,
        silence=conditions.silence,
    )
    denoiser.velocity(frames, cache)


def capture(denoiser: Denoiser, reference_BFCHW: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of the clean reference, wholly known, that sees only itself; at position 0, per layer."""
    cache = CapturingCache()
    num_frames = reference_BFCHW.shape[1]
    frames = Frames(
        x_BFCHW=reference_BFCHW,
        sigma_BF=reference_BFCHW.new_zeros(reference_BFCHW.shape[:2]),
        known_BMCHW=reference_BFCHW,
        rope=denoiser.rope(range(num_frames), reference_BFCHW.shape[-2:]),
        driving=denoiser.no_signal(num_frames),
    )
    denoiser.velocity(frames, cache)
    cache.commit(num_frames)
    return cache.layers
