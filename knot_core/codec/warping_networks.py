"""The networks of the warping autoencoder: pixel frames to latents, and latents to motion.

The decoder remembers the previous frame inside every ``MemoryBlock``: decoding chunk by chunk with the memory handed on
equals decoding in one go.

Shapes: ``B`` batch, ``T`` pixel frames, ``F`` latent frames, ``C`` channels, ``H W`` picture, ``h w`` latent size
(H/16, W/16). Inside, time rides in the batch: [B*T, C, H, W].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from ..geometry import TEMPORAL
from .decoder_past import Memory, Past
from .latent_matching import FAR, NEAR, aligned_distances, distances, matches, warp
from .photo_tones import in_tone
from .point_motion import PointMotion, Points, followed, stirred

SPATIAL = 16
_GATE = 0.3  # distance of latents, of a standard deviation about 1, above which nothing holds the decoder back: what is
# drawn of a background that stands still is off by 0.1 to 0.26, what moves by 0.2 to 1.2
_COARSE, _FINE = float(SPATIAL), 4.0  # pixels that a head's output of 1 moves
MOST_GAIN = 0.8  # of the logarithm of what brightens a copy


@dataclass(frozen=True, kw_only=True)
class WarpingConfig:
    """Widths by stage. Encoder: 1/2, 1/4, 1/8, 1/16 of the size; decoder: 1/16, 1/8, 1/4; reference: its features at
    1/4.
    """

    encoder: tuple[int, int, int, int] = (16, 32, 64, 128)
    decoder: tuple[int, int, int] = (160, 56, 32)
    reference: int = 24
    latent_channels: int = 16
    points: int = 0  # landmarks that are read from latents
    coded: bool = False  # whether the latents' means tell how those move
    groups: int = 8  # of them, each with maps of its own


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadReference:
    """A reference picture and what the decoder reads from it, once for all chunks."""

    pixels_BCHW: Tensor  # in 0..1; `detail` times as large as what the encoder sees
    latents_BCHW: Tensor
    features_BCHW: Tensor  # at a quarter of the size that the encoder sees
    window_HW: Tensor  # at half the size that the encoder sees: 0 where the picture stands still
    tone_B33: Tensor  # that of the picture, for what is painted into it
    points: Points | None = None  # of a decoder that reads landmarks

    @property
    def detail(self) -> int:
        """How many of the picture's pixels, each way, lie in one that the encoder sees."""
        return self.pixels_BCHW.shape[-1] // (SPATIAL * self.latents_BCHW.shape[-1])


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
        told = 3 * config.groups if config.points else 0
        self.points = None
        if config.points:
            self.points = PointMotion(config.latent_channels, config.points, config.groups, coded=config.coded)
        self.join = _conv(c + config.reference + told, c)
        self.block = ResBlock(c)
        self.head = nn.Conv2d(c, 2 * 4 + 4 + 3 * 16, 1)  # flow and mask at half the size, residual at the whole

    def forward(
        self,
        latents_BFCHW: Tensor,
        reference: ReadReference,
        memory: Memory | None,
        points: Points | None = None,
    ) -> tuple[Motion, Memory]:
        """[B, F, C, h, w] -> the motion of 4 B F pixel frames, and the memory for the next call.

        Where `points` does not say where landmarks lie, the latents tell it.
        """
        past = Past(len(latents_BFCHW), memory)
        grown, told = self._grown(latents_BFCHW, reference, points, past)
        x = grown.reshape(-1, grown.shape[1] // TEMPORAL, *grown.shape[2:])
        return self._moved(x, reference, told, past), past.kept

    def last_frames(self, latents_BCHW: Tensor, reference: ReadReference, points: Points | None = None) -> Motion:
        """[B, C, h, w] -> the motion of the last pixel frame of each, as of a stream's first latent frame."""
        past = Past(len(latents_BCHW), None)
        grown, told = self._grown(latents_BCHW[:, None], reference, points, past)
        return self._moved(grown.chunk(TEMPORAL, dim=1)[-1], reference, told.last(), past)

    def _grown(
        self, latents_BFCHW: Tensor, reference: ReadReference, points: Points | None, past: Past
    ) -> tuple[Tensor, _Told]:
        """Features of all pixel frames of a latent frame [B*F, 16 b, h, w], and what latents alone tell of them."""
        own, still = latents_BFCHW.flatten(0, 1), repeated(reference.latents_BCHW, latents_BFCHW.shape[1])
        places = None
        if self.points is not None:
            there, code = reference.points.repeated(latents_BFCHW.shape[1]), self.points.code
            if code is not None:
                moved, own = code.read(own, still)
                points = there.moved(past.going_on(moved)) if points is None else points
            places = self.points.reader(own) if points is None else points, there
        clamped = _clamped(own), _clamped(still)
        apart = distances(*clamped)
        matched = matches(apart, self.sharpness.exp())
        aligned, near = aligned_distances(*clamped, matched)
        seen = [*clamped, own - still, apart, matched, clamped[0] - aligned, near]
        x = torch.relu(self.first(torch.cat(seen, dim=1)))
        for block in self.latent_blocks:
            x = past.through(block, x)
        matched, gate = (part.repeat_interleave(TEMPORAL, dim=0) for part in (matched, _gate(own, still)))
        if points is not None:  # what is told is not doubted
            gate = 1 - (1 - gate) * (1 - stirred(*places, *own.shape[-2:]).to(gate))
        return self.grow(x), _Told(matched_N2hw=matched, gate_N1hw=gate, places=places, certain=points is not None)

    def _moved(self, x: Tensor, reference: ReadReference, told: _Told, past: Past) -> Motion:
        """From features [N, 4 b, h, w]."""
        x = torch.relu(fn.pixel_shuffle(x, 2))
        for block in self.frame_blocks:
            x = past.through(block, x)
        return self._motion(x, reference, told)

    def _motion(self, x: Tensor, reference: ReadReference, told: _Told) -> Motion:
        """From features [N, b, H/8, W/8]."""
        matched, precise = told.matched_N2hw, reference.pixels_BCHW.dtype
        coarse, gain = self.coarse(x).to(precise).split([2, 1], dim=1)
        coarse = _COARSE * (doubled(matched) + coarse)
        if told.certain:
            coarse = followed(*told.places, coarse)
        copied = warp(repeated(reference.features_BCHW, len(x) // len(reference.features_BCHW)), doubled(coarse), 4)
        seen = [fn.pixel_shuffle(self.up(x), 2), copied]
        if told.places is not None:
            seen.append(self.points(*told.places, coarse))
        near = torch.relu(self.join(torch.cat(seen, dim=1)))
        flow, mask, residual = self.head(self.block(near)).to(precise).split([8, 4, 48], dim=1)
        if told.places is not None:
            flow = flow + self.points.local(seen[-1]).to(precise)
        flow = doubled(doubled(coarse)) + _FINE * fn.pixel_shuffle(flow, 2)
        painted = residual.unflatten(1, (3, 16)).mean(dim=2) + 0.5  # finer, it shows a grid
        open_ = enlarged(told.gate_N1hw, 8)
        return Motion(
            flow_N2HW=open_ * flow,
            mask_N1HW=open_ * torch.sigmoid(fn.pixel_shuffle(mask, 2)),
            log_gain_N1HW=enlarged(told.gate_N1hw, 2) * MOST_GAIN * torch.tanh(gain),
            residual_N3HW=enlarged(in_tone(painted, reference.tone_B33), 4),
            rough_N2HW=coarse,
            matched_N2HW=_COARSE * matched,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Told:
    """Knowledge of N pixel frames from latents alone, four of each latent frame side by side."""

    matched_N2hw: Tensor  # the flow by matching
    gate_N1hw: Tensor  # 0 where the latents are the reference's
    places: tuple[Points, Points] | None  # landmarks, and the reference's for each frame
    certain: bool  # whether those are told, and not read from the latents

    def last(self) -> _Told:
        """The same of each latent frame's last pixel frame alone."""
        frames = slice(TEMPORAL - 1, None, TEMPORAL)
        places = None if self.places is None else tuple(part.last() for part in self.places)
        matched, gate = self.matched_N2hw[frames], self.gate_N1hw[frames]
        return _Told(matched_N2hw=matched, gate_N1hw=gate, places=places, certain=self.certain)


def _gate(own_NCHW: Tensor, still_NCHW: Tensor) -> Tensor:
    """1 - exp(-(mean square distance / s^2)^2), [N, 1, h, w]: 0 where the latents are the reference's, else nearly 1"""
    apart = (own_NCHW - still_NCHW).square().mean(dim=1, keepdim=True) / _GATE**2
    return 1 - torch.exp(-apart.square())


def _clamped(latents: Tensor) -> Tensor:
    return 3 * torch.tanh(latents / 3)


def repeated(x_BCHW: Tensor, count: int) -> Tensor:
    """[B, C, H, W] -> [B*count, C, H, W]: each for `count` frames in a row; of a batch of one without a copy."""
    if len(x_BCHW) == 1:
        return x_BCHW.expand(count, -1, -1, -1)
    return x_BCHW.repeat_interleave(count, dim=0)


def enlarged(x_NCHW: Tensor, times: int) -> Tensor:
    """[N, C, H, W] -> [N, C, times H, times W], bilinear."""
    return fn.interpolate(x_NCHW, scale_factor=times, mode="bilinear", align_corners=False)


def doubled(x_NCHW: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2 H, 2 W], bilinear."""
    return enlarged(x_NCHW, 2)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
