"""Procedural portraits: thousands of identities whose every frame is known.

An identity is a row of numbers drawn from a seed; a frame is a pure function of that row and the eight controls.
Everything is elementwise torch over pixels, so a batch of frames renders on a CPU or a GPU, and ``torch.compile``
fuses the whole picture into one kernel.

Yaw 1 is 30 degrees to the viewer's right, pitch 1 is 18 degrees down, roll 1 is 12 degrees clockwise; blink 1 is
closed, gaze 1 looks to the viewer's right, mouth_wide -1 is rounded and 1 spread, brow 1 raised.

Shapes: ``B`` clips, ``T`` pixel frames of a clip, ``P`` numbers of an identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .painter import CENTRE_Y, ZOOM, paint
from .painter_shapes import PITCH, YAW, Angle, angles_of, turn

CONTROLS = ("yaw", "pitch", "roll", "blink", "gaze", "mouth_open", "mouth_wide", "brow")
REGIONS = ("background", "clothes", "hair", "skin")
SPLITS = {"train": 0, "eval": 1}


# Scalars of an identity: name, low, high (uniform). Lengths are in scene units (the picture is 2 / ZOOM wide).
_SCALARS = (
    ("face_width", 0.37, 0.45),
    ("face_height", 0.50, 0.57),
    ("jaw", 0.05, 0.30),
    ("head_y", -0.12, -0.04),
    ("ear_size", 0.075, 0.11),
    ("neck_width", 0.17, 0.24),
    ("shoulder", 0.62, 0.86),
    ("light", -1.0, 1.0),
    ("eye_x", 0.165, 0.200),
    ("eye_y", -0.10, -0.03),
    ("eye_width", 0.088, 0.112),
    ("eye_height", 0.050, 0.072),
    ("iris", 0.040, 0.050),
    ("brow_y", 0.125, 0.155),
    ("brow_thick", 0.014, 0.028),
    ("brow_arch", 0.0, 0.045),
    ("brow_tilt", -0.12, 0.16),
    ("nose_y", 0.13, 0.18),
    ("nose_width", 0.050, 0.082),
    ("nose_length", 0.17, 0.22),
    ("mouth_y", 0.295, 0.335),
    ("mouth_width", 0.135, 0.175),
    ("lip", 0.026, 0.042),
    ("lip_red", 0.15, 0.75),
    ("hairline", -0.36, -0.25),
    ("hair_volume", 0.04, 0.12),
    ("fringe", -0.10, 0.14),
    ("parting", -0.8, 0.8),
    ("hair_length", -0.35, 0.75),
    ("hair_width", 1.02, 1.22),
    ("bald", 0.0, 0.95),
    ("beard", -1.2, 1.0),
    ("moustache", -1.4, 1.0),
    ("glasses", -1.3, 1.0),
    ("glasses_size", 0.125, 0.150),
    ("glasses_round", 0.0, 1.0),
    ("collar", 0.0, 1.0),
    ("stripes", -1.5, 1.0),
    ("stripe_scale", 8.0, 15.0),
    ("blush", 0.0, 0.5),
    ("back_x", -0.9, 0.9),
    ("back_y", -0.9, 0.3),
    ("back_size", 0.3, 0.8),
    ("back_glow", 0.0, 0.35),
)
_COLOURS = ("skin", "hair", "iris_colour", "clothes", "trim", "back_top", "back_bottom", "frame")
_INDEX = {name: i for i, (name, _, _) in enumerate(_SCALARS)}
_COLOUR_START = len(_SCALARS)
NUM_IDENTITY_VALUES = _COLOUR_START + 3 * len(_COLOURS)

_SKIN = np.array(
    [
        [0.99, 0.87, 0.77],
        [0.95, 0.78, 0.64],
        [0.87, 0.66, 0.50],
        [0.72, 0.50, 0.36],
        [0.52, 0.35, 0.25],
        [0.38, 0.25, 0.19],
    ]
)
_HAIR = np.array(
    [
        [0.09, 0.07, 0.07],
        [0.22, 0.14, 0.09],
        [0.40, 0.25, 0.13],
        [0.62, 0.42, 0.20],
        [0.86, 0.70, 0.42],
        [0.62, 0.24, 0.11],
        [0.66, 0.65, 0.66],
    ]
)
_IRIS = np.array([[0.25, 0.15, 0.08], [0.42, 0.28, 0.13], [0.22, 0.42, 0.62], [0.30, 0.50, 0.32], [0.45, 0.50, 0.52]])


@dataclass(frozen=True)
class Identity:
    """One portrait's numbers: ``values`` [NUM_IDENTITY_VALUES] float32, and the seed and split they were drawn from."""

    seed: int
    split: str
    values: np.ndarray

    def scalar(self, name: str) -> float:
        """The value of one scalar parameter, e.g. ``"glasses"``."""
        return float(self.values[_INDEX[name]])


