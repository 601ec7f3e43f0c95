"""Things held before the face: a hand, a microphone, a cup, a card.

Shapes: n points along a curve.
"""

from __future__ import annotations

import numpy as np

from .fitting import Fitting, sample_cloth
from .meshes import Material, ball, grid, rigid, tube


def hold(f: Fitting) -> None:
    """A hand, a microphone, a cup or a card, still or moving with the head."""
    kind = str(f.rng.choice(["hand", "microphone", "cup", "card"], p=[0.5, 0.2, 0.15, 0.15]))
    chin = f.rest[f.bank.landmarks["chin"]].mean(axis=0)
    where = chin + np.array(
        [
            f.rng.choice([-1, 1]) * f.rng.uniform(0.02, 0.09),
            f.rng.uniform(-0.06, 0.04),
            f.rng.uniform(0.035, 0.08),
        ]
    )
    follows = float(f.rng.random() < 0.4)
    if kind == "hand":
        skin = f.wardrobe.material(Material(colour=f.tone, gloss=0.5, rough=0.5, wrap=0.2, relief=0.15))
        for vertices, triangles in _hand(f.rng, where):
            f.wardrobe.meshes.append(rigid(vertices, triangles, skin, head=follows))
    elif kind == "microphone":
        dark = f.wardrobe.material(Material(colour=np.full(3, f.rng.uniform(0.02, 0.2)), gloss=1.0, rough=0.4))
        f.wardrobe.meshes.append(rigid(*ball(where, (0.02, 0.024, 0.02)), dark, head=0))
        handle = np.stack([where, where + np.array([f.rng.normal(0, 0.05), -0.2, 0.02])])
        f.wardrobe.meshes.append(rigid(*tube(handle, 0.011), dark, head=0))
    elif kind == "cup":
        cup = f.wardrobe.material(sample_cloth(f.rng))
        path = where + np.array([[0, 0.045, 0], [0, 0, 0], [0, -0.05, 0]])
        f.wardrobe.meshes.append(rigid(*tube(path, np.array([0.037, 0.035, 0.030]), sides=18), cup, head=follows))
    else:
        card = f.wardrobe.material(sample_cloth(f.rng))
        turn = f.rng.normal(0, 0.5, 2)
        wide, high = f.rng.uniform(0.02, 0.07), f.rng.uniform(0.03, 0.09)
        corners = np.array([[-wide, -high, 0], [wide, -high, 0], [-wide, high, 0], [wide, high, 0]])
        corners = where + corners @ np.array(
            [[np.cos(turn[0]), np.sin(turn[0]), 0.2], [-np.sin(turn[0]), np.cos(turn[0]), turn[1]], [0, 0, 1]]
        )
        f.wardrobe.meshes.append(rigid(corners, grid(2, 2, closed=False), card, head=follows))
    f.kinds["before"] = kind


def _hand(rng: np.random.Generator, where: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """A palm and five fingers as tubes, pointing up or aside."""
    lean = rng.uniform(-1.2, 1.2)
    up, aside = np.array([np.sin(lean), np.cos(lean), 0.1]), np.array([np.cos(lean), -np.sin(lean), 0.0])
    curl = rng.uniform(0, 0.9)
    parts = [ball(where, (0.036, 0.042, 0.014))]
    for number in range(5):
        thumb = number == 0
        base = (
            where + aside * (0.040 if thumb else 0.030 - 0.019 * (number - 1) * 1.05) + up * (-0.01 if thumb else 0.032)
        )
        way = up + aside * (0.9 if thumb else 0.10 * (2 - number) + rng.normal(0, 0.04))
        length = (0.05, 0.072, 0.080, 0.074, 0.058)[number]
        t = np.linspace(0, 1, 7)
        bend = np.stack([np.sin(curl * t * 1.6), 1 - np.cos(curl * t * 1.6)], axis=1) / max(curl * 1.6, 0.05)
        path = base + length * (t[:, None] * way * (1 - 0.3 * curl) + bend[:, 1:] * np.array([0, 0, -0.6]))
        radius = 0.0092 * (1 - 0.25 * t) * np.sqrt(np.clip(1.02 - t**6, 0.01, 1))
        parts.append(tube(path, radius, sides=9))
    arm = np.stack([where - up * 0.02, where - up * 0.2])
    parts.append(tube(arm, np.array([0.027, 0.035]), sides=10))
    return parts
