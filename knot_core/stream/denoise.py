"""One chunk: the passes over the network, as functions of what they are given.

Shapes: S denoising steps, B batch, F latent frames, M known latent frames, C channels, H W latent size,
T text tokens or packed pixel frames, D text dim, Q signal dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cache import AttentionCache, CapturingCache
from ..config import AudioCrossConfig
from ..errors import DrivingError
from ..flow import add_noise, round_timestep, to_timestep, to_x0
from ..geometry import PATCH
from ..transfer import to_device
from ..wan.adapters import NO_DRIVING, DrivingFeatures, encode_driving, encode_sound
from ..wan.forward import CrossContext, FrameInputs, encode_context, wan_forward
from ..wan.layouts import Layout, get_layout
from ..wan.rope import RopeTable, rope_table
from .model import StreamModel, latent_dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoiser:
    """A network with its prompt and its reference: everything that stays the same from pass to pass."""

    model: StreamModel
    layout: Layout
    context: CrossContext
    reference_B1CHW: Tensor | None = None  # clean; for layouts that show it beside every frame

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
        layout = get_layout(model.config.layout)
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

    def velocity(self, frames: "Frames", cache: AttentionCache, *, commit: bool = False) -> Tensor:
        """One pass over the network."""
        inputs = FrameInputs(
            x_BFCHW=self.layout.channels(frames.x_BFCHW, frames.known_BMCHW, self.reference_B1CHW),
            timestep_BF=round_timestep(to_timestep(frames.sigma_BF), self.model.config.timestep_dtype),
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

    def first(self, num_frames: int, num_tokens: int, known_BMCHW: Tensor | None = None) -> "Conditions":
        """Of the first `num_frames` frames, without the knot unless given: how a settled chunk is committed."""
        return Conditions(
            knot_BMCHW=known_BMCHW,
            rope=self.rope.first(num_frames * num_tokens),
            driving=self.driving.first(num_frames),
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
        x0 = layout.pin(to_x0(x, denoiser.velocity(frames, cache), sigma_BF), knot)
        if step + 1 < len(levels):
            x = layout.pin(add_noise(x0, noise_SBFCHW[step + 1], levels[step + 1]), knot)
    return x0


def commit(denoiser: Denoiser, conditions: Conditions, x0_BFCHW: Tensor, cache: AttentionCache) -> None:
    """The clean pass that leaves settled frames' keys and values in the cache."""
    frames = Frames(
        x_BFCHW=x0_BFCHW,
        sigma_BF=x0_BFCHW.new_zeros(x0_BFCHW.shape[:2]),
        known_BMCHW=conditions.knot_BMCHW,
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
