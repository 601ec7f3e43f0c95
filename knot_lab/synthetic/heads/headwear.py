"""Glasses, hats, headscarves, earrings.

Shapes: n points along a curve.
"""

from __future__ import annotations

import numpy as np

from .clothes import wrap
from .fitting import Fitting, cloth_colour, sample_cloth
from .head_bank import HeadBank
from .head_hull import HeadHull
from .meshes import Material, Mesh, ball, grid, rigid, tube


def glasses(f: Fitting) -> None:
    """Frames of wire or plastic before the eyes, and lenses: clear, tinted or dark."""
    eyes = np.stack([f.rest[f.bank.landmarks[f"{side}_pupil"]].mean(axis=0) for side in ("right", "left")])
    ears = [body_point(f.bank, f.rest, side) for side in (-1, 1)]
    wide, high, square = f.rng.uniform(0.021, 0.028), f.rng.uniform(0.014, 0.023), f.rng.uniform(0.35, 1.0)
    thick = f.rng.choice([0.0009, 0.0015, 0.0024], p=[0.35, 0.4, 0.25])
    bridge = f.rest[f.bank.landmarks["nose_bridge"]].mean(axis=0)
    front = max(eyes[:, 2].max() + 0.010, bridge[2] + 0.001)
    colour = (
        cloth_colour(f.rng)
        if thick > 0.001
        else np.full(3, f.rng.uniform(0.03, 0.4)) * np.array([1, 0.9, f.rng.uniform(0.5, 1)])
    )
    frame = f.wardrobe.material(Material(colour=colour, gloss=1.5, rough=0.3, wrap=0.0, relief=0.0))
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    shape = lambda x: np.sign(x) * np.abs(x) ** square  # noqa: E731
    centres, parts = [], []
    for side, eye in zip((-1, 1), eyes, strict=True):
        centre = np.array([eye[0] + side * 0.001, eye[1] - 0.003, front])
        curve = 0.12 * (np.abs(shape(np.cos(angle))) * wide) * (side * np.cos(angle) > 0)
        ring = centre + np.stack([wide * shape(np.cos(angle)), high * shape(np.sin(angle)), -curve], axis=1)
        centres.append((centre, ring))
        if thick > 0.001 or f.rng.random() < 0.8:
            parts.append(tube(ring, thick, closed=True))
        hinge = centre + np.array([side * wide, 0.3 * high, -0.12 * wide])
        ear = ears[0 if side < 0 else 1] + (0, 0.004, 0)
        out = np.array([side * max(abs(hinge[0]), abs(ear[0]) + 0.002), hinge[1], hinge[2] - 0.012])
        parts.append(
            tube(
                np.stack(
                    [hinge, out, 0.5 * (out + ear) + (side * 0.004, 0.002, 0), ear, ear - np.array([0, 0.018, 0.014])]
                ),
                thick,
            )
        )
    inner = [centre - (side * wide, -0.25 * high, 0) for side, (centre, _) in zip((-1, 1), centres, strict=True)]
    parts.append(tube(np.stack([inner[0], 0.5 * (inner[0] + inner[1]) + (0, 0.003, 0.003), inner[1]]), thick))
    for vertices, triangles in parts:
        f.wardrobe.meshes.append(rigid(vertices, triangles, frame))
    dark = f.rng.random() < 0.22
    tint = np.array([0.25, 0.28, 0.30]) * f.rng.uniform(0.1, 0.8) if dark else np.full(3, f.rng.uniform(0.9, 1.0))
    fan = np.concatenate([[centre, *ring] for centre, ring in centres])
    number = len(angle)
    spokes = np.stack([np.zeros(number, int), 1 + np.arange(number), 1 + (np.arange(number) + 1) % number], axis=1)
    f.wardrobe.meshes.append(rigid(fan, np.zeros((0, 3), np.int32), frame))
    look = np.array([*tint, f.rng.uniform(0, 0.12) * (f.rng.random() < 0.6), f.rng.uniform(-1, 1)])
    f.lens = (np.concatenate([spokes, spokes + number + 1]).astype(np.int32), look, len(f.wardrobe.meshes) - 1)
    f.kinds["glasses"] = "dark" if dark else "clear"


