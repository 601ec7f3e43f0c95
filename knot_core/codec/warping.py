"""A video autoencoder that moves a reference picture: latents carry geometry and motion, pixels come from the picture.

The decoder turns the latents of a frame and those of the reference into a backward flow, a mask and a residual:

    out = (1 - mask) * gain * warp(reference, flow) + mask * residual

Where the latents equal the reference's, the flow, the mask and the logarithm of the gain are zero, so the reference
comes back as it is; that is built in and not learnt.

Latent frame 0 covers one pixel frame, every later one four. The encoder sees four pixel frames at once and nothing
else, so a picture that stands still has the reference's latents for ever. The decoder remembers the previous frame
inside every ``MemoryBlock``: decoding chunk by chunk with the memory handed on equals decoding in one go.

Shapes: ``B`` batch, ``T`` pixel frames, ``F`` latent frames, ``C`` channels, ``H W`` picture, ``h w`` latent size
(H/16, W/16). Inside, time rides in the batch: [B*T, C, H, W].
Sources: first-order motion (arXiv 2003.00196) for flow, occlusion and residual; TAEHV for the memory in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from ..errors import CheckpointError, short
from ..geometry import TEMPORAL
from .latent_matching import FAR, NEAR, aligned_distances, distances, matches, warp

Memory = tuple[Tensor, ...]

_SPATIAL = 16
_TRIM = TEMPORAL - 1  # latent frame 0 decodes to four pixel frames, of which the last one is the picture
_GATE = 0.3  # distance of latents, of a standard deviation about 1, above which nothing holds the decoder back: what is
# drawn of a background that stands still is off by 0.1 to 0.26, what moves by 0.2 to 1.2
_COARSE, _FINE = float(_SPATIAL), 4.0  # pixels that a head's output of 1 moves
MOST_GAIN = 0.8  # of the logarithm of what brightens a copy
GAIN = 8  # pixels for one of the gain
_KEY = "decoder.head.weight"  # by which the files are known


@dataclass(frozen=True, kw_only=True)
class WarpingConfig:
    """Widths by stage. Encoder: 1/2, 1/4, 1/8, 1/16 of the size; decoder: 1/16, 1/8, 1/4; reference: its features at
    1/4.
    """

    encoder: tuple[int, int, int, int] = (16, 32, 64, 128)
    decoder: tuple[int, int, int] = (160, 56, 32)
    reference: int = 24
    latent_channels: int = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadReference:
    """A reference picture and what the decoder reads from it, once for all chunks."""

    pixels_BCHW: Tensor  # in 0..1
    latents_BCHW: Tensor
    features_BCHW: Tensor  # at a quarter of the size


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """The decoder's output for pixel frames, before it becomes a picture; N = B*T."""

    flow_N2HW: Tensor  # at half the size: how far away in the reference a pixel lies, in pixels (x, y)
    mask_N1HW: Tensor  # at half the size: 0 where the reference is copied, 1 where the residual stands
    log_gain_N1HW: Tensor  # at an eighth of the size: brightness of what is copied
    residual_N3HW: Tensor
    rough_N2HW: Tensor  # at an eighth of the size: the flow before features of the reference refine it
    matched_N2HW: Tensor  # at a sixteenth of the size: the flow that the latents' likeness alone tells


class ResBlock(nn.Module):
    """[N, C, H, W] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width, width), nn.ReLU(inplace=True), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv(x))


class MemoryBlock(nn.Module):
    """Residual block, [N, C, H, W] to the same, which also sees the previous frame's input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(2 * width, width), nn.ReLU(inplace=True), _conv(width, width))

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return torch.relu(x + self.conv(torch.cat([x, past], dim=1)))


