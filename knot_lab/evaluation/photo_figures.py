"""Figures of animated photos, by written formulas: from landmarks of MediaPipe's face mesh, embeddings and pixels.

Nothing here needs the packages that find landmarks or embeddings; whoever measures hands their results in.

Landmarks of a frame without a face are no numbers, and so is what is read from them.

Shapes: T frames, N = 478 landmarks as (x, y, z) in pixels (x right, y down, z away from the camera), E embedding,
H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Numbers of the landmarks; left and right are the picture's.
_FOREHEAD, _BRIDGE, _NOSE_BASE = 10, 168, 2
_LIPS = ((13, 14), (0, 17))  # the inner edges of upper and lower lip, and the outer ones
_OUTER_CORNERS = (33, 263)
_EYES = ((33, 133, 159, 145), (263, 362, 386, 374))  # outer and inner corner, upper and lower lid
_USUAL = 90  # percentile of a clip's eye openings that counts as open


def mouth_opening(landmarks_TN3: np.ndarray) -> np.ndarray:
    """[T]: the distance between the inner edges of the lips and that between the outer ones, over that from the nose's
    bridge to its base, which does not move.

    MediaPipe often takes the inner edges to be shut where a mouth is dark or bearded. On true renders both together
    follow the speech as the inner ones alone do, at 0.91.
    """
    lips = sum(_between(landmarks_TN3, above, below) for above, below in _LIPS)
    return lips / _between(landmarks_TN3, _BRIDGE, _NOSE_BASE)


def yaw(landmarks_TN3: np.ndarray) -> np.ndarray:
    """[T] in rad: by how much the line through the eyes' outer corners goes away from the camera, to the right."""
    left, right = _OUTER_CORNERS
    across = landmarks_TN3[:, right] - landmarks_TN3[:, left]
    return np.arctan2(across[:, 2], np.hypot(across[:, 0], across[:, 1]))


def pitch(landmarks_TN3: np.ndarray) -> np.ndarray:
    """[T] in rad: by how much the line from forehead to the nose's base goes away from the camera, downwards."""
    down = landmarks_TN3[:, _NOSE_BASE] - landmarks_TN3[:, _FOREHEAD]
    return np.arctan2(down[:, 2], np.hypot(down[:, 0], down[:, 1]))


def blink(landmarks_TN3: np.ndarray) -> np.ndarray:
    """[T] from 0, as open as usual in this clip, to 1, shut.

    An eye's opening is the distance between its lids over that between its corners; both eyes count alike.
    """
    openings = [_between(landmarks_TN3, above, below) / _between(landmarks_TN3, outer, inner)
                for outer, inner, above, below in _EYES]  # fmt: skip
    opening = np.mean(openings, axis=0)
    return np.clip(1 - opening / max(np.nanpercentile(opening, _USUAL), 1e-9), 0, 1)


def _between(landmarks_TN3: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(landmarks_TN3[:, a] - landmarks_TN3[:, b], axis=-1)


def correlation(measured: np.ndarray, wanted: np.ndarray, within: np.ndarray | None = None) -> float:
    """Pearson's, of [T] and [T]; `within` bool [T] are the frames that count. 0 where one of them does not vary."""
    chosen = np.isfinite(measured) & np.isfinite(wanted) & (True if within is None else within)
    a, b = measured[chosen], wanted[chosen]
    if len(a) < 2 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def identity_ratio(frames_TE: np.ndarray, photo_E: np.ndarray, turned_E: np.ndarray) -> float:
    """How well frames keep who the photo shows: the mean cosine of their embeddings to the photo's, over that of the
    same photo turned by the 3D warp, which shows what any turn costs.
    """
    return float(cosines(frames_TE, photo_E).mean() / max(float(cosines(turned_E[None], photo_E)[0]), 1e-9))


def cosines(embeddings_TE: np.ndarray, photo_E: np.ndarray) -> np.ndarray:
    """[T]: of each embedding with the photo's."""
    lengths = np.linalg.norm(embeddings_TE, axis=-1) * np.linalg.norm(photo_E)
    return embeddings_TE @ photo_E / np.maximum(lengths, 1e-9)


def background_change(frames_THW3: np.ndarray, away_HW: np.ndarray) -> float:
    """The 99th percentile of the change from frame to frame, uint8 levels, of all channels where `away` is true."""
    if len(frames_THW3) < 2 or not away_HW.any():
        return 0.0
    still = frames_THW3[:, away_HW].astype(np.int16)
    return float(np.percentile(np.abs(np.diff(still, axis=0)), 99))


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A limit that a figure must reach: at least, or at most."""

    figure: str
    limit: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value reaches it; one that is no number does not."""
        return value <= self.limit if self.at_most else value >= self.limit


GOALS = (
    Goal(figure="identity", limit=0.85),
    Goal(figure="identity_lost_in_10_minutes", limit=0.02, at_most=True),
    Goal(figure="mouth", limit=0.75),
    Goal(figure="yaw", limit=0.85),
    Goal(figure="pitch", limit=0.8),
    Goal(figure="blink", limit=0.8),
    Goal(figure="background", limit=2.0, at_most=True),
)


def unreached(figures: Mapping[str, float], goals: Iterable[Goal] = GOALS) -> list[str]:
    """A sentence for each goal that the figures miss, or say nothing about."""
    said = []
    for goal in goals:
        value, wanted = figures.get(goal.figure), f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}"
        if value is None:
            said.append(f"{goal.figure} was not measured; wanted {wanted}")
        elif not goal.holds(value):
            said.append(f"{goal.figure} is {value:.3f}; wanted {wanted}")
    return said
