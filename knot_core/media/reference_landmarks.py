"""Landmarks of a reference, for codecs that read landmarks from latents.

Those are read from renders exactly and from photos by a few pixels; behind glasses lids were looked for 10 pixels too
low. MediaPipe's face mesh finds them better, where that package is installed.
"""

import torch
from torch import Tensor

from .face_mesh import find_mesh

# Of each landmark, in the order of training (`LANDMARKS` in `landmark_names.py`), its number in
# MediaPipe's mesh; None where that has none in the same place.
_RIGHT_EYE, _LEFT_EYE = (468, 33, 133, 159, 145), (473, 263, 362, 386, 374)  # the person's own
_LIPS = (0, 13, 17, 14, 39, 81, 181, 178, 269, 311, 405, 402, 61, 291)
NUMBERS: tuple[int | None, ...] = (*_RIGHT_EYE, *_LEFT_EYE, *_LIPS, *[None] * 21)


def find_landmarks(picture_HWC: Tensor) -> Tensor | None:
    """Landmarks float32 [L, 2] of a picture uint8 [H, W, 3], in its sides (x, y); no numbers where the mesh has none.

    None where MediaPipe is not installed, or finds no face.
    """
    mesh = find_mesh(picture_HWC.cpu().numpy())
    if mesh is None:
        return None
    height, width = picture_HWC.shape[:2]
    places = torch.full((len(NUMBERS), 2), torch.nan)
    for place, number in enumerate(NUMBERS):
        if number is not None:
            places[place] = torch.tensor(mesh[number, :2] / (width, height), dtype=torch.float32)
    return places
