"""Rows of pictures that show what the face codec gives back. Shapes: T pixel frames, H W pixels, n tiles of a row."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as fn

from .face_codec_figures import EvaluationClip, GivenBack

_TILES = 10  # of a row


def render_row(one: EvaluationClip, made: GivenBack) -> Tensor:
    """Reference; then of the frame that moves most and of the last: truth, result, mask: [10, 3, H, W]."""
    shown = _shown(one)
    tiles = [one.clip.reference_B3HW[0]]
    for frame in shown:
        mask = fn.interpolate(made.mask_T1HW[frame][None], scale_factor=2)[0].expand(3, -1, -1)
        tiles += [one.clip.frames_BT3HW[0, frame], made.pictures_T3HW[frame], mask]
    return _filled(tiles)


def photo_row(photo_13HW: Tensor, driving: EvaluationClip, true: Tensor, made: GivenBack, driven: GivenBack) -> Tensor:
    """The photo; then of two frames: the driving, the photo moved by its flow, that given back, the photo driven by its
    latents: [10, 3, H, W].
    """
    tiles = [photo_13HW[0]]
    for frame in _shown(driving):
        tiles += [driving.clip.frames_BT3HW[0, frame], true[frame], made.pictures_T3HW[frame],
                  driven.pictures_T3HW[frame]]  # fmt: skip
    return _filled(tiles)


def write_rows(path: Path, rows: list[Tensor]) -> None:
    """All rows [n, 3, H, W] in 0..1 under one another, as a picture file."""
    sheet = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2).clamp(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.movedim(0, -1).mul(255).round().byte().numpy()).save(path)


def _shown(one: EvaluationClip) -> tuple[int, int]:
    """The frame that lies farthest from the reference, and the last."""
    moved = one.clip.flow_BT2HW[0].norm(dim=1).flatten(1).mean(dim=1)
    return int(moved[:-1].argmax()), len(moved) - 1


def _filled(tiles: list[Tensor]) -> Tensor:
    """With white up to the width of a row."""
    return torch.stack([*tiles, *[torch.ones_like(tiles[0])] * (_TILES - len(tiles))])
