"""Latents to pictures, piece by piece.

Shapes: B batch, F latent frames, T pixel frames, C channels, H W size (of latents, or of pictures).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..codec.taehv import TAEHV
from .stream_model import DecoderMemory, StreamCodec

Decoded = tuple[Tensor, DecoderMemory]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoding:
    """A chunk's latents, to be decoded: the arguments of `decode`."""

    codec: StreamCodec
    latents_BFCHW: Tensor
    memory: DecoderMemory | None
    is_late_beginning: bool

    @property
    def joins(self) -> Hashable:
        """As many latent frames of one size, with or without memory, and an autoencoder whose memory has a batch axis;
        others are decoded each by itself.
        """
        shape = tuple(self.latents_BFCHW.shape)
        apart = None if isinstance(self.codec, TAEHV) else id(self)
        return Decoding, id(self.codec), shape, self.memory is None, self.is_late_beginning, apart

    def compute(self) -> Decoded:
        """Pictures uint8 [T, H, W, 3] on the CPU, and the decoder's memory for the next call."""
        return decode(self.codec, self.latents_BFCHW, self.memory, self.is_late_beginning)

    def compute_with(self, others: "Sequence[Decoding]") -> list[Decoded]:
        """The same for each of several chunks, along the batch axis."""
        parts = [self, *others]
        memories = [part.memory for part in parts if part.memory is not None]
        memory = tuple(torch.cat(layer) for layer in zip(*memories, strict=True)) if memories else None
        met_BFCHW = torch.cat([as_met(part.latents_BFCHW, self.again) for part in parts])
        pixels_BTCHW, after = self.codec.decode(met_BFCHW, memory)
        pictures = [to_pictures(pixels_TCHW, self.again) for pixels_TCHW in pixels_BTCHW]
        return list(zip(pictures, (tuple(each) for each in _by_stream(after)), strict=True))

    @property
    def again(self) -> bool:
        """Whether the decoder meets the first latent frame twice: see `decode`."""
        return self.is_late_beginning and self.memory is None


def _by_stream(memory: DecoderMemory) -> list[list[Tensor]]:
    """A batch's memory, one stream's after the other's; each of its own, so that none keeps the others' alive."""
    return [[layer[number : number + 1].clone() for layer in memory] for number in range(len(memory[0]))]


def decode(
    codec: StreamCodec, latents_BFCHW: Tensor, memory: DecoderMemory | None, is_late_beginning: bool = False
) -> Decoded:
    """Pictures uint8 [T, H, W, 3] on the CPU, of a batch of one, and the decoder's memory for the next call.

    From CUDA the pictures are still on their way, into pinned memory: wait for a mark behind this before reading them.
    `is_late_beginning`: a decoder without memory makes one picture of its first latent frame, which in the middle of a
    stream lasts four; so it meets that one twice.
    """
    again = is_late_beginning and memory is None
    pixels_BTCHW, memory = codec.decode(as_met(latents_BFCHW, again), memory)
    return to_pictures(pixels_BTCHW[0], again), memory


def as_met(latents_BFCHW: Tensor, again: bool) -> Tensor:
    """The latents [B, F, C, H, W] as the decoder meets them; `again`: the first one twice."""
    return torch.cat([latents_BFCHW[:, :1], latents_BFCHW], dim=1) if again else latents_BFCHW


def to_pictures(pixels_TCHW: Tensor, again: bool) -> Tensor:
    """[T, C, H, W] in 0..1 -> uint8 [T, H, W, 3] on the CPU, or on their way there; `again`: without the first one."""
    pictures = to_uint8(pixels_TCHW[int(again) :])
    return pictures.to("cpu", non_blocking=pictures.is_cuda)


def to_uint8(pixels_TCHW: Tensor) -> Tensor:
    """[T, C, H, W] in 0..1 -> uint8 [T, H, W, C], rounded."""
    scaled = pixels_TCHW.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return rearrange(scaled, "t c h w -> t h w c").contiguous()
