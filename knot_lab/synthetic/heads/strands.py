"""Hair as strands: what one is, and many of them as one.

Shapes: H strands of P points each (so Q = H P in all), N vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Strands:
    """Strands one after the other. A point with ``corners`` of -1 is at rest where ``offsets`` say."""

    starts: np.ndarray  # int32 [H + 1]
    offsets: np.ndarray  # float32 [Q, 3]: at rest, or from the point of the skin it is bound to
    corners: np.ndarray  # int32 [Q, 3]: vertices that it is bound to
    weights: np.ndarray  # float32 [Q, 3]: barycentric
    skin: np.ndarray  # float32 [Q, 2]: of those that are not bound
    widths: np.ndarray  # float32 [H], m
    colours: np.ndarray  # float32 [H, 3], linear
    shine: np.ndarray  # float32 [H]
    covered: np.ndarray  # float32 [Q]: 0 on top .. 1 deep below


def joined(parts: Sequence[Strands]) -> Strands:
    """All of them as one."""
    shifts = np.cumsum([0, *(len(part.offsets) for part in parts)])
    starts = np.concatenate(
        [part.starts[:-1] + shift for part, shift in zip(parts, shifts[:-1], strict=True)] + [shifts[-1:]]
    )
    rest = {
        name: np.ascontiguousarray(np.concatenate([getattr(part, name) for part in parts]))
        for name in Strands.__dataclass_fields__
        if name != "starts"
    }
    return Strands(starts=starts.astype(np.int32), **rest)


def make_strands(
    points: np.ndarray,
    *,
    width: np.ndarray | float,
    look: tuple[np.ndarray, float],
    covered: np.ndarray,
    bound: tuple[np.ndarray, np.ndarray] | None = None,
    skin: np.ndarray | None = None,
) -> Strands:
    """From points [H, P, 3] with as many points each; ``look``: colours [H, 3] and how they shine.

    ``bound``: corners [H, P, 3] and weights [H, P, 3].
    """
    count, length = points.shape[:2]
    corners, weights = bound or (np.full((count, length, 3), -1), np.zeros((count, length, 3)))
    skin = np.zeros((count, length, 2)) if skin is None else skin
    flat = lambda x, kind: np.ascontiguousarray(x.reshape(count * length, -1), kind)  # noqa: E731
    return Strands(
        starts=np.arange(0, count * length + 1, length, dtype=np.int32),
        offsets=flat(points, np.float32),
        corners=flat(corners, np.int32),
        weights=flat(weights, np.float32),
        skin=flat(skin, np.float32),
        widths=np.broadcast_to(np.asarray(width, np.float32), (count,)).copy(),
        colours=np.ascontiguousarray(look[0], np.float32),
        shine=np.full(count, look[1], np.float32),
        covered=np.ascontiguousarray(np.broadcast_to(covered, (count, length)).ravel(), np.float32),
    )


def tinted(rng: np.random.Generator, colour: np.ndarray, groups: np.ndarray, spread: float) -> np.ndarray:
    """Colours [H, 3] about one [3]: by lock (``groups`` [H]) and by strand."""
    of_lock = np.exp(rng.normal(0, spread, groups.max() + 1))[groups]
    return colour * (of_lock * np.exp(rng.normal(0, 0.6 * spread, len(groups))))[:, None]
