"""Eyes and mouth in photos: how far the pack's own landmark network is from MediaPipe's face mesh.

Shapes: H W height and width of a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from knot_core.errors import SettingsError
from knot_core.media import open_image
from knot_core.media.face_mesh import mesh_points
from knot_core.media.face_points import FacePointsNet, eyes_and_mouth, load_face_points, locate

from .photo_sets import fetch_photos

GOAL, LEAST_PHOTOS = 0.06, 12  # of the eye distance; near frontal, with clear licences


@dataclass(frozen=True, kw_only=True)
class Off:
    """The distance between the two in one photo, in eye distances; nan where the network finds no face."""

    photo: str
    eyes: float  # of both the larger
    mouth: float

    @property
    def holds(self) -> bool:
        return max(self.eyes, self.mouth) <= GOAL


def compare(name: str, image: Tensor, network: FacePointsNet) -> Off | None:
    """Own points against MediaPipe's in a picture [H, W, 3]; None where MediaPipe finds no face."""
    theirs = mesh_points(image)
    if theirs is None:
        return None
    own = locate(network, image)
    if own is None:
        return Off(photo=name, eyes=math.nan, mouth=math.nan)
    unit = math.dist(theirs[0], theirs[1])
    left, right, mouth = (
        math.dist((place.real, place.imag), there) / unit
        for place, there in zip(eyes_and_mouth(own.points), theirs[:3], strict=True)
    )
    return Off(photo=name, eyes=max(left, right), mouth=mouth)


def measure_landmarks(folder: Path, weights: Path) -> list[Off]:
    """Every evaluation photo that can be had here.

    Raises:
        SettingsError: there are no such weights, or no photo in which MediaPipe finds a face.
    """
    network = load_face_points(weights)
    if network is None:
        raise SettingsError(
            f"there are no weights {weights}; train them with knot_lab/training/face_points_training.py"
        )
    found = [
        compare(photo.name, open_image(path), network) for photo, path in fetch_photos(folder, "evaluation").items()
    ]
    measured = [one for one in found if one is not None]
    if not measured:
        raise SettingsError('no photo was measured: MediaPipe is needed, pip install "mediapipe>=0.10.14,<0.10.30"')
    return measured


def report(measured: list[Off]) -> str:
    """A table, and whether the gate holds."""
    lines = ["| Photo | eyes | mouth |", "|---|---|---|"]
    lines += [f"| {one.photo} | {one.eyes:.3f} | {one.mouth:.3f} |" for one in measured]
    good = sum(one.holds for one in measured)
    enough = "" if len(measured) >= LEAST_PHOTOS else f", of {LEAST_PHOTOS} that are wanted,"
    holds = good == len(measured) >= LEAST_PHOTOS
    lines += ["", f"{good} of {len(measured)} photos{enough} are within {GOAL:g} of the eye distance: the gate G2 "
              f"{'holds' if holds else 'does not hold'}."]  # fmt: skip
    return "\n".join(lines)