def identity(seed: int, split: str = "train") -> Identity:
    """Draw an identity. The two splits never share one: the split is part of the seed."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS[split], 20260, seed])
    scalars = np.array([rng.uniform(low, high) for _, low, high in _SCALARS])
    colours = [
        _between(_SKIN, rng),
        _between(_HAIR, rng),
        _between(_IRIS, rng),
        _hsv(rng.random(), rng.uniform(0.25, 0.75), rng.uniform(0.30, 0.85)),
        _hsv(rng.random(), rng.uniform(0.10, 0.60), rng.uniform(0.30, 0.95)),
        _hsv(rng.random(), rng.uniform(0.10, 0.45), rng.uniform(0.45, 0.95)),
        _hsv(rng.random(), rng.uniform(0.10, 0.45), rng.uniform(0.30, 0.80)),
        _hsv(rng.random(), rng.uniform(0.0, 0.6), rng.uniform(0.08, 0.35)),
    ]
    return Identity(seed, split, np.concatenate([scalars, *colours]).astype(np.float32))


def stack_identities(identities: list[Identity]) -> Tensor:
    """[B, NUM_IDENTITY_VALUES], the form that ``render`` takes."""
    return torch.from_numpy(np.stack([one.values for one in identities]))


def render(
    values: Tensor,
    controls: Tensor,
    size: int = 128,
    *,
    regions: bool = False,
    crop: tuple[Tensor, int] | None = None,
    draw: Callable | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Draw portraits.

    values [B, NUM_IDENTITY_VALUES], controls [B, T, 8] in the order of ``CONTROLS`` -> pixels float
    [B, T, 3, size, size] in 0..1. With ``regions`` also [B, T, 4, size, size]: the share of each pixel that belongs
    to each of ``REGIONS``.
    ``crop``: corners [B, 2] (top, left) in pixels and the side of the part of each clip that is drawn.
    ``draw``: what ``compiled_draw()`` returned, several times faster for many pictures of one batch size.
    """
    draw = draw or paint
    B, T = controls.shape[:2]
    rows = values[:, None].expand(B, T, -1).reshape(B * T, -1)
    flat = controls.reshape(B * T, -1)
    angles = tuple(Angle(one.cos[:, None, None], one.sin[:, None, None]) for one in angles_of(flat))
    corners, extent = (torch.zeros(B, 2, device=rows.device), size) if crop is None else crop
    corners = corners[:, None].expand(B, T, 2).reshape(B * T, 2).to(rows)
    picture, parts = draw(_numbers(rows), _by_name(flat), angles, (size, extent, corners), regions)
    picture = picture.unflatten(0, (B, T))
    return (picture, parts.unflatten(0, (B, T))) if regions else picture


def compiled_draw() -> Callable:
    """The painter as one fused kernel (``torch.compile``: takes a C++ compiler and about half a minute on a CPU)."""
    return torch.compile(paint, dynamic=False)


def render_clip(values: Tensor, controls: Tensor, size: int = 128, batch: int = 32) -> Tensor:
    """``render`` for long clips of one identity, in pieces: values [P], controls [T, 8] -> uint8 [T, size, size, 3]."""
    pieces = [render(values[None], part[None], size)[0] for part in controls.split(batch)]
    return to_uint8(torch.cat(pieces))


def to_uint8(pixels: Tensor) -> Tensor:
    """[..., 3, H, W] in 0..1 -> uint8 [..., H, W, 3]."""
    return pixels.clamp(0, 1).mul(255).round().to(torch.uint8).movedim(-3, -1).contiguous()


