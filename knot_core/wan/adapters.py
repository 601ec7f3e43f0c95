"""How driving enters: signals packed per latent frame, projected, added to the tokens before some blocks.

Shapes: B batch, F latent frames, T packed pixel frames, S signal dim, D model dim.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class DrivingFeatures:
    """What is added to every token of a latent frame just before a block."""

    by_block: dict[int, Tensor]  # block number -> [B, F, D]

    def before(self, block: int) -> Tensor | None:
        """[B, F, D], or None where nothing enters."""
        return self.by_block.get(block)

    def first(self, num_frames: int) -> "DrivingFeatures":
        """Of the first `num_frames` latent frames only."""
        return DrivingFeatures({block: features[:, :num_frames] for block, features in self.by_block.items()})


NO_DRIVING = DrivingFeatures({})


def encode_driving(adapter: nn.Module, blocks: tuple[int, ...], signal_BFTS: Tensor) -> DrivingFeatures:
    """Features of a signal, once per chunk; `adapter` holds `audio_proj` and `audio_cond_projs`, in float32."""
    packed = rearrange(signal_BFTS, "b f t s -> b f (t s)")
    with torch.autocast(packed.device.type, enabled=False):  # small matrices: precision costs nothing
        hidden = adapter.audio_proj.norm_out(adapter.audio_proj.proj(packed))
        return DrivingFeatures(
            {block: project(hidden) for block, project in zip(blocks, adapter.audio_cond_projs, strict=True)}
        )
