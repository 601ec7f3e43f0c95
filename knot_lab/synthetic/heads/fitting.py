"""A person while their clothes are being chosen, and the cloth.

Shapes: N body vertices.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .head_bank import HeadBank
from .head_hull import HeadHull
from .meshes import Material, Wardrobe
from .shapes import Person

BARE = 10.0  # m: no hat sits as high


@dataclass(kw_only=True)
class Fitting:
    """Somebody before the mirror; every piece of clothing adds its meshes and what it hides."""

    rng: np.random.Generator
    bank: HeadBank
    rest: np.ndarray  # float32 [N, 3]: the body
    hull: HeadHull
    person: Person
    tone: np.ndarray  # [3]: of the skin
    wardrobe: Wardrobe = field(default_factory=Wardrobe)
    kinds: dict[str, str] = field(default_factory=dict)  # piece -> which one, in words
    hat_above: float = BARE  # template height above which no hair shows, m
    hair_hidden: bool = False
    lens: tuple[np.ndarray, np.ndarray, int] | None = None  # triangles, look [5], the number of their mesh

    def point(self, name: str) -> np.ndarray:
        """A landmark of the body at rest, [3]."""
        return self.rest[self.bank.landmarks[name]].mean(axis=0)


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Linear [3]: whites, blacks, greys, blues, and any colour."""
    kind = rng.random()
    if kind < 0.2:
        return np.full(3, rng.uniform(0.4, 0.8)) * np.exp(rng.normal(0, 0.05, 3))
    if kind < 0.45:
        return np.full(3, rng.uniform(0.008, 0.05)) * np.exp(rng.normal(0, 0.15, 3))
    if kind < 0.6:
        return np.array([0.03, 0.055, 0.13]) * np.exp(rng.normal(0, 0.4, 3))
    return np.clip(rng.dirichlet([0.9, 0.9, 0.9]) * rng.uniform(0.1, 1.1) + 0.02, 0.01, 0.75)


def sample_cloth(rng: np.random.Generator) -> Material:
    """Plain as a rule."""
    pattern = int(rng.choice([0, 1, 2, 3, 4, 5, 6, 7], p=[0.5, 0.09, 0.05, 0.1, 0.05, 0.06, 0.09, 0.06]))
    scale = {
        1: rng.uniform(25, 90),
        2: rng.uniform(30, 120),
        3: rng.uniform(20, 70),
        4: rng.uniform(30, 90),
        5: 1.0,
        6: rng.uniform(150, 320),
        7: 600.0,
    }.get(pattern, 1.0)
    colour = cloth_colour(rng)
    second = cloth_colour(rng) if pattern < 6 else colour * rng.uniform(0.4, 0.8)
    return Material(
        colour=colour,
        second=second,
        pattern=pattern,
        scale=scale,
        gloss=rng.uniform(0.02, 0.3),
        rough=rng.uniform(0.55, 0.9),
        wrap=rng.uniform(0.05, 0.3),
        relief=rng.uniform(0.1, 1.0),
    )