def body_point(bank: HeadBank, rest: np.ndarray, side: int) -> np.ndarray:
    """The place where a temple lies on an ear, [3]; ``side`` is -1 to the viewer's left."""
    ear = np.flatnonzero((bank.ears > 0.5) & (side * bank.template[:, 0] > 0))
    places = rest[ear]
    return np.array([np.median(places[:, 0]), np.percentile(places[:, 1], 88), np.percentile(places[:, 2], 40)])


def _shell(
    hull: HeadHull, rng: np.random.Generator, rows: int, lowest: float, thickness: float, folds: float
) -> tuple[np.ndarray, np.ndarray]:
    """A surface [rows, 72, 3] about the head from the crown down to a polar angle, and its triangles."""
    polar, azimuth = np.meshgrid(
        np.linspace(0.02, lowest, rows), np.linspace(0, 2 * np.pi, 72, endpoint=False), indexing="ij"
    )
    unit = np.stack([np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], axis=-1)
    radius = hull.radius(hull.middle + unit) + thickness
    for _ in range(2):
        radius = 0.5 * radius + 0.25 * (np.roll(radius, 1, 1) + np.roll(radius, -1, 1))
    waves = sum(
        np.sin(azimuth * rng.integers(2, 9) + polar * rng.uniform(-14, 14) + rng.uniform(0, 6.3)) for _ in range(3)
    )
    return hull.middle + unit * (radius + folds * waves)[..., None], grid(rows, 72, closed=True)


def hat(f: Fitting) -> None:
    """A beanie, a cap, a brimmed hat, a turban or a headband."""
    kind = str(f.rng.choice(["beanie", "cap", "brim", "turban", "band"], p=[0.3, 0.27, 0.18, 0.12, 0.13]))
    brow = f.rest[f.bank.landmarks["right_brow_middle"]].mean(axis=0)[1]
    front = brow + f.rng.uniform(0.012, 0.036)
    back = front - f.rng.uniform(0.0, 0.06)
    cloth = sample_cloth(f.rng)
    material = f.wardrobe.material(cloth)
    thickness, folds = {"beanie": (0.010, 0.001), "turban": (0.028, 0.005), "band": (0.007, 0.0)}.get(
        kind, (0.012, 0.0)
    )
    shell, triangles = _shell(f.hull, f.rng, 26, 2.0, thickness, folds)
    if kind in ("cap", "brim"):
        shell = shell + np.clip((shell[..., 1:2] - front) / 0.06, 0, 1) * np.array(
            [0, f.rng.uniform(0.0, 0.03) + 0.03 * (kind == "brim"), 0]
        )
    points = shell.reshape(-1, 3)
    edge = front + (back - front) * np.clip((0.10 - points[:, 2]) / 0.2, 0, 1)
    cut = edge - points[:, 1]
    if kind == "band":
        cut = np.maximum(cut, points[:, 1] - edge - f.rng.uniform(0.02, 0.045))
    away = points - f.hull.middle
    along = np.stack([np.arctan2(away[:, 0], away[:, 2]) * 0.1, points[:, 1], np.zeros(len(points))], axis=1)
    f.wardrobe.meshes.append(
        Mesh(
            vertices=points.astype(np.float32),
            triangles=triangles,
            skin=np.tile(np.array([[1, 0]], np.float32), (len(points), 1)),
            coordinates=along.astype(np.float32),
            material=material,
            cut=cut,
        )
    )
    if kind == "cap":
        _visor(f, front, material)
    if kind == "brim":
        _brim(f, (front, back), material)
    f.kinds["hat"] = kind
    if kind != "band":
        f.hat_above = (
            float(0.5 * (front + back))
            - float(
                f.rest[f.bank.landmarks["right_brow_middle"]][0, 1]
                - f.bank.template[f.bank.landmarks["right_brow_middle"]][0, 1]
            )
            + 0.012
        )


def _visor(f: Fitting, front: float, material: int) -> None:
    azimuth, out = np.meshgrid(np.linspace(-1.05, 1.05, 24), np.linspace(0, 1, 7), indexing="ij")
    unit = np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=-1)
    start = np.array([f.hull.middle[0], front, f.hull.middle[2]])
    radius = f.hull.radius(start + unit) + 0.010 + out * f.rng.uniform(0.05, 0.075) * np.cos(azimuth) ** 0.7
    points = start + unit * radius[..., None]
    points[..., 1] += 0.004 - out * f.rng.uniform(0.0, 0.03) - 0.02 * np.sin(azimuth) ** 2 * out
    lower = points - (0, 0.003, 0)
    for layer in (points, lower):
        f.wardrobe.meshes.append(rigid(layer.reshape(-1, 3), grid(24, 7, closed=False), material))


