"""Shapes and turns that the painter of procedural portraits draws with.

Shapes: ``N`` frames, ``H W`` pixels; parameters are [N, 1, 1], pixels [N, H, W].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

YAW, PITCH, ROLL = math.radians(30), math.radians(18), math.radians(12)  # what 1 means


class Angle(NamedTuple):
    cos: Tensor
    sin: Tensor


def angles_of(controls: Tensor) -> tuple[Angle, Angle, Angle]:
    """Yaw, pitch and roll of controls [..., 8]."""
    turned = controls[..., :3] * torch.tensor([YAW, PITCH, ROLL], device=controls.device, dtype=controls.dtype)
    cos, sin = turned.cos(), turned.sin()
    return tuple(Angle(cos[..., i], sin[..., i]) for i in range(3))


def turn(  # noqa: PLR0913, PLR0917 - a point, an ellipsoid and two angles
    X: Tensor | float, Y: Tensor, a: Tensor, b: Tensor, yaw: Angle, pitch: Angle, lift: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotate the surface point (X, Y) of the head ellipsoid: x, y in the head's plane, foreshortening in x and y, [N,
    H, W].
    """
    Z = lift * a * (1 - (X / a) ** 2 - (Y / b) ** 2).clamp(min=0.05).sqrt()
    x = X * yaw.cos + Z * yaw.sin
    z = Z * yaw.cos - X * yaw.sin
    y = Y * pitch.cos + z * pitch.sin
    return (
        x,
        y,
        (yaw.cos - X / Z * yaw.sin * 0.7).clamp(0.4, 1.15),
        (pitch.cos - Y / Z * pitch.sin * 0.5).clamp(0.6, 1.15),
    )


def box(x: Tensor, y: Tensor, half_w: Tensor | float, half_h: Tensor | float, r: float) -> Tensor:
    """Signed distance to a rounded box, [N, H, W]."""
    qx, qy = x.abs() - half_w + r, y.abs() - half_h + r
    outside = (qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2).clamp(min=1e-9).sqrt()
    return outside + torch.maximum(qx, qy).clamp(max=0) - r


def step(x: Tensor) -> Tensor:
    """A smooth step from 0 to 1, [N, H, W], with the slope of the logistic function at 0, without its exponential."""
    t = (x * (1 / 6) + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bent(u: Tensor, v: Tensor, half_length: float, thick: Tensor | float) -> Tensor:
    """Signed distance to a stroke that tapers towards its ends, [N, H, W]."""
    taper = (1 - (u / half_length) ** 2).clamp(min=0.0)
    return torch.maximum(v.abs() - thick * (0.35 + 0.65 * taper), u.abs() - half_length)