class Encoder(nn.Module):
    """Groups of four pixel frames to latents; each group by itself."""

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__()
        a, b, c, d = config.encoder
        self.frame = nn.Sequential(
            _conv(3, a, stride=2), nn.ReLU(inplace=True), _conv(a, b, stride=2), nn.ReLU(inplace=True), ResBlock(b),
            _conv(b, c, stride=2), nn.ReLU(inplace=True), ResBlock(c),
        )  # fmt: skip
        self.merge = nn.Conv2d(TEMPORAL * c, d, 1)
        self.group = nn.Sequential(
            nn.ReLU(inplace=True), _conv(d, d, stride=2), nn.ReLU(inplace=True), ResBlock(d), ResBlock(d),
            _conv(d, config.latent_channels),
        )  # fmt: skip

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """[4 N, 3, H, W] in 0..1 -> [N, C, h, w]."""
        seen = self.frame(2 * pixels_NCHW - 1)
        return self.group(self.merge(seen.reshape(-1, TEMPORAL * seen.shape[1], *seen.shape[2:])))

    def still(self, pixels_NCHW: Tensor) -> Tensor:
        """[N, 3, H, W], each four times the same picture -> [N, C, h, w]."""
        return self.group(self.merge(self.frame(2 * pixels_NCHW - 1).repeat(1, TEMPORAL, 1, 1)))


