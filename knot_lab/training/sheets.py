"""Sample sheets: the reference, the truth and what was made of it, clip by clip.

Shapes: B clips, F latent frames, C channels, H W size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from knot_core.stream.stream_model import StreamCodec

from ..data.batch import Batch

Pictures = Callable[[Tensor], Tensor]  # latents [B, F, C, h, w] -> one picture a latent frame [B, F, 3, H, W] in 0..1

_COLUMNS = 6  # latent frames shown, evenly apart


def codec_pictures(codec: StreamCodec) -> Pictures:
    """Decoded; the last pixel frame of every latent frame."""

    @torch.no_grad()
    def pictures(latents: Tensor) -> Tensor:
        pixels, _ = codec.decode(latents.float().cpu(), None)
        return torch.cat([pixels[:, :1], pixels[:, 4::4]], dim=1).float().clamp(0, 1)

    return pictures


def plain_pictures(latents: Tensor) -> Tensor:
    """The first three channels of latents [B, F, C, H, W] as colours, [B, F, 3, H, W] in 0..1, where there is no
    codec.
    """
    return (latents[:, :, :3].float().cpu() / 4 + 0.5).clamp(0, 1)


def draw_sheet(path: Path, batch: Batch, made_BFCHW: Tensor, pictures: Pictures | None) -> np.ndarray:
    """Write a PNG, two rows a clip: truth, then what was made, each after the reference; returns uint8 [H, W, 3]."""
    show = pictures or plain_pictures
    length = min(made_BFCHW.shape[1], batch.truth_BFCHW.shape[1])
    frames = torch.linspace(0, length - 1, _COLUMNS).round().long().tolist()
    truth = show(batch.truth_BFCHW[:, :length])[:, frames]
    made, reference = show(made_BFCHW[:, :length])[:, frames], show(batch.given.reference_B1CHW)
    rows = torch.stack([torch.cat([reference, row], dim=1) for row in (truth, made)], dim=1)
    sheet = rearrange(rows, "b r f c h w -> (b r h) (f w) c").mul(255).round().byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
    return sheet
