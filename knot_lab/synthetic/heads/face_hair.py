"""Brows, lashes and beards: short strands on the moving skin.

Shapes: H strands of P points each, N vertices.
"""

from __future__ import annotations

import numpy as np

from .head_bank import LASHES, HeadBank, vertex_normals
from .shapes import Person
from .skin import beard_region
from .strands import Strands, make_strands, tinted


def _normals_at(rest: np.ndarray, bank: HeadBank, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    normals = (vertex_normals(rest, bank.triangles)[corners] * weights[..., None]).sum(axis=1)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)


def _bound(corners: np.ndarray, weights: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.repeat(x[:, None], length, axis=1) for x in (corners, weights))  # type: ignore[return-value]


def grow_brows(
    rng: np.random.Generator, bank: HeadBank, rest: np.ndarray, person: Person, colour: np.ndarray
) -> Strands:
    """Brows of a colour [3] on the body ``rest`` [N, 3]: inner hairs point up, outer ones outwards."""
    corners, weights = bank.brow_roots
    at = (bank.template[corners] * weights[..., None]).sum(axis=1)
    thick = rng.uniform(0.7, 1.3) * (1.15 if person.male > 0.5 else 0.75)
    arch, height = rng.uniform(0.3, 1.3), rng.normal(0.7545, 0.0012)
    along = (np.abs(at[:, 0]) - 0.012) / 0.040
    curve = height + arch * 0.0062 * np.sin(np.clip(along, 0, 1) * np.pi * 0.72) - 0.004 * np.clip(along - 0.65, 0, 1)
    half = 0.0040 * thick * (1 - 0.72 * np.clip(along, 0, 1) ** 1.3)
    chance = np.clip(1.3 - np.abs(at[:, 1] - curve) / half, 0, 1) * (along > -0.02) * (along < rng.uniform(0.9, 1.05))
    chosen = np.flatnonzero(rng.random(len(at)) < chance * min(1.0, 0.75 * thick))
    corners, weights, at, along = corners[chosen], weights[chosen], at[chosen], along[chosen]
    outward = np.sign(at[:, 0])
    rise = (
        np.interp(along, [0, 0.25, 0.6, 1], [1.2, 0.7, 0.15, -0.25])
        + rng.normal(0, 0.18, len(at))
        - 40 * (at[:, 1] - height)
    )
    direction = np.stack(
        [outward * np.interp(along, [0, 0.3, 1], [0.25, 0.9, 1.0]), rise, -0.35 * np.clip(along, 0, 1)], axis=1
    )
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = rng.uniform(0.004, 0.0075, len(at)) * (0.7 + 0.3 * thick)
    t = np.linspace(0, 1, 4)[None, :, None]
    points = (
        length[:, None, None]
        * t
        * (direction[:, None] + 0.25 * (1 - t) * _normals_at(rest, bank, corners, weights)[:, None])
    )
    tint = tinted(rng, 0.75 * colour, np.arange(len(at)), 0.2)
    return make_strands(
        points,
        width=0.0005,
        look=(tint, 0.2),
        covered=np.full((len(at), 4), 0.3),
        bound=_bound(corners, weights, 4),
    )