class Decoder(nn.Module):
    """Latents to motion, with the reference's features at hand."""

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__()
        a, b, c = config.decoder
        self.sharpness = nn.Parameter(torch.tensor(1.5))  # logarithm; how much a smaller distance counts
        self.first = _conv(4 * config.latent_channels + FAR + 2 + NEAR, a)
        self.latent_blocks = nn.ModuleList(MemoryBlock(a) for _ in range(3))
        self.grow = nn.Conv2d(a, 4 * TEMPORAL * b, 1)
        self.frame_blocks = nn.ModuleList(MemoryBlock(b) for _ in range(2))
        self.coarse = _conv(b, 3)  # flow and gain
        self.up = nn.Conv2d(b, 4 * c, 1)
        self.reference = nn.Sequential(
            _conv(3, 16, stride=2), nn.ReLU(inplace=True), _conv(16, config.reference, stride=2),
            nn.ReLU(inplace=True), ResBlock(config.reference),
        )  # fmt: skip
        self.join = _conv(c + config.reference, c)
        self.block = ResBlock(c)
        self.head = nn.Conv2d(c, 2 * 4 + 4 + 3 * 16, 1)  # flow and mask at half the size, residual at the whole

    def forward(self, latents_BFCHW: Tensor, reference: ReadReference, memory: Memory | None) -> tuple[Motion, Memory]:
        """[B, F, C, h, w] -> the motion of 4 B F pixel frames, and the memory for the next call."""
        past = _Past(len(latents_BFCHW), memory)
        grown, matched, gate = self._grown(latents_BFCHW, reference, past)
        x = grown.reshape(-1, grown.shape[1] // TEMPORAL, *grown.shape[2:])
        matched, gate = (part.repeat_interleave(TEMPORAL, dim=0) for part in (matched, gate))
        return self._moved(x, reference, matched, gate, past), past.kept

    def last_frames(self, latents_BCHW: Tensor, reference: ReadReference) -> Motion:
        """[B, C, h, w] -> the motion of the last pixel frame of each, as of a stream's first latent frame."""
        past = _Past(len(latents_BCHW), None)
        grown, matched, gate = self._grown(latents_BCHW[:, None], reference, past)
        return self._moved(grown.chunk(TEMPORAL, dim=1)[-1], reference, matched, gate, past)

    def _grown(self, latents_BFCHW: Tensor, reference: ReadReference, past: _Past) -> tuple[Tensor, Tensor, Tensor]:
        """Features of all pixel frames of a latent frame [B*F, 16 b, h, w], the flow by matching, and the gate."""
        own, still = latents_BFCHW.flatten(0, 1), _repeated(reference.latents_BCHW, latents_BFCHW.shape[1])
        clamped = _clamped(own), _clamped(still)
        apart = distances(*clamped)
        matched = matches(apart, self.sharpness.exp())
        aligned, near = aligned_distances(*clamped, matched)
        seen = [*clamped, own - still, apart, matched, clamped[0] - aligned, near]
        x = torch.relu(self.first(torch.cat(seen, dim=1)))
        for block in self.latent_blocks:
            x = past.through(block, x)
        return self.grow(x), matched, _gate(own, still)

    def _moved(self, x: Tensor, reference: ReadReference, matched: Tensor, gate: Tensor, past: _Past) -> Motion:
        """From features [N, 4 b, h, w]."""
        x = torch.relu(fn.pixel_shuffle(x, 2))
        for block in self.frame_blocks:
            x = past.through(block, x)
        return self._motion(x, reference, matched, gate)

    def _motion(self, x: Tensor, reference: ReadReference, matched: Tensor, gate: Tensor) -> Motion:
        """From features [N, b, H/8, W/8]."""
        precise = reference.pixels_BCHW.dtype
        coarse, gain = self.coarse(x).to(precise).split([2, 1], dim=1)
        coarse = _COARSE * (_doubled(matched) + coarse)
        copied = warp(_repeated(reference.features_BCHW, len(x) // len(reference.features_BCHW)), _doubled(coarse), 4)
        near = torch.relu(self.join(torch.cat([fn.pixel_shuffle(self.up(x), 2), copied], dim=1)))
        flow, mask, residual = self.head(self.block(near)).to(precise).split([8, 4, 48], dim=1)
        flow = _doubled(_doubled(coarse)) + _FINE * fn.pixel_shuffle(flow, 2)
        open_ = _enlarged(gate, 8)
        return Motion(
            flow_N2HW=open_ * flow,
            mask_N1HW=open_ * torch.sigmoid(fn.pixel_shuffle(mask, 2)),
            log_gain_N1HW=_enlarged(gate, 2) * MOST_GAIN * torch.tanh(gain),
            residual_N3HW=fn.pixel_shuffle(residual, 4) + 0.5,
            rough_N2HW=coarse,
            matched_N2HW=_COARSE * matched,
        )


class WarpingCodec(nn.Module):
    """Encoder and decoder. Pixels are in 0..1, latents have a standard deviation of about 1."""

    spatial = _SPATIAL
    wants_reference = True

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        with torch.no_grad():  # at first the reference stands still
            self.decoder.coarse.weight.zero_()
            self.decoder.coarse.bias.zero_()
            self.decoder.head.weight.zero_()
            self.decoder.head.bias.copy_(torch.tensor([0.0] * 8 + [-3.0] * 4 + [0.0] * 48))

    @staticmethod
    def from_state_dict(state: Mapping[str, Tensor]) -> WarpingCodec:
        """Build with the widths that the tensors have, and load them; ``CheckpointError`` where they do not fit."""
        config = read_config(state)
        _check_shapes(state, config)
        codec = WarpingCodec(config)
        try:
            codec.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"this is no warping autoencoder ({short(error, str)}); get it again") from error
        return codec.to(memory_format=torch.channels_last).eval()

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels [B, T, 3, H, W], T = 1 + 4 (F - 1), H and W multiples of 16 -> latents [B, F, C, H/16, W/16]."""
        batch, num_frames = pixels.shape[:2]
        if num_frames % TEMPORAL != 1:
            raise ValueError(f"cannot encode {num_frames} pixel frames; give 1, 5, 9, ... (1 + 4 n) of them")
        _check_size(pixels)
        first = self.encoder.still(_laid_out(pixels[:, 0]))[:, None]
        if num_frames == 1:
            return first
        later = self.encoder(_laid_out(pixels[:, 1:].flatten(0, 1))).unflatten(0, (batch, -1))
        return torch.cat([first, later], dim=1)

    def read_reference(self, pixels_BCHW: Tensor, latents_BCHW: Tensor | None = None) -> ReadReference:
        """A picture [B, 3, H, W] in 0..1 as `decode` takes it; its latents are computed where they are not given."""
        _check_size(pixels_BCHW)
        pixels = _laid_out(pixels_BCHW.to(self.decoder.first.weight))
        latents = self.encoder.still(pixels) if latents_BCHW is None else latents_BCHW.to(pixels)
        return ReadReference(
            pixels_BCHW=pixels, latents_BCHW=latents, features_BCHW=self.decoder.reference(2 * pixels - 1)
        )

    def decode(
        self, latents: Tensor, memory: Memory | None = None, reference: ReadReference | None = None
    ) -> tuple[Tensor, Memory]:
        """latents [B, F, C, h, w] -> pixels [B, T, 3, 16h, 16w] in 0..1, and the memory for the next call.

        Without memory the first latent is the stream's first: it gives one pixel frame, all others give four.
        """
        if reference is None:
            raise ValueError("this autoencoder moves a reference picture and got none; give what read_reference made")
        motion, after = self.decoder(latents.to(self.decoder.first.weight.dtype), reference, memory)
        pixels = composed(motion, reference).unflatten(0, (len(latents), -1))
        return (pixels[:, _TRIM:] if memory is None else pixels), after


def composed(motion: Motion, reference: ReadReference) -> Tensor:
    """(1 - mask) * gain * warp(reference, flow) + mask * residual: [N, 3, H, W]"""
    count = len(motion.flow_N2HW) // len(reference.pixels_BCHW)
    copied = warp(_repeated(reference.pixels_BCHW, count), _doubled(motion.flow_N2HW), 1)
    copied = copied * _enlarged(motion.log_gain_N1HW.exp(), GAIN)
    return torch.lerp(copied, motion.residual_N3HW, _doubled(motion.mask_N1HW))


def read_config(state: Mapping[str, Tensor]) -> WarpingConfig:
    """Widths from the tensors' shapes."""
    try:
        encoder = tuple(state[f"encoder.{name}.weight"].shape[0] for name in ("frame.0", "frame.2", "frame.5", "merge"))
        first, coarse, join = (state[f"decoder.{name}.weight"].shape for name in ("first", "coarse", "join"))
        decoder = (first[0], coarse[1], join[0])
        reference = state["decoder.reference.2.weight"].shape[0]
        latent = state["encoder.group.5.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"this is no warping autoencoder: the tensor {error} is missing; get it again") from error
    except IndexError as error:
        raise CheckpointError("this is no warping autoencoder: a weight has too few dimensions") from error
    if min(*encoder, *decoder, reference, latent) < 1:
        raise CheckpointError("this is no warping autoencoder: it has layers of no width; get it again")
    return WarpingConfig(encoder=encoder, decoder=decoder, reference=reference, latent_channels=latent)


def is_warping(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors of these names are a warping autoencoder's."""
    return _KEY in names


class _Past:
    """Hands every MemoryBlock the frame before its first, and keeps its last, in the order of the calls."""

    def __init__(self, batch: int, memory: Memory | None) -> None:
        self._batch = batch
        self._before: Iterator[Tensor] | None = None if memory is None else iter(memory)
        self._after: list[Tensor] = []

    def through(self, block: MemoryBlock, x: Tensor) -> Tensor:
        frames = x.unflatten(0, (self._batch, -1))
        first = torch.zeros_like(frames[:, 0]) if self._before is None else next(self._before)
        self._after.append(frames[:, -1].clone())
        return block(x, torch.cat([first[:, None], frames[:, :-1]], dim=1).flatten(0, 1))

    @property
    def kept(self) -> Memory:
        return tuple(self._after)


def _gate(own_NCHW: Tensor, still_NCHW: Tensor) -> Tensor:
    """1 - exp(-(mean square distance / s^2)^2), [N, 1, h, w]: 0 where the latents are the reference's, else nearly 1"""
    apart = (own_NCHW - still_NCHW).square().mean(dim=1, keepdim=True) / _GATE**2
    return 1 - torch.exp(-apart.square())


def _clamped(latents: Tensor) -> Tensor:
    return 3 * torch.tanh(latents / 3)


def _repeated(x_BCHW: Tensor, count: int) -> Tensor:
    """Each of the batch for `count` frames in a row; of a batch of one without a copy."""
    if len(x_BCHW) == 1:
        return x_BCHW.expand(count, -1, -1, -1)
    return x_BCHW.repeat_interleave(count, dim=0)


def _enlarged(x_NCHW: Tensor, times: int) -> Tensor:
    return fn.interpolate(x_NCHW, scale_factor=times, mode="bilinear", align_corners=False)


def _doubled(x_NCHW: Tensor) -> Tensor:
    return _enlarged(x_NCHW, 2)


def _laid_out(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _check_size(pixels: Tensor) -> None:
    if pixels.shape[-1] % _SPATIAL or pixels.shape[-2] % _SPATIAL:
        raise ValueError(
            f"cannot encode pictures of {tuple(pixels.shape[-2:])}; both sides must be multiples of {_SPATIAL}"
        )


def _check_shapes(state: Mapping[str, Tensor], config: WarpingConfig) -> None:
    """Every tensor as one of those widths has it: before they are made, since a small file may claim any width."""
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in WarpingCodec(config).state_dict().items()}
    for name, shape in wanted.items():
        if name not in state or state[name].shape != shape:
            found = short(list(state[name].shape)) if name in state else "missing"
            raise CheckpointError(
                f"this is no warping autoencoder: {name} is {found}, wanted {list(shape)}; get it again"
            )


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
