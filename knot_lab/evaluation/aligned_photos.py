"""The evaluation photos as the model of photos takes them."""

import sys
from pathlib import Path

from torch import Tensor

from knot_core.errors import MediaError
from knot_core.files import read_text
from knot_core.media import open_image
from knot_core.media.face_alignment import find_face_points, given_points, place_face
from knot_core.media.placement import cut_out

from .photo_sets import fetch_photos

_SIDE = 256


def aligned_photos(folder: Path) -> dict[str, Tensor]:
    """The evaluation photos by name, [1, 3, S, S] in 0..1, brought to where faces lie in training.

    A file `NAME.points` beside a photo has eyes and mouth, as `--points` takes them; else they are looked for.
    """
    found = {}
    for photo, path in fetch_photos(folder, "evaluation").items():
        image, beside = open_image(path), path.with_suffix(".points")
        try:
            size = tuple(image.shape[:2])
            text = read_text(beside, "the points", MediaError) if beside.exists() else None
            points = find_face_points(image) if text is None else given_points(text, size)
        except MediaError as problem:
            sys.stderr.write(f"{path.name} is left out: {problem}\n")
            continue
        placed = cut_out(image, place_face(points, size, _SIDE, _SIDE))
        found[photo.name] = placed.movedim(-1, 0)[None]
    return found
