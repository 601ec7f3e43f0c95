"""Photographed skin for rendered heads: MakeHuman's CC0 textures, unrolled as the painted ones are.

Any 2048 x 2048 picture that was made for MakeHuman's base mesh fits. LICENSES.md names those that were used.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as fn

from knot_core.errors import DrivingError

from .head_bank import HeadBank
from .skin import skin_map

_REDUCED = 2  # a texel of the unrolled skin covers about as many of the picture's
_GAMMA = 2.2


def with_skins(bank: HeadBank, folder: Path) -> HeadBank:
    """The bank with the folder's pictures as `skins`: linear albedo float32 [332, 576, 3] each.

    Raises:
        DrivingError: there is no picture in the folder.
    """
    files = sorted(folder.glob("*.png"))
    if not files:
        raise DrivingError(f"there are no pictures of skin (*.png) in {folder}; LICENSES.md says where some are found")
    places = skin_map(bank).texture
    return replace(bank, skins=tuple(_unrolled(file, places) for file in files))


def _unrolled(file: Path, places_HW2: np.ndarray) -> np.ndarray:
    """The picture at those places, 0 .. 1 from the left and the top, as linear light: float32 [H, W, 3]."""
    with Image.open(file) as picture:
        encoded = np.asarray(picture.convert("RGB").reduce(_REDUCED), np.float32) / 255
    grid = torch.from_numpy(places_HW2)[None] * 2 - 1
    found = fn.grid_sample(torch.from_numpy(encoded).movedim(-1, 0)[None], grid, align_corners=False)
    return (found[0].movedim(0, -1) ** _GAMMA).numpy()
