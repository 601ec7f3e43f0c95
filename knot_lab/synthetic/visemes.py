"""From timed phonemes to the lips: how far they open and how wide they are, pixel frame by pixel frame.

Each letter of a phoneme's IPA name pulls the lips towards a target for its share of the phoneme's time; vowels by
height and rounding, consonants by place. Coarticulation is a weighted smoothing (after Cohen and Massaro, 1993: targets
with a dominance), after which p, b and m still close the lips.

Shapes: T pixel frames at 25 a second, K knots of the curve at 200 a second.
"""
# ruff: noqa: RUF001 - letters of the IPA

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knot_core.driving.audio import FPS

from .espeak import Phoneme

# IPA letter: open (0..1), wide (-1 rounded .. 1 spread), dominance.
LIPS: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys("aɐ", (0.95, 0.20, 1.0)),
    "ɑ": (1.00, -0.10, 1.0),
    "ɒ": (0.85, -0.45, 1.0),
    "æ": (0.90, 0.45, 1.0),
    "ʌ": (0.70, 0.05, 0.9),
    "ɛ": (0.65, 0.45, 1.0),
    "e": (0.50, 0.65, 1.0),
    "i": (0.28, 0.95, 1.0),
    "ɪ": (0.35, 0.55, 0.9),
    "y": (0.22, -0.80, 1.0),
    "ʏ": (0.30, -0.60, 1.0),
    "ø": (0.42, -0.60, 1.0),
    "œ": (0.60, -0.40, 1.0),
    "u": (0.22, -1.00, 1.0),
    "ʊ": (0.30, -0.70, 0.9),
    "o": (0.48, -0.85, 1.0),
    "ɔ": (0.65, -0.65, 1.0),
    "ə": (0.38, 0.00, 0.6),
    "ɜ": (0.50, -0.05, 0.9),
    "ɚ": (0.40, -0.20, 0.8),
    **dict.fromkeys("ɨᵻ", (0.30, 0.35, 0.8)),
    "ʉ": (0.25, -0.70, 0.9),
    "ɵ": (0.42, -0.50, 0.9),
    **dict.fromkeys("pbm", (0.00, 0.00, 1.2)),
    **dict.fromkeys("fvʋβɸ", (0.08, 0.10, 1.3)),
    **dict.fromkeys("wʍ", (0.14, -1.00, 1.3)),
    "ɥ": (0.14, -0.85, 1.2),
    **dict.fromkeys("θð", (0.22, 0.10, 0.7)),
    **dict.fromkeys("tdnszlɾrɬɭ", (0.18, 0.20, 0.6)),
    **dict.fromkeys("ʃʒ", (0.20, -0.55, 1.0)),
    "ɹ": (0.24, -0.40, 0.7),
    **dict.fromkeys("ɲʎçʝj", (0.24, 0.45, 0.6)),
    **dict.fromkeys("kɡŋxɣqχʁ", (0.28, 0.05, 0.35)),
    **dict.fromkeys("hɦʔ", (0.30, 0.00, 0.1)),
}
_PAUSE = (0.0, 0.0, 1.0)
_UNKNOWN = (0.25, 0.0, 0.2)
_CLOSED = frozenset("pbm")

RATE = 200  # knots of a curve a second
_SIGMA_OPEN, _SIGMA_WIDE = 0.035, 0.055  # s: lips begin to round earlier than the jaw begins to move
_HOLD, _RAMP = 0.050, 0.045  # s: the shortest closure of p, b, m, and how long the lips take to meet and to part


def mouth_curve(phonemes: Sequence[Phoneme], num_pixel_frames: int) -> np.ndarray:
    """Phonemes in order of time -> float32 [T, 2]: mouth_open 0..1 and mouth_wide -1..1 at pixel frames' centres.

    The last phoneme lasts to the end; before the first the lips are closed.
    """
    num_knots = num_pixel_frames * RATE // FPS
    spans = letter_spans(phonemes, num_pixel_frames / FPS)
    time = (np.arange(num_knots) + 0.5) / RATE
    at = np.searchsorted([start for start, _, _ in spans], time, side="right") - 1
    closed_at_first = [_PAUSE]  # what index -1, before the first phoneme, finds
    targets = np.array([_target(letter) for _, _, letter in spans] + closed_at_first)[at]
    open_K = smooth(targets[:, 0], targets[:, 2], _SIGMA_OPEN)
    wide_K = smooth(targets[:, 1], targets[:, 2], _SIGMA_WIDE)
    open_K *= 1 - closure(spans, time)
    centres = (np.arange(num_pixel_frames) + 0.5) / FPS
    curves = [np.interp(centres, time, curve) for curve in (open_K, wide_K)]
    return np.stack(curves, axis=1).astype(np.float32)


def letter_spans(phonemes: Sequence[Phoneme], end: float) -> list[tuple[float, float, str]]:
    """(start, end, letter): diphthongs and affricates share their phoneme's time; a pause is the empty letter."""
    spans = []
    for phoneme, after in zip(phonemes, [*(p.start for p in phonemes[1:]), end], strict=True):
        letters = [letter for letter in phoneme.name if letter in LIPS] or ["?" if phoneme.name else ""]
        edges = np.linspace(phoneme.start, max(after, phoneme.start), len(letters) + 1)
        spans += [(edges[i], edges[i + 1], letter) for i, letter in enumerate(letters)]
    return spans


def _target(letter: str) -> tuple[float, float, float]:
    return LIPS.get(letter, _UNKNOWN) if letter else _PAUSE


def smooth(target: np.ndarray, dominance: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian average of the targets [K] about each knot, weighted by their dominance; ends repeat."""
    reach = round(3 * sigma * RATE)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (sigma * RATE)) ** 2)
    weighted, weight = (np.convolve(np.pad(x, reach, "edge"), kernel, "valid") for x in (target * dominance, dominance))
    return weighted / weight


def closure(spans: list[tuple[float, float, str]], time: np.ndarray) -> np.ndarray:
    """How far p, b and m press the lips together, [K]: 1 for at least a pixel frame, with soft shoulders."""
    closure = np.zeros_like(time)
    for start, end, letter in spans:
        if letter in _CLOSED:
            middle, half = (start + end) / 2, max(end - start, _HOLD) / 2
            first, last = np.searchsorted(time, (middle - half - _RAMP, middle + half + _RAMP))
            away = np.clip((np.abs(time[first:last] - middle) - half) / _RAMP, 0, 1)
            closure[first:last] = np.maximum(closure[first:last], 0.5 + 0.5 * np.cos(np.pi * away))
    return closure
