"""Animated frames returned into the whole picture from which they were cut out.

Shapes: H W height and width of the whole picture, h w of the frames, T frames.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import MediaError
from .placement import Placement, pixel_centres, sampling_grid

FEATHER = 0.1  # of the frames' shorter side, over which they blend into the picture
_AT_THE_EDGE = 1.0  # pixels from the picture's edge within which a side of the frames does not blend


class PasteBack:
    """Pastes frames into a picture [H, W, 3], uint8 or in 0..1; made once for all frames of one size.

    The frames blend into the picture over `feather` of their shorter side, but not where they reach its edge. Outside
    of them every pixel is the picture's own, bit for bit.
    """

    def __init__(self, picture: Tensor, placement: Placement, feather: float = FEATHER) -> None:
        if tuple(picture.shape[:2]) != placement.whole:
            height, width = placement.whole
            raise MediaError(
                f"the whole picture has {picture.shape[1]}x{picture.shape[0]} pixels, but the crop was taken from one "
                f"of {width}x{height}; give that picture"
            )
        if not 0 <= feather <= 0.5:
            raise MediaError(f"feather is {feather}; it must be from 0, a hard edge, to 0.5, half of the frame")
        self._picture, self._placement = picture[..., :3], placement
        self._top, self._left, bottom, right = _bounds(placement)
        centres = pixel_centres(bottom - self._top, right - self._left) + complex(self._left, self._top)
        self._places = placement.to_cut_out(centres)
        self._mask = _mask(self._places, placement, feather)[..., None]

    def __call__(self, frames_THWC: Tensor) -> Tensor:
        """[T, h, w, 3] -> [T, H, W, 3] of the same kind: uint8, or floating in 0..1."""
        whole = _as(self._picture, frames_THWC.dtype)
        return torch.stack([self._pasted(whole, frame) for frame in frames_THWC])

    def _pasted(self, whole: Tensor, frame: Tensor) -> Tensor:
        height, width = self._mask.shape[:2]
        part = whole[self._top : self._top + height, self._left : self._left + width].float()
        is_float = frame.dtype.is_floating_point
        shown = self._sampled(frame.float()).clamp(0, 1 if is_float else 255)
        mixed = torch.lerp(part, shown, self._mask)
        result = whole.clone()
        mixed = mixed if is_float else mixed.round()
        result[self._top : self._top + height, self._left : self._left + width] = mixed.to(frame.dtype)
        return result

    def _sampled(self, frame: Tensor) -> Tensor:
        """The frame [h, w, 3] as it lies in the picture's part, bicubically enlarged or smoothed and made smaller."""
        planes = rearrange(frame[..., :3], "h w c -> 1 c h w")
        size, scale = frame.shape[:2], abs(self._placement.scale) * self._placement.size[0] / frame.shape[0]
        if scale < 1:
            planes = F.interpolate(
                planes, [max(1, round(side * scale)) for side in size], mode="bicubic", antialias=True
            )
        grid = sampling_grid(self._places, *self._placement.size)
        sampled = F.grid_sample(planes, grid, mode="bicubic", padding_mode="border", align_corners=False)
        return rearrange(sampled, "1 c h w -> h w c")


def even_sided(frames_THWC: Tensor) -> Tensor:
    """[T, H, W, 3] without a last row or column where these are odd, which videos cannot hold."""
    return frames_THWC[:, : frames_THWC.shape[1] // 2 * 2, : frames_THWC.shape[2] // 2 * 2]


def _as(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """A picture [H, W, 3] as frames of that kind are, uint8 or floating in 0..1."""
    if picture.dtype.is_floating_point == dtype.is_floating_point:
        return picture.to(dtype)
    if dtype.is_floating_point:
        return picture.to(dtype) / 255
    return (picture.clamp(0, 1) * 255).round().to(dtype)


def _bounds(placement: Placement) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the part of the picture that the frames cover."""
    corners = placement.to_whole(_corners(placement))
    height, width = placement.whole
    left, top = max(0, int(corners.real.min().floor())), max(0, int(corners.imag.min().floor()))
    right, bottom = min(width, int(corners.real.max().ceil())), min(height, int(corners.imag.max().ceil()))
    if right <= left or bottom <= top:
        raise MediaError("the crop lies outside of the whole picture; give the picture that it was taken from")
    return top, left, bottom, right


def _corners(placement: Placement) -> Tensor:
    """complex [4]: upper left, upper right, lower right, lower left"""
    height, width = placement.size
    return torch.tensor([0, width, width + 1j * height, 1j * height])


def _mask(places: Tensor, placement: Placement, feather: float) -> Tensor:
    """The frames' share, 0 to 1, at points complex [h, w] of them: 0 at their border and outside of it."""
    height, width = placement.size
    distances = (places.imag, width - places.real, height - places.imag, places.real)  # in the order of `_corners`
    blends = _inner_sides(placement)
    inside = torch.stack([distance >= 0 for distance in distances]).all(dim=0)
    kept = [distance for distance, does in zip(distances, blends, strict=True) if does]
    if not kept or feather == 0:
        return inside.float()
    depth = (torch.stack(kept).amin(dim=0) / (feather * min(height, width))).clamp(0, 1)
    return depth**2 * (3 - 2 * depth) * inside


def _inner_sides(placement: Placement) -> list[bool]:
    """Whether any of the upper, right, lower and left side of the frames lies within the picture."""
    corners, (height, width) = placement.to_whole(_corners(placement)), placement.whole
    outside = [
        {
            name
            for name, beyond in (
                ("left", corner.real <= _AT_THE_EDGE),
                ("right", corner.real >= width - _AT_THE_EDGE),
                ("top", corner.imag <= _AT_THE_EDGE),
                ("bottom", corner.imag >= height - _AT_THE_EDGE),
            )
            if beyond
        }
        for corner in corners
    ]
    return [not outside[side] & outside[(side + 1) % 4] for side in range(4)]
