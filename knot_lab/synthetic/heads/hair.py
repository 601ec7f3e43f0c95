"""Hair of the head: strands that leave their roots as they are combed, fall, and lie on head and shoulders.

Shapes: H strands of P points each, N vertices.
"""

from __future__ import annotations

import numpy as np

from .fitting import Fitting
from .hair_styles import Style, hairline
from .head_bank import HeadBank
from .head_hull import HeadHull
from .strands import Strands, make_strands, tinted

_POINTS = 11


def grow_hair(f: Fitting, style: Style, colour: np.ndarray) -> list[Strands]:
    """The hair of the head in a colour [3]; none where a hat sits."""
    rng, bank, rest, hull = f.rng, f.bank, f.rest, f.hull
    corners, weights = bank.roots
    at = (bank.template[corners] * weights[..., None]).sum(axis=1)
    azimuth = np.arctan2(at[:, 0], at[:, 2] - 0.02)
    ears = (bank.ears[corners] * weights).sum(axis=1)
    ragged = hairline(azimuth, style) + rng.normal(0, 0.003, len(at))
    bald_top = (style.bald > 1.2) & (at[:, 1] > 0.80)
    grown = (at[:, 1] > ragged) & (ears < 0.3) & (at[:, 1] < f.hat_above) & ~bald_top
    chosen = np.flatnonzero(grown)[: style.count]
    if len(chosen) < 50:
        return []
    at, corners, weights = at[chosen], corners[chosen], weights[chosen]
    roots = (rest[corners] * weights[..., None]).sum(axis=1).astype(np.float32)
    outward = roots - hull.middle
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    lengths, fringed = _lengths(rng, at, style)
    locks, guides = _locks(rng, roots, style.locks)
    points = _grow(f, (roots, outward, at), (lengths, fringed, locks), style)
    points = _clumped(points, locks, guides, style.clump)
    points = _waved(rng, points, locks, lengths, style)
    tight = rng.uniform(0.15, 1, len(points))[:, None] * np.linspace(0.2, 1, _POINTS) ** 0.5
    points[:, 1:] = hull.outside(points, 0.3 * style.volume * tight)[:, 1:]
    points = _off_the_face(points, bank, rest)
    skin = _hangs(points)
    depth = (1 - np.linspace(0, 1, _POINTS)) * 0.55 + 0.35 * (1 - tight)
    colours = tinted(rng, colour, locks, 0.16)
    parts = [make_strands(points, width=style.width, look=(colours, rng.uniform(0.3, 1.0)), covered=depth, skin=skin)]
    if style.gathered:
        parts += _knot(rng, hull, colours)
    return parts


