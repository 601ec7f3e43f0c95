"""Portraits cut out around the face: whichever detector is installed finds it, or else the outline of the head.

Shapes: H W height and width of a picture.
"""

import logging

import numpy as np
from torch import Tensor

from ..errors import MediaError
from .face_detectors import INSTALL, detect_faces, installed_detectors
from .head_outline import SURE, FaceRegion, find_by_outline
from .picture import fit_image
from .placement import Placement, fitted_placement, within

logger = logging.getLogger(__name__)


def find_face(image: Tensor) -> FaceRegion:
    """The largest face of a picture [H, W, 3] in 0..1; where none is found, the centre."""
    detector, faces = detect_faces(_to_bytes(image))
    if not faces:
        return find_by_outline(image)
    largest = faces[0]
    place = (largest.left, largest.top, largest.width, largest.height)
    return FaceRegion(*place, score=1.0, found=True, finder=detector, count=len(faces))


def _to_bytes(image: Tensor) -> np.ndarray:
    return (image[..., :3].float().nan_to_num().clamp(0, 1) * 255).round().byte().cpu().numpy()


def describe_face(face: FaceRegion) -> str:
    """A sentence for the user: what found the face and where; or that there is none, and what to do."""
    if face.found:
        several = f"the largest of {face.count} faces" if face.count > 1 else "the face"
        place = f"{face.width:.0f} x {face.height:.0f} pixels at ({max(face.left, 0):.0f}, {max(face.top, 0):.0f})"
        return f"{several} found by {face.finder}: {place} from the upper left corner"
    asked = list(installed_detectors())
    looked = " and ".join([*asked, face.finder])
    more = "" if asked else f", or install a face detector where this runs ({INSTALL})"
    return f"no face found by {looked}: the picture's centre is taken; crop it around the face by hand{more}"


def portrait_box(face: FaceRegion, picture: tuple[int, int], shape: tuple[int, int], room: float) -> tuple[int, ...]:
    """(top, left, height, width) in whole pixels: a part of a picture (height, width), in the proportions of `shape`.

    Its shorter side is `room` times the face's width, if there is so much picture, and the face stands above the
    middle, as in a portrait.
    """
    unit = min(
        room * face.width / min(shape),
        picture[0] / shape[0],
        picture[1] / shape[1],
    )
    height, width = (max(1, min(limit, round(unit * side))) for limit, side in zip(picture, shape, strict=True))
    x = face.left + face.width / 2
    y = face.top + face.height * 0.55
    top, left = round(y - 0.5 * height), round(x - width / 2)
    return min(max(top, 0), picture[0] - height), min(max(left, 0), picture[1] - width), height, width


def crop_portrait(image: Tensor, height: int, width: int, room: float = 2.8) -> tuple[Tensor, FaceRegion, Placement]:
    """[H, W, 3] -> [height, width, 3] around the face, where the face was, and where the crop lies in the picture.

    `room`: see `portrait_box`.
    """
    if image.ndim != 3 or image.shape[-1] < 3 or 0 in image.shape:
        raise MediaError(f"the picture has shape {list(image.shape)}; it must be [height, width, 3]: give RGB")
    if not 1 <= room <= 10:
        raise MediaError(f"room is {room}; it must be from 1, the face alone, to 10")
    face = find_face(image)
    if not face.found:
        logger.warning("%s (score %.2f of %.2f)", describe_face(face), face.score, SURE)
    picture = tuple(image.shape[:2])
    box = portrait_box(face, picture, (height, width), room) if face.found else (0, 0, *picture)
    top, left, inner_height, inner_width = box
    image = image[top : top + inner_height, left : left + inner_width]
    placement = within(fitted_placement((inner_height, inner_width), height, width), box, picture)
    return fit_image(image, height, width), face, placement
