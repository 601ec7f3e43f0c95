"""Motion that landmarks tell: a small network reads from latents where they lie, in the frame and in the reference.

Lids and lips are smaller than a latent cell. How far each of them has moved is a few numbers, which latents can tell
long before a decoder learns to draw them; so those are read first, and drawn as maps of motion that the decoder sees.

Shapes: ``N`` latent frames or their pixel frames, ``C`` channels, ``L`` landmarks, ``G`` groups of them, ``h w`` latent
size (H/16, W/16); T = 4 pixel frames of a latent frame.
Source: maps of key points' motion (arXiv 2003.00196).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from ..geometry import TEMPORAL
from ..heat_maps import mean_places
from .landmark_code import LandmarkCode

STRIDE = 4  # pixels for one of the maps
_CELL = 4 * STRIDE  # pixels for one of the latents
_READ = 96  # width of the reader
_SPREAD = 6.0  # pixels, of a landmark's motion
_NEAR, _STIRS = 16.0, 1.0  # pixels: how near a landmark's motion opens the decoder's gate, and which
_REACH, _HOLDS = 24.0, 0.3  # pixels about a landmark that go with it; how far they stay where none is near
_UNIT = 4.0  # pixels of motion that are 1 in a map


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Landmarks of pixel frames, those of a latent frame side by side."""

    places_NL2: Tensor  # in sides of the picture (x, y)
    sure_NL: Tensor  # 0..1: how sure it is that the landmark lies in the picture

    def repeated(self, count: int) -> Points:
        """The landmarks of B latent frames, each for `count` latent frames in a row."""
        return Points(**{name: part.unflatten(0, (-1, TEMPORAL)).repeat_interleave(count, dim=0).flatten(0, 1)
                         for name, part in vars(self).items()})  # fmt: skip

    def moved(self, by_NL2: Tensor) -> Points:
        """The same landmarks elsewhere, by [N, L, 2] in sides of the picture."""
        return replace(self, places_NL2=self.places_NL2 + by_NL2.to(self.places_NL2))

    def told(self, landmarks_L2: Tensor | None) -> Points:
        """The same, where it is known for certain where some of them lie: those of all frames that are numbers."""
        if landmarks_L2 is None:
            return self
        places = landmarks_L2.to(self.places_NL2)
        known = places.isfinite().all(dim=-1)
        return Points(
            places_NL2=torch.where(known[:, None], places, self.places_NL2),
            sure_NL=self.sure_NL.masked_fill(known, 1.0),
        )

    def last(self) -> Points:
        """The landmarks of each latent frame's last pixel frame."""
        return Points(**{name: part[TEMPORAL - 1 :: TEMPORAL] for name, part in vars(self).items()})


class PointReader(nn.Module):
    """Latents to landmarks."""

    def __init__(self, channels: int, points: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, _READ, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(_READ, _READ, 5, padding=2), nn.ReLU(inplace=True), nn.Conv2d(_READ, TEMPORAL * points, 1),
        )  # fmt: skip

    def maps(self, latents_NCHW: Tensor) -> Tensor:
        """[N, C, h, w] -> logarithms of likelihood, float32 [N T, L, h w + 1]; the last one: it is nowhere here."""
        maps = self.layers(latents_NCHW).float().flatten(2).unflatten(1, (TEMPORAL, -1)).flatten(0, 1)
        return fn.pad(maps, (0, 1))

    def forward(self, latents_NCHW: Tensor) -> Points:
        """[N, C, h, w] -> the landmarks of N T pixel frames."""
        shares = fn.softmax(self.maps(latents_NCHW), dim=-1)
        sure = 1 - shares[..., -1]
        places = mean_places(shares[..., :-1].unflatten(-1, latents_NCHW.shape[-2:]))
        return Points(places_NL2=places, sure_NL=sure)


