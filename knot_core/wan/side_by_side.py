"""One pass over the latent frames of several streams, one stream's behind the other's.

Everything in a network but attention is done frame by frame, or token by token: so one matrix product serves all of
them, whatever the number of each one's frames. Each attends to its own cache and its own prompt.

Shapes: B batch (of one), F latent frames, P tokens of a frame, C channels, H W latent size, D model dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention_cache import AttentionCache, SideBySide
from ..geometry import num_tokens
from .adapters import driving_side_by_side
from .forward import CrossApart, CrossConstant, CrossContext, CrossLayer, FrameInputs
from .rope import RopeTable


@dataclass(frozen=True, kw_only=True, eq=False)
class PassInputs:
    """All that `wan_forward` takes of one stream."""

    inputs: FrameInputs
    context: CrossContext
    cache: AttentionCache

    @property
    def num_frames(self) -> int:
        """Latent frames of the pass."""
        return self.inputs.x_BFCHW.shape[1]


def side_by_side(parts: Sequence[PassInputs]) -> PassInputs:
    """One pass over all of them; they have one batch, one latent size, and prompts of one kind (`kind_of_prompt`)."""
    inputs, frames = [part.inputs for part in parts], [part.num_frames for part in parts]
    per_frame = num_tokens(*inputs[0].x_BFCHW.shape[-2:])
    lengths = [per_frame * count for count in frames]
    by_layer = zip(*(part.context.layers for part in parts), strict=True)
    return PassInputs(
        inputs=FrameInputs(
            x_BFCHW=torch.cat([one.x_BFCHW for one in inputs], dim=1),
            timestep_BF=torch.cat([one.timestep_BF for one in inputs], dim=1),
            rope=RopeTable(torch.cat([one.rope.turns_L1P for one in inputs], dim=-3)),
            driving=driving_side_by_side([one.driving for one in inputs]),
        ),
        context=CrossContext(tuple(_prompts(layers, frames, lengths) for layers in by_layer)),
        cache=SideBySide([part.cache for part in parts], lengths),
    )


def apart(out_BFCHW: Tensor, parts: Sequence[PassInputs]) -> list[Tensor]:
    """The frames of each, [B, F, C, H, W]."""
    return list(out_BFCHW.split([part.num_frames for part in parts], dim=1))


def kind_of_prompt(context: CrossContext) -> type[CrossLayer]:
    """Prompts of different kinds are computed differently, and so not in one pass."""
    return type(context.layers[0])


def _prompts(layers: Sequence[CrossLayer], frames: Sequence[int], lengths: Sequence[int]) -> CrossLayer:
    if isinstance(layers[0], CrossConstant):
        each = [layer.out_BFD.expand(-1, count, -1) for layer, count in zip(layers, frames, strict=True)]
        return CrossConstant(torch.cat(each, dim=1))
    return CrossApart(tuple(lengths), tuple(layers))