def grow_lashes(rng: np.random.Generator, bank: HeadBank, person: Person) -> Strands:
    """Lashes along the lash cards of the mesh, from the lid's edge outwards; both ends follow the lids."""
    cards = bank.triangles[bank.groups == LASHES]
    places = bank.template[cards]
    centre = np.where(places[:, :1, 0:1] > 0, 1, -1) * np.array([0.0289, 0, 0]) + np.array([0, 0.7362, 0.0899])
    distance = np.linalg.norm(places - centre, axis=2)
    order = distance.argsort(axis=1)
    root, tip = (np.take_along_axis(cards, order[:, k : k + 1], 1)[:, 0] for k in (0, 2))
    upper = places[:, :, 1].mean(axis=1) > 0.7362
    amount = rng.uniform(0.5, 1.0) if person.male < 0.5 else rng.uniform(0.25, 0.6)
    kept = rng.random(len(cards)) < np.where(upper, amount, 0.35 * amount)
    root, tip, upper = root[kept], tip[kept], upper[kept]
    count = len(root)
    corners = np.stack([root, tip, root], axis=1)
    t = np.array([0.0, 0.55, 1.0 + 0.25 * (person.male < 0.5)])
    weights = np.stack([np.repeat(1 - t[None], count, 0), np.repeat(t[None], count, 0), np.zeros((count, 3))], axis=2)
    points = np.zeros((count, 3, 3))
    points[:, 2, 1] = np.where(upper, 0.0012, -0.0006)
    dark = np.full((count, 3), 0.012)
    return make_strands(
        points,
        width=0.0004,
        look=(dark, 0.0),
        covered=np.full((count, 3), 0.5),
        bound=(np.repeat(corners[:, None], 3, 1), weights),
    )


def grow_beard(
    rng: np.random.Generator, bank: HeadBank, rest: np.ndarray, person: Person, colour: np.ndarray
) -> list[Strands]:
    """Stubble, a moustache, a goatee or a beard of a colour [3] on ``rest`` [N, 3]; most often none."""
    if person.male < 0.5 or person.age < 0.42 or rng.random() < 0.42:
        return []
    kind = rng.choice(["stubble", "full", "goatee", "moustache", "long"], p=[0.34, 0.28, 0.14, 0.16, 0.08])
    corners, weights = bank.beard_roots
    at, lips = (
        (x[corners] * weights.reshape(*weights.shape, *[1] * (x.ndim - 1))).sum(axis=1)
        for x in (bank.template, bank.lips)
    )
    region = beard_region(at[:, 0], at[:, 1], at[:, 2], lips)
    region = region * (lips < 0.08)
    if kind == "goatee":
        region = region * (np.abs(at[:, 0]) < 0.030) * (at[:, 2] > 0.06)
    if kind == "moustache":
        region = region * (at[:, 1] > 0.672) * (np.abs(at[:, 0]) < 0.032)
    dense = {"stubble": rng.uniform(0.25, 0.7), "long": 1.0}.get(kind, rng.uniform(0.7, 1.0))
    chosen = np.flatnonzero(rng.random(len(at)) < region * dense)
    corners, weights, at = corners[chosen], weights[chosen], at[chosen]
    longest = {
        "stubble": 0.003,
        "full": rng.uniform(0.008, 0.018),
        "goatee": 0.012,
        "moustache": 0.010,
        "long": rng.uniform(0.03, 0.07),
    }[kind]
    length = longest * rng.uniform(0.6, 1.1, len(at))
    mouth = at[:, 1] > 0.672
    length = np.where(mouth, np.minimum(length, 0.012), length)
    normal = _normals_at(rest, bank, corners, weights)
    down = np.stack(
        [
            np.where(mouth, np.sign(at[:, 0]) * 0.9, 0.15 * np.sign(at[:, 0])),
            np.where(mouth, -0.35, -1.0),
            np.full(len(at), 0.1),
        ],
        axis=1,
    )
    down += rng.normal(0, 0.22, down.shape)
    t = np.linspace(0, 1, 4)[None, :, None]
    points = length[:, None, None] * (0.55 * t * normal[:, None] + t * t * down[:, None] + 0.3 * t * down[:, None])
    if longest < 0.02:
        points += 0.0015 * np.sin(9 * t + rng.uniform(0, 6.3, (len(at), 1, 3))) * t
    tint = tinted(rng, colour, np.arange(len(at)), 0.25)
    cover = 0.5 * (1 - t[..., 0]) + 0.2
    return [
        make_strands(
            points,
            width=0.00045 if kind == "stubble" else 0.0008,
            look=(tint, 0.25),
            covered=np.broadcast_to(cover, (len(at), 4)),
            bound=_bound(corners, weights, 4),
        )
    ]