def _brim(f: Fitting, edge: tuple[float, float], material: int) -> None:
    front, back = edge
    azimuth, out = np.meshgrid(np.linspace(0, 2 * np.pi, 60, endpoint=False), np.linspace(0, 1, 6), indexing="ij")
    unit = np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=-1)
    start = np.array([f.hull.middle[0], 0.5 * (front + back), f.hull.middle[2]])
    radius = f.hull.radius(start + unit) + 0.008 + out * f.rng.uniform(0.03, 0.09)
    points = start + unit * radius[..., None]
    points[..., 1] += 0.5 * (front - back) * np.cos(azimuth) + out**2 * f.rng.uniform(-0.02, 0.03) * (
        0.4 + np.abs(np.sin(azimuth))
    )
    f.wardrobe.meshes.append(rigid(points.reshape(-1, 3), _brim_triangles(), material))


def _brim_triangles() -> np.ndarray:
    """int32 [T, 3] of 60 spokes of 6 points, the last spoke joined to the first."""
    rows = grid(61, 6, closed=False)
    return (rows % (60 * 6)).astype(np.int32)


def veil(f: Fitting) -> None:
    """A headscarf or a hood: cloth about head and neck with an opening for the face."""
    shell, triangles = _shell(f.hull, f.rng, 34, 2.55, f.rng.uniform(0.010, 0.02), f.rng.uniform(0.0005, 0.002))
    points = shell.reshape(-1, 3)
    face = f.rest[f.bank.landmarks["nose_tip"]].mean(axis=0)
    wide, high = f.rng.uniform(0.060, 0.072), f.rng.uniform(0.078, 0.092)
    inside = 1 - np.sqrt(((points[:, 0]) / wide) ** 2 + ((points[:, 1] - face[1] - 0.004) / high) ** 2)
    cut = np.where(points[:, 2] > 0.0, inside, -1.0)
    low = np.clip((f.hull.low + 0.02 - points[:, 1]) / 0.08, 0, 1)
    points = points * (1 + (0.35 * low)[:, None] * np.array([1, 0, 0.6]))
    head = 1 - 0.75 * low
    cloth = f.wardrobe.material(sample_cloth(f.rng))
    along = np.stack([points[:, 0], points[:, 1], points[:, 2]], axis=1)
    f.wardrobe.meshes.append(
        Mesh(
            vertices=points.astype(np.float32),
            triangles=triangles,
            skin=np.stack([head, 0.6 * (1 - head)], axis=1).astype(np.float32),
            coordinates=along.astype(np.float32),
            material=cloth,
            cut=cut,
        )
    )
    neck = f.rest[f.bank.landmarks["chin"]].mean(axis=0)
    wrap(f, cloth, (neck[1] - 0.035, neck[1] - 0.085), 3)
    f.hair_hidden = True
    f.kinds["hat"] = "veil"


def earrings(f: Fitting) -> None:
    colour = np.array([[0.75, 0.50, 0.18], [0.6, 0.6, 0.62], cloth_colour(f.rng)][f.rng.integers(3)])
    metal = f.wardrobe.material(Material(colour=colour, gloss=3.0, rough=0.25, relief=0.0))
    size, hoop = f.rng.uniform(0.003, 0.006), f.rng.random() < 0.5
    for side in (-1, 1):
        ear = np.flatnonzero((f.bank.ears > 0.5) & (side * f.bank.template[:, 0] > 0))
        lobe = f.rest[ear[f.rest[ear, 1].argmin()]] + (side * 0.001, 0.002, 0.002)
        if hoop:
            angle, wide = np.linspace(0, 2 * np.pi, 20, endpoint=False), 3 * size
            ring = lobe + np.stack(
                [0.2 * side * wide * np.sin(angle), wide * (np.cos(angle) - 1), wide * np.sin(angle)], axis=1
            )
            part = tube(ring, 0.0011, closed=True)
        else:
            part = ball(lobe, (size, size * f.rng.uniform(1, 2.5), size), 6, 8)
        f.wardrobe.meshes.append(rigid(*part, metal))
    f.kinds["earrings"] = "hoops" if hoop else "studs"
