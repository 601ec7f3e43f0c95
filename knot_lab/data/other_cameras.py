"""The same clip in other light and taken by other cameras: what is seen moves as it did, and looks different.

The face codec's encoder sees such clips, so that its latents tell geometry, motion and how the light on a face changes,
and not colours. The light is the same for the frames and the reference; some have a camera each.

Shapes: T pixel frames, H W pixels.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

_UNCHANGED = 0.25  # share of the clips whose light is left as it is, and of those whose camera is
_SAME_CAMERA = 0.7  # share of the clips whose frames and reference one camera takes
_SHADES, _SMOOTH = 4, 8  # knots a side of the uneven light; how much larger it is made smoothly, then linearly
_SMALLER = ((1, 0.5), (0.75, 0.2), (0.5, 0.2), (0.35, 0.1))  # of the size that is seen, and its share


def rephotographed(
    rng: np.random.Generator, frames_T3HW: Tensor, reference_13HW: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Frames and reference as others would have taken them, in 0..1: [T, 3, H, W] and [1, 3, H, W]."""
    sizes = [len(frames_T3HW), 1]
    clip = torch.cat([frames_T3HW, reference_13HW])
    if rng.random() >= _UNCHANGED:
        clip = _relit(rng, clip, strength)
    parts = [clip] if rng.random() < _SAME_CAMERA else clip.split(sizes)
    clip = torch.cat([part if rng.random() < _UNCHANGED else _taken(rng, part, strength) for part in parts])
    frames, reference = clip.clamp(0, 1).split(sizes)
    return frames, reference


def in_one_tone(rng: np.random.Generator, pictures_N3HW: Tensor, others_M3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Both as an old photo, grey or brown: [N, 3, H, W] and [M, 3, H, W] in 0..1."""
    tint = 1 + rng.uniform(0, 0.3) * _floats([0.45, 0.1, -0.55])[:, None, None] * (rng.random() < 0.5)
    grey = ((part.mean(dim=1, keepdim=True) * tint).clamp(0, 1) for part in (pictures_N3HW, others_M3HW))
    return next(grey), next(grey)


def _relit(rng: np.random.Generator, clip_T3HW: Tensor, strength: float) -> Tensor:
    """Another exposure, contrast, and uneven light."""
    clip = clip_T3HW.clamp(1e-3, 1) ** float(np.exp(strength * rng.normal(0, 0.4)))
    contrast, offset = np.exp(strength * rng.normal(0, 0.25)), strength * rng.normal(0, 0.08)
    light = _floats(strength * rng.normal(0, 0.25, (1, 1, _SHADES, _SHADES)))
    light = fn.interpolate(light, scale_factor=_SMOOTH, mode="bicubic").exp()
    light = fn.interpolate(light, size=clip.shape[-2:], mode="bilinear")
    return ((clip - 0.5) * float(contrast) + 0.5 + float(offset)) * light


def _taken(rng: np.random.Generator, clip_T3HW: Tensor, strength: float) -> Tensor:
    """Other colours, focus and grain; grey in one of seven."""
    height, width = clip_T3HW.shape[-2:]
    saturation = float(rng.choice([0.0, 1.0], p=[0.15, 0.85]) * (1 + strength * rng.uniform(-0.6, 0.5)))
    clip = torch.lerp(clip_T3HW.mean(dim=1, keepdim=True), clip_T3HW, saturation)
    clip = clip * _floats(np.exp(strength * rng.normal(0, 0.12, (3, 1, 1))))
    shares, chances = zip(*_SMALLER, strict=True)
    share = float(rng.choice(shares, p=chances))
    if share < 1:
        small = fn.interpolate(clip, size=(round(height * share), round(width * share)), mode="area")
        clip = fn.interpolate(small, size=(height, width), mode="bilinear")
    grain = strength * abs(rng.normal(0, 0.025))
    return clip + grain * _floats(rng.standard_normal(clip.shape, np.float32))


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
