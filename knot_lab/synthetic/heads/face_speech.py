"""From timed phonemes to ARKit's face units: jaw, lips, tongue, with coarticulation.

As ``visemes`` does for two values, for all units of the mouth: each letter of a phoneme's IPA name pulls towards its
units with a dominance, what pulls is smoothed, and p, b, m close the lips whatever their neighbours want.

Shapes: T pixel frames at 25 a second, K knots of the curve at 200 a second.
"""
# ruff: noqa: RUF001 - letters of the IPA

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knot_core.driving.audio import FPS
from knot_core.driving.face_units import UNITS

from ..espeak import Phoneme
from ..visemes import LIPS, RATE, closure, letter_spans, smooth

_SIGMA_JAW, _SIGMA_LIPS = 0.035, 0.050  # s: lips begin to round earlier than the jaw begins to move
# Units that a class of sounds adds to what its opening and width say.
_ADDED: dict[str, dict[str, float]] = {
    "pbm": {"mouthPress": 0.40, "mouthRollLower": 0.25, "mouthRollUpper": 0.20},
    "fvʋ": {"mouthRollLower": 0.50, "mouthUpperUp": 0.28, "jawOpen": 0.04},
    "szt dn": {"mouthLowerDown": 0.28, "mouthUpperUp": 0.16, "mouthStretch": 0.12},
    "ʃʒ": {"mouthFunnel": 0.50, "mouthUpperUp": 0.15, "mouthLowerDown": 0.20},
    "ɹɻ": {"mouthFunnel": 0.30},
    "θð": {"tongueOut": 0.22, "mouthLowerDown": 0.25},
    "lɫ": {"tongueOut": 0.08, "jawOpen": 0.05},
    "iɪeɛæ": {"mouthLowerDown": 0.22, "mouthUpperUp": 0.14},
    "aɐɑʌ": {"mouthLowerDown": 0.30, "mouthUpperUp": 0.12},
    "oɔuʊw": {"mouthShrugUpper": 0.06},
}
_PAIRED = ("mouthSmile", "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp")


def units_of_letter(letter: str) -> tuple[np.ndarray, float]:
    """Units float32 [52] that a letter pulls towards, and its dominance; a pause or an unknown letter pulls to rest."""
    opening, wide, dominance = LIPS.get(letter, (0.0, 0.0, 1.0) if not letter else (0.25, 0.0, 0.2))
    wanted = {
        "jawOpen": 0.58 * opening,
        "mouthStretch": 0.35 * max(wide, 0),
        "mouthSmile": 0.30 * max(wide, 0),
        "mouthDimple": 0.10 * max(wide, 0),
        "mouthPucker": (0.75 - 0.35 * opening) * max(-wide, 0),
        "mouthFunnel": (0.20 + 0.55 * opening) * max(-wide, 0),
    }
    for letters, added in _ADDED.items():
        if letter and letter in letters:
            for name, value in added.items():
                wanted[name] = wanted.get(name, 0.0) + value
    units = np.zeros(len(UNITS), np.float32)
    for name, value in wanted.items():
        for side in ("Left", "Right") if name in _PAIRED else ("",):
            units[UNITS.index(name + side)] = value
    return units, dominance


def speech_units(phonemes: Sequence[Phoneme], num_pixel_frames: int) -> np.ndarray:
    """Phonemes in order of time -> units float32 [T, 52] at pixel frames' centres; brows and eyes rest."""
    spans = letter_spans(phonemes, num_pixel_frames / FPS)
    time = (np.arange(num_pixel_frames * RATE // FPS) + 0.5) / RATE
    at = np.searchsorted([start for start, _, _ in spans], time, side="right") - 1
    pulls = [units_of_letter(letter) for _, _, letter in spans] + [units_of_letter("")]  # index -1: before the first
    targets = np.stack([units for units, _ in pulls])[at]  # [K, 52]
    dominance = np.array([weight for _, weight in pulls])[at]
    together = closure(spans, time)
    centres = (np.arange(num_pixel_frames) + 0.5) / FPS
    curves = np.zeros((num_pixel_frames, len(UNITS)), np.float32)
    for unit in np.flatnonzero(targets.any(axis=0)):
        name = UNITS[unit]
        curve = smooth(targets[:, unit], dominance, _SIGMA_JAW if name == "jawOpen" else _SIGMA_LIPS)
        if name in ("jawOpen", "mouthFunnel") or "LowerDown" in name or "UpperUp" in name or name == "tongueOut":
            curve = curve * (1 - together)
        curves[:, unit] = np.interp(centres, time, curve)
    return np.clip(curves, 0, 1)
