"""The place of a cut-out in the whole picture: moved, turned and scaled alike in all directions.

A point is a complex number x + iy in pixels, from the upper left corner of the upper left pixel; so a pixel's centre is
half a pixel further, and a similarity transform is one product and one sum.

Shapes: H W height and width of the whole picture, h w of the cut-out.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .picture import Fit


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A point p of the cut-out is the point `origin + scale * p` of the whole picture."""

    scale: complex  # pixels of the whole for one of the cut-out; its angle is how far the cut-out is turned
    origin: complex  # the cut-out's upper left corner
    size: tuple[int, int]  # height and width of the cut-out
    whole: tuple[int, int]  # height and width of the whole picture

    def to_whole(self, points: Tensor) -> Tensor:
        """Points of the cut-out, complex [...], in the whole picture."""
        return self.origin + self.scale * points

    def to_cut_out(self, points: Tensor) -> Tensor:
        """Points of the whole picture, complex [...], in the cut-out."""
        return (points - self.origin) / self.scale

    def at_size(self, height: int, width: int) -> "Placement":
        """The same cut-out at another size; of other proportions its middle, as `fit_image` crops."""
        have_height, have_width = self.size
        factor = min(have_height / height, have_width / width)  # pixels of this one for one of the other
        corner = complex((have_width - factor * width) / 2, (have_height - factor * height) / 2)
        return replace(self, scale=self.scale * factor, origin=self.origin + self.scale * corner, size=(height, width))

    def at_full_resolution(self) -> "Placement":
        """The same cut-out with about one pixel for each of the whole picture."""
        height, width = (max(1, round(side * abs(self.scale))) for side in self.size)
        return self.at_size(height, width)

    def inside(self) -> float:
        """The share of the cut-out that lies within the whole picture, 0 to 1."""
        places = self.to_whole(pixel_centres(*self.size))
        height, width = self.whole
        within = (places.real >= 0) & (places.real <= width) & (places.imag >= 0) & (places.imag <= height)
        return float(within.float().mean())


def fitted_placement(picture: tuple[int, int], height: int, width: int, fit: Fit = "crop") -> Placement:
    """The placement of what `fit_image` makes of a picture (height, width): its middle, or all of it between bars."""
    ratios = (height / picture[0], width / picture[1])
    factor = 1 / (max(ratios) if fit == "crop" else min(ratios))
    corner = complex(picture[1] - factor * width, picture[0] - factor * height) / 2
    return Placement(scale=complex(factor), origin=corner, size=(height, width), whole=picture)


def within(placement: Placement, box: tuple[int, ...], picture: tuple[int, int]) -> Placement:
    """A placement in a part of a picture (height, width), the box (top, left, height, width), in the picture itself."""
    top, left, *_ = box
    return replace(placement, origin=placement.origin + complex(left, top), whole=picture)


def pixel_centres(height: int, width: int) -> Tensor:
    """complex64 [height, width]"""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.complex(x, y)


def sampling_grid(places: Tensor, height: int, width: int) -> Tensor:
    """Points complex [h, w] of a picture of that size as `grid_sample` takes them, [1, h, w, 2] in -1..1."""
    return torch.stack((2 * places.real / width - 1, 2 * places.imag / height - 1), dim=-1)[None]


def cut_out(image: Tensor, placement: Placement) -> Tensor:
    """[H, W, 3] in 0..1 -> [h, w, 3]; what lies outside of the picture is its mirror image."""
    planes = rearrange(image[..., :3].float().clamp(0, 1), "h w c -> 1 c h w")
    if abs(placement.scale) > 1:  # the filter that keeps fine detail from flickering as coarse patterns
        smaller = [max(1, round(side / abs(placement.scale))) for side in image.shape[:2]]
        planes = F.interpolate(planes, smaller, mode="bicubic", antialias=True)
    grid = sampling_grid(placement.to_whole(pixel_centres(*placement.size)), *placement.whole)
    sampled = F.grid_sample(planes, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return rearrange(sampled.clamp(0, 1), "1 c h w -> h w c").contiguous()
