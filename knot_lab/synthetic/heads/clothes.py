"""Cloth on the torso and about the neck.

Shapes: N body vertices.
"""

from __future__ import annotations

import numpy as np

from .fitting import Fitting, sample_cloth
from .head_bank import SKIN, vertex_normals
from .meshes import Mesh, grid, rigid, tube


def clothe(f: Fitting) -> None:
    kind = str(
        f.rng.choice(["crew", "v", "turtleneck", "tank", "shirt", "jacket"], p=[0.34, 0.2, 0.12, 0.08, 0.14, 0.12])
    )
    x, y, z = f.bank.template.T
    plane = 0.572 - 0.42 * z
    if kind == "crew":
        cut = y - plane - f.rng.uniform(-0.02, 0.008)
    elif kind == "turtleneck":
        cut = y - (0.605 - 0.1 * z) - f.rng.uniform(-0.012, 0.008)
    elif kind == "tank":
        cut = y - (plane - 0.035) - 0.5 * np.clip(np.abs(x) - 0.09, 0, 0.05)
    else:
        depth = f.rng.uniform(0.03, 0.10)
        cut = y - plane + np.maximum(0, depth - np.abs(x) * f.rng.uniform(1.0, 2.0)) * (z > -0.02)
    thickness = f.rng.uniform(0.003, 0.009)
    inner = f.wardrobe.material(sample_cloth(f.rng))
    if kind == "jacket":  # over a shirt or a jumper
        _layer(f, (y - plane - f.rng.uniform(-0.02, 0.008), 0.003, inner))
        deep, open_ = f.rng.uniform(0.12, 0.3), f.rng.uniform(2.0, 3.5)
        over = y - plane - 0.004 + np.maximum(0, deep - np.abs(x) * open_) * (z > -0.02)
        _layer(f, (over, 0.011, f.wardrobe.material(sample_cloth(f.rng))))
        if f.rng.random() < 0.6:
            _collar(f, inner)
    else:
        _layer(f, (cut, thickness, inner))
        if kind == "shirt":
            _collar(f, inner)
    f.kinds["clothes"] = kind


def _layer(f: Fitting, what: tuple[np.ndarray, float, int]) -> None:
    """Cloth on the body where ``cut`` [N] is below 0, ``thickness`` m off it, with folds."""
    cut, thickness, material = what
    body = f.bank.triangles[f.bank.groups == SKIN]
    near = body[(cut[body].min(axis=1) < 0) & (f.bank.template[body, 1].max(axis=1) < 0.64)]
    used, triangles = np.unique(near, return_inverse=True)
    normals = vertex_normals(f.rest, f.bank.triangles)[used]
    place = f.bank.template[used]
    folds = np.sin(place @ f.rng.normal(0, 45, 3) + 2 * np.sin(place @ f.rng.normal(0, 25, 3))) * f.rng.uniform(
        0, 0.0025
    )
    off = thickness * (1 + 0.6 * np.clip(-cut[used] / 0.05, 0, 1)) + folds
    azimuth = np.arctan2(place[:, 0], place[:, 2] - 0.02)
    along = np.stack([azimuth * 0.14, place[:, 1], place[:, 2]], axis=1)
    f.wardrobe.meshes.append(
        Mesh(
            vertices=(f.rest[used] + off[:, None] * normals).astype(np.float32),
            triangles=triangles.reshape(-1, 3).astype(np.int32),
            skin=f.bank.skin[used],
            coordinates=along.astype(np.float32),
            material=material,
            cut=cut[used],
        )
    )


def _collar(f: Fitting, material: int) -> None:
    """A shirt's collar: a band about the neck folded outwards, open in front."""
    azimuth, t = np.meshgrid(np.linspace(0.20, 2 * np.pi - 0.20, 40), np.linspace(0, 1, 7), indexing="ij")
    rise, fall = f.rng.uniform(0.022, 0.032), f.rng.uniform(0.035, 0.05)
    height = np.where(t < 0.45, t / 0.45 * rise, rise - (t - 0.45) / 0.55 * fall)
    out = np.where(t < 0.45, 0.0, (t - 0.45) / 0.55 * 0.030)
    front = np.exp(-(((np.minimum(azimuth, 2 * np.pi - azimuth)) / 0.55) ** 2))
    radius = 0.064 + out + 0.004 * np.sin(azimuth * 3)
    base = 0.566 + 0.020 * (1 - np.cos(azimuth)) / 2 * 1.6
    points = np.stack(
        [
            radius * np.sin(azimuth),
            base + height - 0.02 * front * (t > 0.6),
            -0.006 + radius * 0.98 * np.cos(azimuth) + 0.01 * front,
        ],
        axis=-1,
    )
    points = points.reshape(-1, 3)
    f.wardrobe.meshes.append(rigid(points, grid(40, 7, closed=False), material, head=0.0, neck=0.15))


def wrap(f: Fitting, material: int, heights: tuple[float, float], turns: int) -> None:
    """A scarf: ``turns`` soft rings about the neck between two heights, m."""
    azimuth = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    for level in np.linspace(*heights, turns):
        size = f.rng.uniform(0.070, 0.085) + 0.25 * (heights[0] - level)
        wobble = 0.006 * np.sin(azimuth * f.rng.integers(2, 5) + f.rng.uniform(0, 6.3))
        path = np.stack(
            [
                (size + wobble) * np.sin(azimuth),
                level + 2 * wobble + 0.012 * -np.cos(azimuth),
                -0.005 + (size * 0.95 + wobble) * np.cos(azimuth),
            ],
            axis=1,
        )
        vertices, triangles = tube(path, 0.020 + 0.5 * np.abs(wobble), closed=True, sides=10)
        f.wardrobe.meshes.append(rigid(vertices, triangles, material, head=0.0, neck=0.35))


def scarf(f: Fitting) -> None:
    chin = f.rest[f.bank.landmarks["chin"]].mean(axis=0)[1]
    wrap(
        f,
        f.wardrobe.material(sample_cloth(f.rng)),
        (chin - f.rng.uniform(0.035, 0.05), chin - 0.10),
        int(f.rng.integers(2, 4)),
    )
    f.kinds["scarf"] = "yes"
