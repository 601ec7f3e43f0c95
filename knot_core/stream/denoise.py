"""One chunk: the passes over the network, as functions of what they are given.

Shapes: S denoising steps, B batch, F latent frames, M known latent frames, C channels, H W latent size,
T text tokens or packed pixel frames, D text dim, Q signal dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cache import AttentionCache, CapturingCache
from ..errors import DrivingError
from ..flow import add_noise, to_timestep, to_x0
from ..geometry import PATCH
from ..transfer import to_device
from ..wan.adapters import NO_DRIVING, DrivingFeatures, encode_driving
from ..wan.forward import CrossContext, FrameInputs, encode_context, wan_forward
from ..wan.layouts import Layout, get_layout
from ..wan.rope import RopeTable, rope_table
from .model import StreamModel, latent_dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoiser:
    """A network with its prompt: everything that stays the same from pass to pass."""

    model: StreamModel
    layout: Layout
    context: CrossContext

    @classmethod
    def of(cls, model: StreamModel, text_BTD: Tensor) -> "Denoiser":
        context = encode_context(
            model.network, text_BTD.to(model.device), head_dim=model.config.head_dim, compute_dtype=model.dtype
        )
        return cls(model=model, layout=get_layout(model.config.layout), context=context)

    def rope(self, positions: Sequence[int], latent_size: tuple[int, int]) -> RopeTable:
        """Turns of the tokens of latent frames at `positions`."""
        height, width = latent_size
        grid = (height // PATCH, width // PATCH)
        dtype = latent_dtype(self.model).to_complex()
        return rope_table(positions, grid, self.model.config.head_dim, device=self.model.device, dtype=dtype)

    def driving(self, signal_FTQ: Tensor, num_frames: int) -> DrivingFeatures:
        """What the driving of `num_frames` latent frames adds to their tokens."""
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
        return encode_driving(self.model.network, adapter.blocks, signal_BFTQ)

    def no_signal(self, num_frames: int) -> DrivingFeatures:
        """What frames without any driving are fed: zeros, all flags off."""
        adapter = self.model.config.adapter
        if adapter is None:
            return NO_DRIVING
        return self.driving(torch.zeros(num_frames, adapter.num_packed, adapter.signal_dim), num_frames)

    def velocity(self, frames: "Frames", cache: AttentionCache, *, commit: bool = False) -> Tensor:
        """One pass over the network."""
        inputs = FrameInputs(
            x_BFCHW=self.layout.channels(frames.x_BFCHW, frames.known_BMCHW),
            timestep_BF=to_timestep(frames.sigma_BF),
            rope=frames.rope,
            driving=frames.driving,
        )
        return wan_forward(
            self.model.network, inputs, self.context, cache, commit=commit, compute_dtype=self.model.dtype
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Latent frames as a pass meets them."""

    x_BFCHW: Tensor
    sigma_BF: Tensor
    known_BMCHW: Tensor | None
    rope: RopeTable
    driving: DrivingFeatures


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """What a chunk is drawn under."""

    knot_BMCHW: Tensor | None
    rope: RopeTable
    driving: DrivingFeatures

    def first(self, num_frames: int, num_tokens: int) -> "Conditions":
        """Of the first `num_frames` frames, without the knot: how a settled chunk is committed."""
        return Conditions(
            knot_BMCHW=None, rope=self.rope.first(num_frames * num_tokens), driving=self.driving.first(num_frames)
        )


def denoise(
    denoiser: Denoiser,
    conditions: Conditions,
    noise_SBFCHW: Tensor,
    sigmas: Sequence[float],
    cache: AttentionCache,
    before_step: Callable[[int], None],
) -> Tensor:
    """Clean latents of a chunk's frames; the cache is read only."""
    layout, knot = denoiser.layout, conditions.knot_BMCHW
    num_known = 0 if knot is None else knot.shape[1]
    levels = [layout.frame_sigmas(noise_SBFCHW.new_full(noise_SBFCHW.shape[1:3], sigma), num_known) for sigma in sigmas]
    x = layout.pin(noise_SBFCHW[0], knot)
    for step, sigma_BF in enumerate(levels):
        before_step(step)
        frames = Frames(
            x_BFCHW=x, sigma_BF=sigma_BF, known_BMCHW=knot, rope=conditions.rope, driving=conditions.driving
        )
        x0 = to_x0(x, denoiser.velocity(frames, cache), sigma_BF)
        if step + 1 < len(levels):
            x = add_noise(x0, noise_SBFCHW[step + 1], levels[step + 1])
    return x0


def commit(denoiser: Denoiser, conditions: Conditions, x0_BFCHW: Tensor, cache: AttentionCache) -> None:
    """The clean pass that leaves settled frames' keys and values in the cache."""
    frames = Frames(
        x_BFCHW=x0_BFCHW,
        sigma_BF=x0_BFCHW.new_zeros(x0_BFCHW.shape[:2]),
        known_BMCHW=None,
        rope=conditions.rope,
        driving=conditions.driving,
    )
    denoiser.velocity(frames, cache, commit=True)


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
    denoiser.velocity(frames, cache, commit=True)
    return cache.layers