def _lengths(rng: np.random.Generator, at: np.ndarray, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Each strand's length [H], and whether it falls over the forehead [H]; by the place [H, 3] on the template."""
    azimuth = np.abs(np.arctan2(at[:, 0], at[:, 2] - 0.02))
    on_top = np.clip((at[:, 1] - 0.785) / 0.035, 0, 1)
    behind = np.clip((azimuth - 1.7) / 0.5, 0, 1) * (1 - on_top)
    lengths = style.top * on_top + (1 - on_top) * (style.sides * (1 - behind) + style.back * behind)
    fringed = (style.fringe > 0) & (at[:, 2] > 0.045) & (azimuth < 0.95)
    lengths = np.where(fringed & (style.fringe > 0), style.fringe * 1.25, lengths)
    return lengths * rng.uniform(0.82, 1.05, len(at)), fringed


def _locks(rng: np.random.Generator, roots: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each root [H, 3] the number of its lock [H], and the strand that leads each lock."""
    guides = rng.choice(len(roots), min(count, len(roots)), replace=False)
    flat = roots.astype(np.float32)
    distance = (flat**2).sum(1)[:, None] - 2 * flat @ flat[guides].T + (flat[guides] ** 2).sum(1)[None]
    return distance.argmin(axis=1), guides


def _grow(
    f: Fitting,
    where: tuple[np.ndarray, np.ndarray, np.ndarray],
    strands: tuple[np.ndarray, np.ndarray, np.ndarray],
    style: Style,
) -> np.ndarray:
    """Points [H, P, 3]: each step follows the comb along the head, then gravity, and stays outside the head."""
    rng, hull = f.rng, f.hull
    roots, outward, at = where
    lengths, fringed, locks = strands
    lengths = lengths.astype(np.float32)
    count = len(roots)
    wanted = _combed(rng, at, fringed, style)
    wanted += 0.16 * rng.normal(0, 1, (locks.max() + 1, 3))[locks] + 0.05 * rng.normal(0, 1, (count, 3))
    if style.gathered:
        target = hull.middle + np.array([0, 0.03, -0.13])
        wanted = np.where(fringed[:, None], wanted, target - roots)
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True) + 1e-9
    layer = rng.uniform(0.15, 1.0, count) * style.volume
    step = (lengths / (_POINTS - 1))[:, None]
    direction = outward * style.lift + wanted
    points = np.empty((count, _POINTS, 3), np.float32)
    wanted, layer, step, direction = (x.astype(np.float32) for x in (wanted, layer, step, direction))
    points[:, 0] = roots - 0.001 * outward
    for k in range(1, _POINTS):
        direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
        moved = points[:, k - 1] + step * direction
        ramp = min(1.0, k / 3)
        points[:, k] = hull.outside(moved, layer * ramp)
        direction = points[:, k] - points[:, k - 1]
        direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
        # the comb loses its hold, and the weight of what hangs gains it, along the strand's length
        run = lengths * k / (_POINTS - 1)
        follow = 0.6 * np.exp(-run / 0.05).astype(np.float32) if not style.gathered else np.ones(count, np.float32)
        direction = direction + follow[:, None] * wanted
        direction[:, 1] -= style.gravity * (0.15 + 1.6 * (1 - np.exp(-run / 0.06)))
        if style.gathered:
            near = np.linalg.norm(points[:, k] - target, axis=1) < 0.03
            points[near & ~fringed, k] = points[near & ~fringed, k - 1]
    return points


def _combed(rng: np.random.Generator, at: np.ndarray, fringed: np.ndarray, style: Style) -> np.ndarray:
    """The direction [H, 3] in which hair is combed at each place [H, 3] of the template."""
    side = np.where(at[:, 0] > style.part, 1.0, -1.0)
    on_top = np.clip((at[:, 1] - 0.785) / 0.03, 0, 1)[:, None]
    above = np.stack([side * style.comb[0], np.full(len(at), style.comb[1]), np.full(len(at), style.comb[2])], axis=1)
    along = np.stack(
        [0.05 * np.sign(at[:, 0]), np.full(len(at), -0.8), np.where(at[:, 2] > -0.02, -0.35, -0.1)], axis=1
    )
    combed = above * on_top + along * (1 - on_top)
    sweep = rng.uniform(-0.4, 0.4)
    over = np.stack([np.full(len(at), sweep) + 2.0 * at[:, 0], np.full(len(at), -0.4), np.full(len(at), 1.0)], axis=1)
    return np.where(fringed[:, None], over, combed)


def _clumped(points: np.ndarray, locks: np.ndarray, guides: np.ndarray, amount: float) -> np.ndarray:
    """Strands [H, P, 3] drawn to the one that leads their lock, more towards the tips."""
    lead = points[guides][locks]
    share = (amount * np.linspace(0, 1, _POINTS)[None, :, None] ** 0.8).astype(np.float32)
    return points + share * (lead - points) * 0.85


def _waved(
    rng: np.random.Generator, points: np.ndarray, locks: np.ndarray, lengths: np.ndarray, style: Style
) -> np.ndarray:
    if style.wave < 1e-4:
        return points
    phase = rng.uniform(0, 2 * np.pi, locks.max() + 1)[locks] + rng.normal(0, 0.25, len(points))
    speed = style.turns * rng.uniform(0.8, 1.2, locks.max() + 1)[locks] * 2 * np.pi
    t = np.linspace(0, 1, _POINTS)
    angle = phase[:, None] + speed[:, None] * t
    swing = style.wave * np.minimum(1, t * 3) * np.minimum(1, lengths / 0.04)[:, None]
    along = np.gradient(points, axis=1)
    along /= np.linalg.norm(along, axis=2, keepdims=True) + 1e-9
    first = np.cross(along, (0.3, 0.2, 0.93))
    first /= np.linalg.norm(first, axis=2, keepdims=True) + 1e-9
    second = np.cross(along, first)
    return points + swing[..., None] * (np.cos(angle)[..., None] * first + np.sin(angle)[..., None] * second)


def _hangs(points: np.ndarray) -> np.ndarray:
    """Weights [H, P, 2] of hair: with the head above the chin, less and less below, where it lies on the shoulders."""
    head = np.clip((points[..., 1] - 0.545) / 0.10, 0, 1)
    return np.stack([head, 0.6 * (1 - head)], axis=-1)


def _off_the_face(points: np.ndarray, bank: HeadBank, rest: np.ndarray) -> np.ndarray:
    """Strands [H, P, 3] whose ends would cover eyes, nose or mouth, swept to the side they are on."""
    eyes = rest[bank.landmarks["right_pupil"]].mean(axis=0)
    x, y, z = np.moveaxis(points, 2, 0)
    below = np.clip((eyes[1] + 0.022 - y) / 0.02, 0, 1) * np.clip((y - eyes[1] + 0.16) / 0.03, 0, 1) * (z > 0.0)
    least = below * 0.066
    swept = np.where(np.abs(x) < least, np.where(x.mean(axis=1, keepdims=True) > 0, least, -least), x)
    moved = np.abs(swept - x)
    swept[moved.max(axis=1) > 0.018] = -1.0  # a kink: the strand is taken away, far to the side
    return np.stack([swept, y, z - 0.5 * moved], axis=2)


def _knot(rng: np.random.Generator, hull: HeadHull, colours: np.ndarray) -> list[Strands]:
    """A bun, or a tail that hangs behind."""
    centre = hull.middle + np.array([0, rng.uniform(-0.02, 0.10), -0.125])
    if centre[1] > hull.middle[1] + 0.06:
        centre = centre + np.array([0, 0.03, 0.06])
    count, t = 700, np.linspace(0, 1, _POINTS)
    if rng.random() < 0.55:
        size = rng.uniform(0.022, 0.04)
        axis, angle = rng.normal(0, 1, (count, 3)), rng.uniform(0, 2 * np.pi, count)
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        first = np.cross(axis, rng.normal(0, 1, (count, 3)))
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        turn = angle[:, None] + t[None] * 3.5
        points = centre + size * (
            np.cos(turn)[..., None] * first[:, None] + np.sin(turn)[..., None] * np.cross(axis, first)[:, None]
        )
    else:
        way = np.array([rng.normal(0, 0.03), -1.0, -0.25])
        spread = rng.normal(0, 0.016, (count, 1, 3)) * np.sin(np.pi * np.clip(t, 0.12, 0.9))[None, :, None]
        points = centre + way * (t * rng.uniform(0.1, 0.25))[None, :, None] + spread
    tint = colours[rng.integers(len(colours), size=count)]
    skin = np.broadcast_to(np.array([1.0, 0.0]), (count, _POINTS, 2))
    return [make_strands(points, width=0.0014, look=(tint, 0.6), covered=np.full((count, _POINTS), 0.25), skin=skin)]
