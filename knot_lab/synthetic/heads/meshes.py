"""Meshes of one person: the head itself, and what is worn or held, gathered into one list of triangles.

Shapes: M vertices, T triangles, n materials.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .shading import FIRST_MATERIAL


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A part: how it lies at rest, what it follows, what it is made of."""

    vertices: np.ndarray  # float32 [M, 3]
    triangles: np.ndarray  # int32 [T, 3]
    skin: np.ndarray  # float32 [M, 2]: with the head, with the neck
    coordinates: np.ndarray  # float32 [M, 3]: of the material
    material: int | np.ndarray  # uint8 [T], or one for all
    cut: np.ndarray | None = None  # float32 [M]: what lies above 0 is left out
    culled: bool = False


@dataclass(frozen=True, kw_only=True)
class Material:
    """Cloth, metal, plastic: colours are linear, patterns are those of ``shading.pattern_of``."""

    colour: np.ndarray  # [3]
    second: np.ndarray | None = None  # [3]
    pattern: int = 0
    scale: float = 30.0  # periods a metre
    gloss: float = 0.1
    rough: float = 0.8
    wrap: float = 0.1
    relief: float = 0.5

    def row(self) -> list[float]:
        """[12], as ``shading`` reads it."""
        second = self.colour if self.second is None else self.second
        return [*self.colour, *second, self.pattern, self.scale, self.gloss, self.rough, self.wrap, self.relief]


@dataclass
class Wardrobe:
    """Parts and materials while a person is being put together."""

    meshes: list[Mesh] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)

    def material(self, material: Material) -> int:
        """The number under which meshes name it."""
        self.materials.append(material)
        return FIRST_MATERIAL + len(self.materials) - 1


def rigid(vertices: np.ndarray, triangles: np.ndarray, material: int, head: float = 1.0, neck: float = 0.0) -> Mesh:
    """A part [M, 3], [T, 3] that follows the head, the neck or, with neither, the torso; cloth runs along x and y."""
    skin = np.tile(np.array([[head, neck]], np.float32), (len(vertices), 1))
    vertices = vertices.astype(np.float32)
    return Mesh(
        vertices=vertices,
        triangles=triangles.astype(np.int32),
        skin=skin,
        coordinates=vertices.copy(),
        material=material,
    )


def grid(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Triangles int32 [T, 3] of a grid of points, rows first; ``closed``: the last column meets the first."""
    ends = columns if closed else columns - 1
    i, j = (x.ravel() for x in np.meshgrid(np.arange(rows - 1), np.arange(ends), indexing="ij"))
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)


def tube(
    path: np.ndarray, radius: np.ndarray | float, closed: bool = False, sides: int = 7
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a tube about ``path`` [n, 3]; ``radius`` m, one or [n]."""
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    along = along / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    side = np.cross(along, (0.05, 1.0, 0.12))
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    other = np.cross(along, side)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = side[:, None] * np.cos(angle)[None, :, None] + other[:, None] * np.sin(angle)[None, :, None]
    points = path[:, None] + np.broadcast_to(np.asarray(radius), (len(path),))[:, None, None] * ring
    triangles = grid(len(path) + closed, sides, closed=True)
    return points.reshape(-1, 3), triangles % (len(path) * sides)


def ball(
    centre: np.ndarray, radii: tuple[float, float, float], rows: int = 9, columns: int = 14
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of an ellipsoid about ``centre`` [3]."""
    polar, azimuth = np.meshgrid(
        np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    unit = np.stack([np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], axis=-1)
    return centre + unit.reshape(-1, 3) * radii, grid(rows, columns, closed=True)
