"""Pictures of rendered people whose key points are known: what the landmark network is trained on."""

from __future__ import annotations

import numpy as np

from knot_core.driving.face_units import UNITS

from .head_bank import HeadBank
from .identity import HeadIdentity
from .render import render

_PICTURES = 10  # of one person
_MOVING = 0.12  # share of the face units that are not at rest
_SPREAD = (0.28, 0.13, 0.1)  # of yaw, pitch and roll, rad
_SMILES = 0.6  # share of pictures, as of photos, in which the corners of the mouth go up


def landmark_pictures(bank: HeadBank, number: int, split: str = "train") -> dict[str, np.ndarray]:
    """Ten poses of one person: pictures uint8 [10, 256, 256, 3], points float32 [10, L, 2], their names."""
    rng = np.random.default_rng([number, {"train": 0, "eval": 1}[split], 70])
    identity, drawn = HeadIdentity.sample(bank, rng), []
    for _ in range(_PICTURES):
        moving = rng.random(52) < _MOVING
        units = np.where(moving, rng.random(52) ** 1.5, 0).astype(np.float32)
        if rng.random() < _SMILES:
            _smile(units, rng)
        pose = np.array([*rng.normal(0, _SPREAD), 0, 0, 1], np.float32)
        drawn.append(render(identity, units, pose, labels=False, rng=rng))
    return {
        "pictures": np.stack([one.picture for one in drawn]),
        "points": np.stack([one.landmarks for one in drawn]),
        "names": np.array(list(bank.landmarks)),
    }


def _smile(units: np.ndarray, rng: np.random.Generator) -> None:
    """Corners up, lips apart in half of them, no frown; both sides nearly alike; in place."""
    much, apart = rng.uniform(0.25, 1.0), rng.random() < 0.5
    for name, size in (("mouthSmile", much), ("mouthFrown", 0), ("cheekSquint", 0.6 * much),
                       ("mouthUpperUp", 0.6 * much * apart), ("mouthLowerDown", 0.4 * much * apart)):  # fmt: skip
        for side in ("Left", "Right"):
            units[UNITS.index(name + side)] = min(1.0, size * rng.uniform(0.85, 1.15))