def head_centre(values: Tensor, controls: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of the head in scene units; values [..., P] and controls [..., 8] broadcast."""
    yaw, pitch, roll = controls[..., 0], controls[..., 1], controls[..., 2]
    x = 0.09 * roll + 0.04 * yaw
    return x, values[..., _INDEX["head_y"]] + 0.03 * pitch


def face_box(values: Tensor, controls: Tensor, size: int = 128) -> Tensor:
    """Boxes from brows to chin, following the head: [..., 4] int64 (top, left, bottom, right), all of one size."""
    x, y = head_centre(values, controls)
    x, y = x + 0.20 * math.sin(YAW) * controls[..., 0], y + 0.10 + 0.20 * math.sin(PITCH) * controls[..., 1]
    return _box_about(x, y, 0.40, 0.44, size)


def mouth_box(values: Tensor, controls: Tensor, size: int = 128) -> Tensor:
    """Boxes around the mouth, following the head: [..., 4] int64 (top, left, bottom, right), all of one size."""
    x, y = _surface_point(values, controls, 0.0, values[..., _INDEX["mouth_y"]])
    return _box_about(x, y + 0.03, 0.20, 0.14, size)


def eye_boxes(values: Tensor, controls: Tensor, size: int = 128) -> Tensor:
    """Boxes around the two eyes, following the head: [..., 2, 4] int64 (top, left, bottom, right), all of one size."""
    boxes = []
    for side in (-1.0, 1.0):
        x, y = _surface_point(values, controls, side * values[..., _INDEX["eye_x"]], values[..., _INDEX["eye_y"]])
        boxes.append(_box_about(x, y, 0.12, 0.09, size))
    return torch.stack(boxes, dim=-2)


def _box_about(x: Tensor, y: Tensor, half_w: float, half_h: float, size: int) -> Tensor:
    """A box of fixed size in pixels about a scene point, kept inside the picture."""
    scale = ZOOM * size / 2
    half_w, half_h = round(half_w * scale), round(half_h * scale)
    left = ((x * scale + size / 2).round().long() - half_w).clamp(0, size - 2 * half_w)
    top = (((y - CENTRE_Y) * scale + size / 2).round().long() - half_h).clamp(0, size - 2 * half_h)
    return torch.stack([top, left, top + 2 * half_h, left + 2 * half_w], dim=-1)


def _surface_point(values: Tensor, controls: Tensor, X: Tensor | float, Y: Tensor) -> tuple[Tensor, Tensor]:
    """The position of a point of the face in the picture, in scene units."""
    a, b = values[..., _INDEX["face_width"]], values[..., _INDEX["face_height"]]
    yaw, pitch, roll = angles_of(controls)
    x, y, *_ = turn(X, Y, a, b, yaw, pitch)
    cx, cy = head_centre(values, controls)
    return cx + x * roll.cos - y * roll.sin, cy + x * roll.sin + y * roll.cos


def _numbers(rows: Tensor) -> dict[str, Tensor]:
    """The numbers of identities [N, P] by name: [N, 1, 1], colours [N, 3, 1, 1]."""
    colours = {
        name: rows[:, start : start + 3, None, None]
        for name, start in zip(_COLOURS, range(_COLOUR_START, NUM_IDENTITY_VALUES, 3), strict=True)
    }
    return {name: rows[:, i, None, None] for name, i in _INDEX.items()} | colours


def _by_name(controls: Tensor) -> dict[str, Tensor]:
    """Controls [N, 8] by name, [N, 1, 1]."""
    return {name: controls[:, i, None, None] for i, name in enumerate(CONTROLS)}


def _between(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour between two neighbours of a palette."""
    t = rng.uniform(0, len(palette) - 1)
    i = min(int(t), len(palette) - 2)
    return palette[i] + (t - i) * (palette[i + 1] - palette[i])


def _hsv(h: float, s: float, v: float) -> np.ndarray:
    """Hue, saturation, value in 0..1 -> RGB in 0..1."""
    k = (np.array([5, 3, 1]) + h * 6) % 6
    return v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)


def box_mask(boxes: Tensor, size: int) -> Tensor:
    """Boxes [..., 4] (top, left, bottom, right) -> masks [..., size, size] of 0 and 1."""
    index = torch.arange(size, device=boxes.device)
    top, left, bottom, right = (boxes[..., i, None] for i in range(4))
    rows, columns = (index >= top) & (index < bottom), (index >= left) & (index < right)
    return (rows[..., :, None] & columns[..., None, :]).float()