class PointMotion(nn.Module):
    """Landmarks' motion as maps at a quarter of the size, and the flow that follows from those alone."""

    def __init__(self, channels: int, points: int, groups: int, *, coded: bool = False) -> None:
        super().__init__()
        self.reader = PointReader(channels, points)
        self.code = LandmarkCode(channels, points) if coded else None
        self.mix = nn.Parameter(torch.rand(groups, points) / points)  # how much of a landmark goes into a group's maps
        self.local = nn.Conv2d(3 * groups, 8, 7, padding=3, bias=False)
        nn.init.zeros_(self.local.weight)

    def forward(self, own: Points, still: Points, coarse_N2HW: Tensor) -> Tensor:
        """[N, 3 G, 2 H, 2 W] from the coarse flow [N, 2, H, W] in pixels, at an eighth of the size: where landmarks of
        each group lie, and how far their motion differs from the coarse flow there, in `_UNIT`.
        """
        height, width = (2 * side for side in coarse_N2HW.shape[-2:])
        moved = _off(own, still, coarse_N2HW)
        sure = (own.sure_NL * still.sure_NL)[:, None]
        values = torch.cat([sure, sure * moved / _UNIT], dim=1)
        across, down = _bumps(own, (width, height), _SPREAD / STRIDE)
        weights = (self.mix.float()[None, :, None] * values[:, None]).flatten(1, 2)  # [N, 3 G, L]
        columns = (weights[..., None] * down[:, None]).transpose(-1, -2)  # [N, 3 G, H, L]
        return (columns @ across[:, None]).to(self.mix.dtype)


def followed(own: Points, still: Points, coarse_N2HW: Tensor) -> Tensor:
    """A coarse flow [N, 2, H, W], in pixels at an eighth of the size, that leads to where landmarks were: about each of
    them it is moved by what it is off there.

    Latents tell once for four pixel frames how a head moves, and landmarks tell it for each: without them what lies
    between them goes on in steps.
    """
    height, width = coarse_N2HW.shape[-2:]
    across, down = _bumps(own, (width, height), _REACH / (2 * STRIDE))
    sure = own.sure_NL * still.sure_NL
    values = sure[:, None] * fn.pad(_off(own, still, coarse_N2HW), (0, 0, 0, 1), value=1.0)  # [N, 3, L]
    spread = (values[..., None] * down[:, None]).transpose(-1, -2) @ across[:, None]  # [N, 3, H, W]
    return coarse_N2HW + (spread[:, :2] / (spread[:, 2:] + _HOLDS)).to(coarse_N2HW.dtype)


def _off(own: Points, still: Points, coarse_N2HW: Tensor) -> Tensor:
    """Pixels by which a coarse flow at an eighth of the size is off at landmarks, [N, 2, L]."""
    height, width = (2 * STRIDE * side for side in coarse_N2HW.shape[-2:])
    there = fn.grid_sample(
        coarse_N2HW.float(), 2 * own.places_NL2[:, None] - 1, padding_mode="border", align_corners=False
    )[:, :, 0]
    apart = (still.places_NL2 - own.places_NL2).unbind(dim=-1)
    return torch.stack([side * part for side, part in zip((width, height), apart, strict=True)], 1) - there


def stirred(own: Points, still: Points, height: int, width: int) -> Tensor:
    """Over latent cells, [N, 1, h, w]: 0 where no landmark near has left its place, 1 where one has, by pixels."""
    sides = torch.tensor([width, height], device=own.places_NL2.device) * _CELL
    moved = ((own.places_NL2 - still.places_NL2) * sides).norm(dim=-1) * own.sure_NL * still.sure_NL
    across, down = _bumps(own, (width, height), _NEAR / _CELL)
    most = (moved[..., None, None] * down[..., None] * across[..., None, :]).amax(dim=1, keepdim=True)
    return 1 - torch.exp(-((most / _STIRS) ** 4))


def _bumps(own: Points, sides: tuple[int, int], spread: float) -> list[Tensor]:
    """exp(-(x - place)^2 / 2 spread^2) over the columns of a map, [N, L, W], and over its rows, [N, L, H], in cells."""
    found = []
    for place_NL, side in zip(own.places_NL2.unbind(dim=-1), sides, strict=True):
        at = torch.arange(side, device=place_NL.device, dtype=torch.float32) + 0.5
        found.append(torch.exp((at - side * place_NL[..., None]).square() / (-2 * spread**2)))
    return found
