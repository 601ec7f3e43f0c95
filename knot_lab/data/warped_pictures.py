"""Pictures with much detail, moved by smooth flows that are known: what copying is learnt from.

A clip has two layers, each moved by a flow of its own, so that the front one uncovers and covers the other, and
sometimes a thing before both that the reference does not show. Shapes: T pixel frames, H W pixels, S side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor
from torch.nn import functional as fn

from .face_batch import FaceClips, unseen_clip

Painter = Callable[[np.random.Generator, int], np.ndarray]  # (rng, side) -> uint8 [S, S, 3]
_MARGIN = 1.5  # of the painted picture, in sides of the reference
_MOST = 0.12  # a flow's root mean square length at most, in sides


def warped_clip(rng: np.random.Generator, size: int, num_frames: int, paint: Painter) -> FaceClips:
    """A clip of one, at `size` pixels."""
    behind, before = (_picture(paint(rng, int(_MARGIN * size))) for _ in range(2))
    shape = _blob(rng, int(_MARGIN * size))
    flows = [_flow(rng, size, num_frames) for _ in range(2)]
    places = [_places(size, flow) for flow in flows]
    still = _places(size, torch.zeros(1, 2, size, size))
    cover = _fetch(shape, places[1])
    frames = torch.lerp(_fetch(behind, places[0]), _fetch(before, places[1]), cover)
    covered = _fetch(shape, still)
    reference = torch.lerp(_fetch(behind, still), _fetch(before, still), covered)
    in_front = (cover > 0.5).float()
    flow = torch.lerp(flows[0], flows[1], in_front)
    seen = _fetch(covered.expand(num_frames, -1, -1, -1), _relative(size, flow))
    visible = _inside(size, flow) * torch.where(in_front > 0, 1.0, (seen < 0.1).float())
    if rng.random() < 0.3:
        frames, visible = _with_occluder(rng, frames, visible, paint)
    small = [fn.avg_pool2d(part, 2) for part in (flow, visible)]
    known = (small[1] > 0.99).float()
    clip = unseen_clip(
        frames_BT3HW=frames[None], reference_B3HW=reference, flow_BT2HW=small[0][None], visible_BT1HW=known[None],
        hidden_BT1HW=(small[1] < 0.01).float()[None], weight_B1HW=torch.ones(1, 1, size, size),
    )  # fmt: skip
    return clip


def paint_shapes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Leaves, lines and letters over each other, with noise of all sizes: uint8 [S, S, 3]."""
    picture = Image.fromarray(_noise(rng, side, rng.uniform(0.8, 2.2)))
    draw = ImageDraw.Draw(picture)
    for radius in np.sort(rng.pareto(1.2, int(rng.integers(5, 160))) * 0.02 * side + 2)[::-1]:
        _shape(rng, draw, side, min(radius, side / 3))
    if rng.random() < 0.7:
        grain = _noise(rng, side, rng.uniform(0.3, 1.5)).astype(np.float32) / 255 - 0.5
        strength = rng.uniform(0.1, 0.8)
        mixed = np.asarray(picture, np.float32) * (1 + strength * grain)
        picture = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.0)))
    return np.asarray(picture)


def _shape(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, radius: float) -> None:
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    centre, kind = rng.uniform(0, side, 2), rng.random()
    if kind < 0.4:
        half = radius * rng.uniform(0.3, 1, 2)
        draw.ellipse((*(centre - half), *(centre + half)), fill=colour)
    elif kind < 0.75:
        turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = centre + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        draw.polygon([tuple(corner) for corner in corners], fill=colour)
    elif kind < 0.9:
        end = centre + rng.normal(0, 3 * radius, 2)
        draw.line((*centre, *end), fill=colour, width=int(rng.integers(1, 5)))
    else:
        letters = "".join(chr(int(letter)) for letter in rng.integers(48, 123, 4))
        draw.text(tuple(centre), letters, fill=colour)


def _noise(rng: np.random.Generator, side: int, falloff: float) -> np.ndarray:
    """Coloured noise whose octaves fall off by so much each, uint8 [S, S, 3]."""
    total, octave = torch.zeros(1, 3, side, side), 2
    while octave < side:
        rough = torch.from_numpy(rng.normal(0, 1, (1, 3, octave, octave)).astype(np.float32))
        mix = torch.from_numpy((np.eye(3) * 0.4 + 0.6 * rng.uniform(0, 1, (3, 1))).astype(np.float32))
        rough = torch.einsum("ij,bjhw->bihw", mix, rough)
        total += fn.interpolate(rough, size=(side, side), mode="bicubic") * octave ** -(falloff / 2)
        octave *= 2
    total = (total - total.mean()) / total.std().clamp_min(1e-6)
    centre = torch.from_numpy(rng.uniform(0.2, 0.8, (1, 3, 1, 1)).astype(np.float32))
    found = (centre + rng.uniform(0.03, 0.3) * total).clamp(0, 1)
    return found[0].movedim(0, -1).mul(255).round().to(torch.uint8).numpy()


