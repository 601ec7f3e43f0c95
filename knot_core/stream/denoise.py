"""Passes over a network, with what stays the same from pass to pass.

Shapes: B batch, F latent frames, M known latent frames, C channels, H W latent size, T text tokens or packed pixel
frames, D text dim, Q signal dim.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attention_cache import AttentionCache, CapturingCache
from ..errors import DrivingError
from ..flow import round_timestep, to_timestep
from ..geometry import PATCH
from ..transfer import to_device
from ..wan.adapters import NO_DRIVING, DrivingFeatures, encode_signal
from ..wan.branches import Branch
from ..wan.forward import CrossContext, FrameInputs, encode_context, wan_forward
from ..wan.layouts import Layout, layout_of
from ..wan.rope import RopeTable, rope_table
from ..wan.side_by_side import PassInputs, apart, kind_of_prompt, side_by_side
from .guidance import Guide, OfBranch, mixed, under
from .pieces import Pieces, at_once
from .stream_model import StreamModel, latent_dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """A pass over a network, to be computed."""

    model: StreamModel
    of: PassInputs

    @property
    def joins(self) -> Hashable:
        """Passes over one network, of one latent size and kind of prompt, whatever frames each has."""
        x_BFCHW = self.of.inputs.x_BFCHW
        batch, _, *frame = x_BFCHW.shape
        return Pass, id(self.model.network), self.model.dtype, batch, *frame, x_BFCHW.dtype, kind_of_prompt(
            self.of.context)  # fmt: skip

    def compute(self) -> Tensor:
        """The velocity of every frame, [B, F, C, H, W]."""
        return self._forward(self.of)

    def compute_with(self, others: "Sequence[Pass]") -> list[Tensor]:
        """The velocity of each pass's frames, [B, F, C, H, W], from one pass over all."""
        parts = [self.of, *(other.of for other in others)]
        return apart(self._forward(side_by_side(parts)), parts)

    def _forward(self, of: PassInputs) -> Tensor:
        return wan_forward(self.model.network, of.inputs, of.context, of.cache, compute_dtype=self.model.dtype)


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

    def driving(self, signal_BFTQ: Tensor, num_frames: int, *, starts: bool = False) -> DrivingFeatures:
        """Driving features of `num_frames` latent frames; `starts`: the first of them is the driving's first.

        Raises `DrivingError` where the signal is not of the adapter's shape.
        """
        adapter = self.model.config.adapter
        if adapter is None:
            return NO_DRIVING
        got, wanted = tuple(signal_BFTQ.shape[1:]), (num_frames, adapter.num_packed, adapter.signal_dim)
        if got != wanted:
            raise DrivingError(
                f"the driving gives {got} values (latent frames, pixel frames of each, signal), this model takes "
                f"{wanted}; make the driving for this model"
            )
        signal_BFTQ = to_device(signal_BFTQ, self.model.device, latent_dtype(self.model))
        model = self.model
        return encode_signal(model.network, model.config, signal_BFTQ, starts=starts, compute_dtype=model.dtype)

    def no_signal(self, num_frames: int) -> DrivingFeatures:
        """Driving features of frames that nothing drives: a signal of zeros, all flags off."""
        adapter = self.model.config.adapter
        if adapter is None:
            return NO_DRIVING
        nothing = torch.zeros(1, num_frames, adapter.num_packed, adapter.signal_dim)
        return self.driving(nothing, num_frames, starts=True)  # a picture is a video's very first frame

    def guided(self, guides: tuple[Branch, ...], negative: CrossContext) -> "Denoiser":
        """The denoiser with the branches of guidance, if there are several."""
        if len(guides) == 1:
            return self
        made = (Guide(branch, negative if branch.negative else self.context) for branch in guides)
        return replace(self, guides=tuple(made))

    def under(self, context: CrossContext) -> "Denoiser":
        """The same with another prompt."""
        return replace(self, context=context, guides=tuple(under(guide, context) for guide in self.guides))

    def velocity_pieces(self, frames: "Frames", cache: AttentionCache) -> Pieces[Tensor]:
        """The predicted velocity [B, F, C, H, W]: one pass over the network, or one for each branch of guidance."""
        if not self.guides:
            (velocity,) = yield [self._pass(frames, self.context, cache)]
            return velocity
        passes = []
        for number, guide in enumerate(self.guides):
            seen = replace(frames, driving=frames.silence) if guide.branch.silent else frames
            of_branch = OfBranch(cache, number * self.model.config.num_layers)
            passes.append(self._pass(seen, guide.context, of_branch))
        return mixed((yield passes), self.guides)

    velocity = at_once(velocity_pieces)

    def _pass(self, frames: "Frames", context: CrossContext, cache: AttentionCache) -> Pass:
        timestep_BF = to_timestep(frames.sigma_BF) if frames.timestep_BF is None else frames.timestep_BF
        inputs = FrameInputs(
            x_BFCHW=self.layout.channels(
                frames.x_BFCHW, frames.known_BMCHW, self.reference_B1CHW, frames.unknown_BFCHW
            ),
            timestep_BF=round_timestep(timestep_BF, self.model.config.timestep_dtype),
            rope=frames.rope,
            driving=frames.driving,
        )
        return Pass(model=self.model, of=PassInputs(inputs=inputs, context=context, cache=cache))


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


def capture(denoiser: Denoiser, reference_BFCHW: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [B, L, N, K] of each layer for the clean reference, which sees only itself, at position 0."""
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
