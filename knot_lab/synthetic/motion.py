"""Random head motion for training and evaluation: the eight controls of a person who talks or listens.

Head, gaze and brows move from rest to rest at random times (minimum-jerk moves, so nothing jumps), the head sways
beneath; the eyes blink. Without speech to follow, the mouth speaks random syllables through the same lips.

Shapes: T pixel frames at 25 a second, E events.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from knot_core.driving.audio import FPS
from knot_core.driving.expression_controls import CONTROLS
from knot_core.errors import DrivingError

from .espeak import Phoneme
from .sentences import SPLITS
from .visemes import mouth_curve

_WARM_UP = 4.0  # s lived before the first pixel frame: a clip may begin in the middle of anything
_REACH = 0.85  # of yaw, pitch, roll, brow: moderate poses, whose every pixel the renderer draws well

_VOWELS = tuple("aeiouyœəɛɔʌ")
_CONSONANTS = tuple("ptkbdgmnfvszlwʃjh")

CONTROL_LOW = np.array([-0.85, -0.8, -0.8, 0.0, -0.9, 0.0, -0.8, -0.8], dtype=np.float32)
CONTROL_HIGH = np.array([0.85, 0.8, 0.8, 1.0, 0.9, 1.0, 0.8, 1.0], dtype=np.float32)


def sample_controls(
    seed: int, num_pixel_frames: int, mouth: np.ndarray | None = None, split: str = "train"
) -> np.ndarray:
    """Controls float32 [T, 8] in the order of ``CONTROLS``, from a seed; ``mouth`` [T, 2] if speech gives it."""
    if split not in SPLITS:
        raise DrivingError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS[split], 27182, seed])
    time = np.arange(num_pixel_frames) / FPS
    lips = random_mouth(rng, num_pixel_frames) if mouth is None else np.asarray(mouth)
    tracks = {
        **_head(rng, time),
        "blink": _blinks(rng, time),
        "gaze": _gaze(rng, time),
        "brow": _brow(rng, time),
        "mouth_open": lips[:, 0],
        "mouth_wide": lips[:, 1],
    }
    return np.stack([tracks[name] for name in CONTROLS], axis=1).astype(np.float32)


def random_mouth(rng: np.random.Generator, num_pixel_frames: int) -> np.ndarray:
    """Lips that speak random syllables with pauses between the phrases: [T, 2], mouth_open and mouth_wide."""
    end = num_pixel_frames / FPS
    phonemes, now = [], -rng.uniform(0, 2)
    while now < end:
        for _ in range(rng.integers(2, 14)):
            for letters, shortest, longest in ((_CONSONANTS, 0.05, 0.12), (_VOWELS, 0.07, 0.20)):
                phonemes.append(Phoneme(now, letters[rng.integers(len(letters))]))
                now += rng.uniform(shortest, longest)
        phonemes.append(Phoneme(now, ""))
        now += rng.uniform(0.2, 1.5)
    before = max((i for i, phoneme in enumerate(phonemes) if phoneme.start <= 0), default=0)
    return mouth_curve(phonemes[before:], num_pixel_frames)


def _head(rng: np.random.Generator, time: np.ndarray) -> dict[str, np.ndarray]:
    """Yaw, pitch and roll: turns to a new pose every second or two, one in six of them quick, and a slow sway."""
    begins = _events(rng, time, shortest=0.4, mean=1.5)
    seconds = np.where(
        rng.random(len(begins)) < 1 / 6, rng.uniform(0.28, 0.4, len(begins)), rng.uniform(0.5, 1.3, len(begins))
    )
    spread = rng.uniform(0.3, 1.0)  # some people hardly move
    poses = rng.standard_normal((3, len(begins))) * np.array([[0.42], [0.32], [0.28]]) * spread
    poses[2] += 0.25 * poses[0]  # who turns, leans a little
    moved = {}
    for name, targets in zip(("yaw", "pitch", "roll"), poses, strict=True):
        track = _moves(time, begins, seconds, targets) + 0.06 * _sway(rng, time)
        moved[name] = _REACH * np.tanh(track / _REACH)
    return moved


def _blinks(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """A blink every few seconds: 0.1 s to close, a moment shut, 0.15 s to open; one in twelve stays shut for longer."""
    begins = _events(rng, time, shortest=0.6, mean=2.8)
    shut = np.where(
        rng.random(len(begins)) < 1 / 12, rng.uniform(0.2, 0.5, len(begins)), rng.uniform(0.03, 0.07, len(begins))
    )
    since = time[None] - begins[:, None]  # [E, T]
    closing, opening = np.clip(since / 0.10, 0, 1), np.clip((since - 0.10 - shut[:, None]) / 0.15, 0, 1)
    return (_smooth(closing) - _smooth(opening)).max(axis=0, initial=0.0)


def _gaze(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Saccades of two to three pixel frames, then the eyes rest; every other one goes back to the viewer."""
    begins = _events(rng, time, shortest=0.25, mean=1.3)
    aside = np.clip(rng.normal(0, 0.5, len(begins)), -0.9, 0.9) * (rng.random(len(begins)) < 0.5)
    return np.clip(_moves(time, begins, np.full(len(begins), 0.10), aside + rng.normal(0, 0.04, len(begins))), -1, 1)