def _blob(rng: np.random.Generator, side: int) -> Tensor:
    """A soft-edged shape [1, 1, S, S] in 0..1, somewhere about the middle; sometimes none."""
    if rng.random() < 0.2:
        return torch.zeros(1, 1, side, side)
    rough = torch.from_numpy(rng.normal(0, 1, (1, 1, 6, 6)).astype(np.float32))
    axis = torch.linspace(-1, 1, side)
    near = 1 - 3 * (axis[:, None].square() + axis.square())
    field = fn.interpolate(rough, size=(side, side), mode="bicubic") * 0.6 + near
    return (field * side / 8).sigmoid()


def _flow(rng: np.random.Generator, size: int, num_frames: int) -> Tensor:
    """A smooth motion over time, [T, 2, H, W] in pixels: two fields whose strengths change."""
    fields = torch.stack([_field(rng, size) for _ in range(2)])
    most = size * _MOST * rng.random() ** 1.5
    if rng.random() < 0.08:
        most = 0.0
    begin, speed = rng.uniform(-1, 1, 2), rng.normal(0, 0.4, 2)
    time = np.linspace(0, 1, num_frames)[:, None]
    strengths = torch.from_numpy((begin + speed * time + 0.15 * np.sin(6 * time + begin)).astype(np.float32))
    return most * torch.einsum("tk,kchw->tchw", strengths, fields)


def _field(rng: np.random.Generator, size: int) -> Tensor:
    """A shift, a turn, a stretch and waves, [2, H, W], of root mean square length 1."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bend = rng.normal(0, 0.5, (2, 3)) * rng.choice([0, 1], (1, 3), p=[0.3, 0.7])
    plain = torch.stack([float(row[0]) + float(row[1]) * x + float(row[2]) * y for row in bend])
    knots = int(rng.integers(3, 9))
    rough = torch.from_numpy(rng.normal(0, 1.2 / knots**0.5, (1, 2, knots, knots)).astype(np.float32))
    field = plain + fn.interpolate(rough, size=(size, size), mode="bicubic", align_corners=True)[0]
    return field / field.square().sum(dim=0).mean().sqrt()


def _with_occluder(rng: np.random.Generator, frames: Tensor, visible: Tensor, paint: Painter) -> tuple[Tensor, Tensor]:
    """Something moves before the picture that the reference does not show."""
    size, count = frames.shape[-1], len(frames)
    shape, picture = _blob(rng, size), _picture(paint(rng, size))
    shift = rng.uniform(-0.6, 0.6, 2) * size + rng.normal(0, 0.1 * size, 2) * np.linspace(0, 1, count)[:, None]
    places = _relative(size, torch.from_numpy(shift.astype(np.float32))[:, :, None, None].expand(-1, -1, size, size))
    cover = fn.grid_sample(shape.expand(count, -1, -1, -1), places, padding_mode="zeros", align_corners=False)
    thing = fn.grid_sample(picture.expand(count, -1, -1, -1), places, padding_mode="reflection", align_corners=False)
    return torch.lerp(frames, thing, cover), visible * (cover < 0.05)


def _picture(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 255


def _places(size: int, flow_T2HW: Tensor) -> Tensor:
    """The place in the larger picture that each pixel comes from, as `grid_sample` counts, [T, H, W, 2]."""
    return _relative(size, flow_T2HW) / _MARGIN


def _relative(size: int, flow_T2HW: Tensor) -> Tensor:
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    still = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    return still + flow_T2HW.movedim(1, -1) * (2 / size)


def _inside(size: int, flow_T2HW: Tensor) -> Tensor:
    """[T, 1, H, W]: 1 where it comes from inside the reference."""
    return (_relative(size, flow_T2HW).abs().amax(dim=-1) < 1).float()[:, None]


def _fetch(picture: Tensor, places: Tensor) -> Tensor:
    picture = picture.expand(len(places), -1, -1, -1)
    return fn.grid_sample(picture, places, padding_mode="reflection", align_corners=False)
