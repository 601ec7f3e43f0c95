"""Heads in space and on the picture: rotations, how the skin follows the bones, projection, alignment.

Axes: x to the viewer's right, y up, z towards the viewer; metres. In camera space the camera stands at the origin, so
z is negative in front of it. Shapes: M vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from knot_core.media.face_places import EYE_DISTANCE, EYES_MIDPOINT, MOUTH, SIDE

PICTURE = SIDE  # pixels a side
SAMPLES = 2 * PICTURE
NECK_SHARE = 0.4  # of a turn happens in the neck, the rest at its top


@dataclass(frozen=True)
class View:
    """A camera: where it is and what it enlarges. ``focal`` in samples."""

    distance: float  # m from the head's middle
    turn: tuple[float, float]  # rad: from the side, from above
    focal: float
    centre: tuple[float, float]  # samples: where the optical axis meets the picture


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3]: about y to the viewer's right, then about x down, then about z clockwise."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(angle), np.sin(angle)) for angle in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def to_camera(points: np.ndarray, view: View, middle: np.ndarray) -> np.ndarray:
    """World -> camera space, float32 [M, 3]; ``middle`` [3] is what the camera turns about."""
    turn = rotation(view.turn[0], view.turn[1], 0).astype(np.float32)
    shift = turn @ middle.astype(np.float32) + np.array([0, 0, view.distance], np.float32)
    return points.astype(np.float32, copy=False) @ turn.T - shift


def on_screen(points: np.ndarray, view: tuple[float, float, float]) -> np.ndarray:
    """Camera space [M, 3] -> float32 [M, 3]: x, y in samples and 1 / depth; ``view`` is (focal, centre x, centre y)."""
    focal, centre_x, centre_y = view
    near = -1 / points[:, 2]
    return np.stack(
        [centre_x + focal * points[:, 0] * near, centre_y - focal * points[:, 1] * near, near], axis=1
    ).astype(np.float32)


def framed(view: View, shift: tuple[float, float], zoom: float) -> tuple[float, float, float]:
    """(focal, centre x, centre y): the person moved by pixels, enlarged by a factor about the picture's middle."""
    middle = SAMPLES / 2
    centre = [middle + (c - middle) * zoom + 2 * s for c, s in zip(view.centre, shift, strict=True)]
    return view.focal * zoom, centre[0], centre[1]


def aligned_view(eyes: np.ndarray, mouth: np.ndarray, middle: np.ndarray, distance: float) -> View:
    """The straight view under which eyes [2, 3] and mouth [3] lie, nearly, where an aligned face has them."""
    straight = View(distance, (0.0, 0.0), 1.0, (0.0, 0.0))
    points = np.stack([eyes[0], eyes[1], mouth])
    flat = on_screen(to_camera(points, straight, middle), (1.0, 0.0, 0.0))[:, :2].astype(float)
    spread = np.linalg.norm(flat[1] - flat[0]) / EYE_DISTANCE + abs(flat[2, 1] - flat[:2, 1].mean()) / (
        MOUTH[1] - EYES_MIDPOINT[1]
    )
    scale = 2 / spread  # picture pixels per unit
    middle_flat = (flat[:2].mean(axis=0) * 2 + flat[2]) / 3
    wanted = (2 * np.array(EYES_MIDPOINT) + np.array(MOUTH)) / 3
    centre = 2 * (wanted - scale * middle_flat)
    return View(distance, (0.0, 0.0), 2 * scale, (float(centre[0]), float(centre[1])))