def _brow(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Mostly at rest; now and then raised, more seldom lowered."""
    begins = _events(rng, time, shortest=0.5, mean=1.8)
    count, kind = len(begins), rng.random(len(begins))
    targets = np.select(
        [kind < 0.3, kind < 0.45],
        [rng.uniform(0.4, 1.0, count), rng.uniform(-0.7, -0.3, count)],
        rng.normal(0, 0.1, count),
    )
    return np.clip(_moves(time, begins, rng.uniform(0.15, 0.4, count), targets), -_REACH, 1.0)


def _events(rng: np.random.Generator, time: np.ndarray, shortest: float, mean: float) -> np.ndarray:
    """Random times [E] from the warm-up to the end: gaps of at least ``shortest`` s, ``mean`` s on average."""
    span = _WARM_UP + (time[-1] if len(time) else 0.0)
    gaps = shortest + rng.exponential(mean - shortest, int(span / shortest) + 1)
    begins = np.cumsum(gaps) - _WARM_UP
    return begins[: np.searchsorted(begins, span - _WARM_UP)]


def _moves(time: np.ndarray, begins: np.ndarray, seconds: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rest at 0, then from one target to the next, each move beginning and lasting as said: [T]."""
    steps = np.diff(targets, prepend=0.0)
    progress = _smooth(np.clip((time[None] - begins[:, None]) / seconds[:, None], 0, 1))
    return steps @ progress


def _smooth(t: np.ndarray) -> np.ndarray:
    """Minimum jerk from 0 to 1 (Flash and Hogan, 1985): 10 t^3 - 15 t^4 + 6 t^5."""
    return t * t * t * (10 + t * (6 * t - 15))


def _sway(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Slow sines of random phase, about 0.15 to 1 Hz, within -1 .. 1."""
    hertz, phase = rng.uniform(0.15, 1.0, (3, 1)), rng.uniform(0, 2 * np.pi, (3, 1))
    return np.sin(2 * np.pi * hertz * time[None] + phase).mean(axis=0)


def lively_controls(rng: np.random.Generator, clips: int, frames: int) -> Tensor:
    """Controls [clips, frames, 8] that cover the whole range fast: every control glides between random values."""
    knots = rng.uniform(CONTROL_LOW, CONTROL_HIGH, (clips, 3, 8)).astype(np.float32)
    knots[..., 3] *= rng.random((clips, 3)) < 0.5
    knots[..., 5] *= rng.random((clips, 3)) < 0.7
    time = np.linspace(0, 1, frames, dtype=np.float32)[None, :, None] * rng.uniform(0.0, 1.9, (clips, 1, 8)).astype(
        np.float32
    )
    left, t = np.minimum(time.astype(int), 1), time - np.minimum(time.astype(int), 1)
    t = t * t * (3 - 2 * t)
    clip, control = np.arange(clips)[:, None, None], np.arange(8)[None, None]
    glide = knots[clip, left, control] * (1 - t) + knots[clip, left + 1, control] * t
    return torch.from_numpy(glide.astype(np.float32))
