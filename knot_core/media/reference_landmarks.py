"""Landmarks of a reference, for codecs that read landmarks from latents.

Those are read from renders exactly and from photos by a few pixels; behind glasses lids were looked for 10 pixels too
low. MediaPipe's face mesh finds them better where that package is installed, else the pack's own landmark network.
"""

import torch
from torch import Tensor

from .face_mesh import find_mesh
from .face_points import load_face_points, locate

# Of each landmark, in the order of training (`LANDMARKS` in `landmark_names.py`), its number in
# MediaPipe's mesh; None where that has none in the same place.
_RIGHT_EYE, _LEFT_EYE = (468, 33, 133, 159, 145), (473, 263, 362, 386, 374)  # the person's own
_LIPS = (0, 13, 17, 14, 39, 81, 181, 178, 269, 311, 405, 402, 61, 291)
NUMBERS: tuple[int | None, ...] = (*_RIGHT_EYE, *_LEFT_EYE, *_LIPS, *[None] * 21)
_IN_MESH = [number or 0 for number in NUMBERS]


def find_landmarks(picture_HWC: Tensor) -> Tensor | None:
    """Landmarks float32 [L, 2] of a picture uint8 [H, W, 3], in its sides (x, y); no numbers for those that are better
    read from latents.

    None where nobody finds a face.
    """
    picture = picture_HWC.cpu()
    mesh = find_mesh(picture.numpy())
    places = _of_network(picture) if mesh is None else torch.from_numpy(mesh[:, :2])[_IN_MESH].float()
    if places is None:
        return None
    known = torch.tensor([number is not None for number in NUMBERS])
    sides = torch.tensor([picture.shape[1], picture.shape[0]])
    return (places / sides).masked_fill(~known[:, None], torch.nan)


def _of_network(picture_HWC: Tensor) -> Tensor | None:
    """[L, 2] in pixels; None where the network finds no face, or its weights are not at hand."""
    network = load_face_points()
    found = None if network is None else locate(network, picture_HWC.float() / 255, fills=True)
    return None if found is None else torch.view_as_real(found.points).float()
