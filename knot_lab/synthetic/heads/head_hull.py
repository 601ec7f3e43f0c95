"""The head as radii about its middle: hair lies on it, and hats are shaped by it.

Shapes: ``...`` any leading axes.
"""

from __future__ import annotations

import numpy as np

_ROWS, _COLUMNS = 40, 72
_CELL = 0.012  # m: of the map of the shoulders


class HeadHull:
    """Radii about the head's middle by direction, and how high the shoulders and the chest reach by place."""

    def __init__(self, vertices: np.ndarray, skin: np.ndarray) -> None:
        """``vertices`` [N, 3] of the body at rest, ``skin`` [N, 2] its weights."""
        head = vertices[skin[:, 0] > 0.5]
        low = np.percentile(head[:, 1], 1)
        top = head[:, 1].max()
        self.middle = np.array([0.0, top - 0.115, head[:, 2].mean() * 0.5], np.float32)
        self.top, self.low = float(top), float(low)
        self._radii = self._fill(vertices[skin[:, 0] > 0.35]).astype(np.float32)
        self._heights = _height_map(vertices[skin[:, 0] < 0.5]).astype(np.float32)

    def _fill(self, points: np.ndarray) -> np.ndarray:
        row, column, radius = self._cell(points)
        radii = np.zeros((_ROWS, _COLUMNS))
        np.maximum.at(radii, (row.astype(int), column.astype(int) % _COLUMNS), radius)
        for _ in range(12):  # empty cells take their neighbours' mean
            around = [np.roll(radii, s, 1) for s in (-1, 1)] + [
                np.concatenate([radii[:1], radii[:-1]]),
                np.concatenate([radii[1:], radii[-1:]]),
            ]
            count = sum((near > 0).astype(float) for near in around)
            mean = sum(around) / np.maximum(count, 1)
            radii = np.where(radii > 0, radii, mean)
        return 0.5 * radii + 0.125 * sum(
            [
                np.roll(radii, 1, 1),
                np.roll(radii, -1, 1),
                np.concatenate([radii[:1], radii[:-1]]),
                np.concatenate([radii[1:], radii[-1:]]),
            ]
        )

    def _cell(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        away = points - self.middle
        radius = np.linalg.norm(away, axis=-1) + 1e-9
        row = np.arccos(np.clip(away[..., 1] / radius, -1, 1)) / np.float32(np.pi) * np.float32(_ROWS - 1e-3)
        column = (np.arctan2(away[..., 0], away[..., 2]) / (2 * np.pi) + 0.5) * _COLUMNS
        return row, column, radius

    def radius(self, points: np.ndarray) -> np.ndarray:
        """The head's reach towards points [..., 3]: [...], m."""
        row, column, _ = self._cell(points)
        row, column = np.clip(row - 0.5, 0, _ROWS - 1.001), column - 0.5
        r, c = row.astype(int), np.floor(column).astype(int)
        fr, fc = row - r, column - c
        c0, c1 = c % _COLUMNS, (c + 1) % _COLUMNS
        upper = self._radii[r, c0] * (1 - fc) + self._radii[r, c1] * fc
        lower = self._radii[r + 1, c0] * (1 - fc) + self._radii[r + 1, c1] * fc
        return upper * (1 - fr) + lower * fr

    def outside(self, points: np.ndarray, clearance: np.ndarray | float) -> np.ndarray:
        """Points [..., 3] pushed out of the head by at least ``clearance`` [...] m, and up from the shoulders."""
        away = points - self.middle
        distance = np.linalg.norm(away, axis=-1) + 1e-9
        least = self.radius(points) + clearance
        grown = np.maximum(distance, least)
        pushed = self.middle + away * (grown / distance)[..., None]
        below = points[..., 1] < self.low - 0.03
        pushed = np.where(below[..., None], points, pushed)
        pushed[..., 1] = np.maximum(pushed[..., 1], self.shoulder(pushed) + 0.004 + 0.3 * clearance)
        return pushed

    def shoulder(self, points: np.ndarray) -> np.ndarray:
        """The torso's height at the place of points [..., 3]: [...], m."""
        size = len(self._heights)
        ix, iz = (((points[..., axis]) / _CELL + size / 2).astype(int).clip(0, size - 1) for axis in (0, 2))
        return self._heights[iz, ix]


def _height_map(points: np.ndarray) -> np.ndarray:
    """[64, 64] over x and z: the highest of the torso's points [N, 3], holes filled from their sides."""
    size = 64
    heights = np.full((size, size), -1.0)
    ix, iz = ((points[:, axis] / _CELL + size / 2).astype(int).clip(0, size - 1) for axis in (0, 2))
    np.maximum.at(heights, (iz, ix), points[:, 1])
    for _ in range(3):
        around = np.max([np.roll(heights, s, a) for a in (0, 1) for s in (-1, 1)], axis=0)
        heights = np.where(heights > -1, heights, np.where(around > -1, around - 0.002, -1))
    return heights
