"""Latents to pictures, piece by piece.

Shapes: B batch, F latent frames, T pixel frames, C channels, H W size (of latents, or of pictures).
"""

import torch
from einops import rearrange
from torch import Tensor

from .model import DecoderMemory, StreamCodec


def decode(
    codec: StreamCodec, latents_BFCHW: Tensor, memory: DecoderMemory | None, is_late_beginning: bool = False
) -> tuple[Tensor, DecoderMemory]:
    """Pictures uint8 [T, H, W, 3] on the CPU, of a batch of one, and the decoder's memory for the next call.

    From CUDA the pictures are still on their way, into pinned memory: wait for a mark behind this before reading them.
    `is_late_beginning`: a decoder without memory makes one picture of its first latent frame, which in the middle of a
    stream lasts four; so it meets that one twice.
    """
    again = is_late_beginning and memory is None
    met_BFCHW = torch.cat([latents_BFCHW[:, :1], latents_BFCHW], dim=1) if again else latents_BFCHW
    pixels_BTCHW, memory = codec.decode(met_BFCHW, memory)
    pictures = to_uint8(pixels_BTCHW[0, int(again) :])
    return pictures.to("cpu", non_blocking=pictures.is_cuda), memory


def to_uint8(pixels_TCHW: Tensor) -> Tensor:
    """[T, C, H, W] in 0..1 -> uint8 [T, H, W, C], rounded."""
    scaled = pixels_TCHW.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return rearrange(scaled, "t c h w -> t h w c").contiguous()
