"""A tiny video autoencoder that streams: the structure and keys of the public TAEHV decoders, any width.

Latent frame 0 covers one pixel frame, every later one four. The encoder sees each group of four pixel frames at once
and everything before it; the decoder remembers the previous frame inside every ``MemBlock``, so decoding chunk by
chunk with the memory handed on equals decoding in one go.

Shapes: ``B`` batch, ``T`` pixel frames, ``F`` latent frames, ``C`` channels. Inside, time rides in the batch:
[B*T, C, H, W].
Source of the structure: github.com/madebyollin/taehv.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from ..errors import CheckpointError, short
from ..geometry import SPATIAL, TEMPORAL
from .latents import denormalise, normalise

Memory = tuple[Tensor, ...]

_TRIM = TEMPORAL - 1  # latent frame 0 decodes to four pixel frames, of which the last one is the picture


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Widths by stage. Encoder: pixels, 1/2, 1/4, 1/8 of the size; decoder: 1/8, 1/4, 1/2, pixels."""

    encoder: tuple[int, int, int, int] | None = (64, 64, 64, 64)  # None: a decoder alone
    decoder: tuple[int, int, int, int] = (256, 128, 64, 64)
    latent_channels: int = 16
    vae_latents: bool = False  # trained on the latents that Wan's VAE makes (lighttaew2_1), not on normalised ones


class MemBlock(nn.Module):
    """Residual block, [B*T, C, H, W] to the same, whose convolutions also see the previous frame's input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width),
            nn.ReLU(inplace=True),
            _conv(width, width),
            nn.ReLU(inplace=True),
            _conv(width, width),
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.act(self.conv(torch.cat([x, past], dim=1)) + x)


class TPool(nn.Module):
    """Merge ``stride`` neighbouring frames into one: [B*T, C, H, W] -> [B*T/stride, C, H, W]."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]))


class TGrow(nn.Module):
    """Split every frame into ``stride`` frames: [B*T, C, H, W] -> [B*T*stride, C, H, W]."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y.reshape(-1, x.shape[1], *x.shape[2:])


class UpConv(nn.Conv2d):
    """A 3x3 convolution of the picture enlarged twice by nearest neighbour, [B*T, C, H, W] -> [B*T, C', 2H, 2W].

    Computed at the small size: each of the four output pixels of an input pixel sees 2x2 input pixels, and their
    kernels are sums of the 3x3 kernel's taps, so four small convolutions give the same numbers with 4/9 of the
    arithmetic.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        # taps[a, l, d]: tap d of the large kernel falls on small pixel l - 1 + a for the output pixel of parity a
        taps = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        precise = torch.promote_types(self.weight.dtype, torch.float32)
        taps = self.taps.to(precise)
        kernels = torch.einsum("ayv,bxu,oivu->aboiyx", taps, taps, self.weight.to(precise)).to(x.dtype)
        batch, _, height, width = x.shape
        enlarged = x.new_empty(batch, self.out_channels, height, 2, width, 2)
        for a, b in product((0, 1), (0, 1)):
            seen = fn.conv2d(x, kernels[a, b], padding=1)  # a row and a column more than are wanted
            enlarged[:, :, :, a, :, b] = seen[:, :, a : a + height, b : b + width]
        return enlarged.flatten(4).flatten(2, 3)


class Clamp(nn.Module):
    """Soft clamp of latents [B*F, C, H, W] to (-3, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Elsewhere(nn.Identity):
    """The place of the enlargement: it commutes with the 1x1 convolution after it, so ``UpConv`` does it later."""


class TAEHV(nn.Module):
    """Encoder and decoder; either may be used alone. Pixels are in 0..1, latents normalised, as networks have them."""

    spatial = SPATIAL

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        d, latent = config.decoder, config.latent_channels
        self.encoder = None if config.encoder is None else _encoder(config.encoder, latent)
        self.decoder = nn.Sequential(
            Clamp(), _conv(latent, d[0]), nn.ReLU(inplace=True),
            *(MemBlock(d[0]) for _ in range(3)), _Elsewhere(), TGrow(d[0], 1), UpConv(d[0], d[1]),
            *(MemBlock(d[1]) for _ in range(3)), _Elsewhere(), TGrow(d[1], 2), UpConv(d[1], d[2]),
            *(MemBlock(d[2]) for _ in range(3)), _Elsewhere(), TGrow(d[2], 2), UpConv(d[2], d[3]),
            nn.ReLU(inplace=True), _conv(d[3], 3),
        )  # fmt: skip

    @staticmethod
    def from_state_dict(state: Mapping[str, Tensor], *, vae_latents: bool = False, copy: bool = True) -> TAEHV:
        """Build with the widths that the tensors have, and load them; ``CheckpointError`` where they do not fit.

        Without ``copy`` the tensors themselves become its weights, which may lie in a mapped file.
        """
        config = replace(read_config(state), vae_latents=vae_latents)
        check_shapes(state, config)
        codec = TAEHV(config)
        try:
            codec.load_state_dict(state, assign=not copy)
        except RuntimeError as error:
            raise CheckpointError(f"this is no TAEHV autoencoder ({short(error, str)}); get it again") from error
        return codec.eval()

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels [B, T, 3, H, W], T = 1 + 4 (F - 1), H and W multiples of 8 -> latents [B, F, 16, H/8, W/8]."""
        if self.encoder is None:
            raise CheckpointError(
                "this autoencoder's file holds a decoder alone, so it cannot encode; give one with an encoder"
            )
        B, T = pixels.shape[:2]
        if T % TEMPORAL != 1:
            raise ValueError(f"cannot encode {T} pixel frames; give 1, 5, 9, ... (1 + 4 n) of them")
        if pixels.shape[-1] % SPATIAL or pixels.shape[-2] % SPATIAL:
            raise ValueError(
                f"cannot encode pictures of {tuple(pixels.shape[-2:])}; both sides must be multiples of {SPATIAL}"
            )
        pixels = torch.cat([pixels[:, :1].expand(-1, _TRIM, -1, -1, -1), pixels], dim=1)
        latents, _ = run_layers(self.encoder, pixels.flatten(0, 1), B, None)
        latents = latents.unflatten(0, (B, -1))
        return normalise(latents).to(latents.dtype) if self.config.vae_latents else latents

    def decode(self, latents: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """latents [B, F, 16, h, w] -> pixels [B, T, 3, 8h, 8w] in 0..1, and the memory for the next call.

        Without memory the first latent is the stream's first: it gives one pixel frame, all others give four.
        """
        B = latents.shape[0]
        latents = denormalise(latents) if self.config.vae_latents else latents
        latents = latents.to(self.decoder[1].weight.dtype)
        pixels, after = run_layers(self.decoder, latents.flatten(0, 1), B, memory)
        pixels = pixels.unflatten(0, (B, -1))
        return (pixels[:, _TRIM:] if memory is None else pixels), after


def read_config(state: Mapping[str, Tensor]) -> CodecConfig:
    """Widths from the tensors' shapes."""
    try:
        has_encoder = any(name.startswith("encoder.") for name in state)
        encoder = tuple(state[f"encoder.{i}.weight"].shape[0] for i in (0, 3, 8, 13)) if has_encoder else None
        decoder = tuple(state[f"decoder.{i}.weight"].shape[0] for i in (1, 8, 14, 20))
        latent = state["decoder.1.weight"].shape[1]
        if min(*decoder, latent, *(encoder or (1,))) < 1:
            raise CheckpointError("this is no TAEHV autoencoder: it has layers of no width; get it again")
    except IndexError as error:
        raise CheckpointError("this is no TAEHV autoencoder: a weight has too few dimensions; get it again") from error
    except KeyError as error:
        raise CheckpointError(f"this is no TAEHV autoencoder: the tensor {error} is missing; get it again") from error
    return CodecConfig(encoder=encoder, decoder=decoder, latent_channels=latent)


def check_shapes(state: Mapping[str, Tensor], config: CodecConfig) -> None:
    """Every tensor as one of those widths has it: before they are made, since a small file may claim any width."""
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in TAEHV(config).state_dict().items()}
    for name, shape in wanted.items():
        if name not in state or state[name].shape != shape:
            found = short(list(state[name].shape)) if name in state else "missing"
            raise CheckpointError(
                f"this is no TAEHV autoencoder: {name} is {found}, wanted {list(shape)}; get it again"
            )


def _encoder(e: tuple[int, int, int, int], latent: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(3, e[0]), nn.ReLU(inplace=True),
        TPool(e[0], 2), _conv(e[0], e[1], stride=2, bias=False), *(MemBlock(e[1]) for _ in range(3)),
        TPool(e[1], 2), _conv(e[1], e[2], stride=2, bias=False), *(MemBlock(e[2]) for _ in range(3)),
        TPool(e[2], 1), _conv(e[2], e[3], stride=2, bias=False), *(MemBlock(e[3]) for _ in range(3)),
        _conv(e[3], latent),
    )  # fmt: skip


def _conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def run_layers(layers: nn.Sequential, x: Tensor, batch: int, memory: Memory | None) -> tuple[Tensor, Memory]:
    """Apply the layers to [B*T, C, H, W]; every MemBlock takes its past frame from the memory and leaves its last."""
    before, after = iter(memory or ()), []
    for layer in layers:
        if isinstance(layer, MemBlock):
            frames = x.unflatten(0, (batch, -1))
            first = torch.zeros_like(frames[:, :1]) if memory is None else next(before)[:, None]
            after.append(frames[:, -1].clone())
            past = torch.cat([first, frames[:, :-1]], dim=1).flatten(0, 1)
            x = layer(x, past)
        else:
            x = layer(x)
    return x, tuple(after)
