"""Clips of rendered heads: who, how they move, what they say.

Shapes: T pixel frames at 25 a second, P = 256 pixels, F = 128 labels a side, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from knot_core.driving.audio import FPS, MEL_DIM, SILENCE, log_mel
from knot_core.driving.expression_controls import CONTROLS
from knot_core.driving.face_units import UNITS, pose_from_controls, units_from_controls

from ..motion import sample_controls
from ..sentences import Speech, speak_phrases
from .face_speech import speech_units
from .head_bank import HeadBank
from .identity import HeadIdentity
from .render import Rendered, reference_of, render

SPEAKING, LIVELY = 0.6, 0.45  # shares: of all clips; of the others, those in which every unit moves, and fast
_CLIPS_A_SPEECH = 6  # neighbouring clips share one recording: starting a voice costs more than letting it talk
_CAUGHT = 0.25  # share of references caught in the middle of something: photos of people who laugh, speak, blink
_BLINKING = 0.5  # share of the clips that get a blink more: one of 17 frames would show the eyes shut once in six times
_FARTHEST_YAW = 0.75  # rad, in lively clips


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip before it is drawn. ``placement`` is what moves the person in the picture: x and y in pixels, zoom."""

    identity: HeadIdentity
    units: np.ndarray  # float32 [T, 52]
    pose: np.ndarray  # float32 [T, 3]: yaw, pitch, roll, rad
    placement: np.ndarray  # float32 [T, 3]
    mel: np.ndarray  # float32 [T, 64]
    speaking: bool  # whether the sound belongs to the mouth


def sample_clip(bank: HeadBank, seed: int, num_pixel_frames: int = 17, split: str = "train") -> Clip:
    """A person and their motion; a pure function of the seed and the split."""
    rng = np.random.default_rng([seed, 0 if split == "train" else 1, 50])
    identity = HeadIdentity.sample(bank, rng)
    if rng.random() < _CAUGHT:
        identity = identity.with_reference(*_caught(rng))
    speaking = rng.random() < SPEAKING
    mel = np.full((num_pixel_frames, MEL_DIM), SILENCE, np.float32)
    if speaking:
        units, mel = _spoken(rng, seed, num_pixel_frames, split)
    elif rng.random() < LIVELY:
        units, pose = lively(rng, num_pixel_frames)
        return Clip(
            identity=identity, units=units, pose=pose, placement=_placed(rng, num_pixel_frames), mel=mel, speaking=False
        )
    else:
        units = np.zeros((num_pixel_frames, len(UNITS)), np.float32)
    idle, pose = idle_motion(rng, num_pixel_frames, split)
    units = np.clip(_uneven(rng, units) + idle, 0, 1)
    if split == "train" and rng.random() < _BLINKING:
        units = np.maximum(units, _blink(rng, num_pixel_frames)[:, None] * unit_values({"eyeBlink": 1.0}))
    return Clip(
        identity=identity, units=units, pose=pose, placement=_placed(rng, num_pixel_frames), mel=mel, speaking=speaking
    )


def draw_clip(clip: Clip, seed: int) -> tuple[Rendered, list[Rendered]]:
    """The reference and all frames, with the camera's noise."""
    rng = np.random.default_rng([seed, 51])
    rows = np.concatenate([clip.pose, clip.placement], axis=1)
    frames = [render(clip.identity, units, pose, rng=rng) for units, pose in zip(clip.units, rows, strict=True)]
    return reference_of(clip.identity, rng), frames


def packed(clip: Clip, reference: Rendered, frames: list[Rendered]) -> dict[str, np.ndarray]:
    """A drawn clip as it is stored: what trainers read, by name.

    ``frames`` uint8 [T, P, P, 3], ``reference`` uint8 [P, P, 3]; ``flow`` float16 [T, F, F, 2] and ``visible`` bool
    [T, F, F] (see ``render``); ``face`` and ``background`` bool [T, F, F]; ``landmarks`` float32 [T, L, 2] and
    ``reference_landmarks`` [L, 2] in pixels; ``units`` [T, 52], ``pose`` [T, 3], ``placement`` [T, 3], ``mel``
    [T, 64]; ``reference_units`` [52], ``reference_pose`` [6]; ``flags`` bool [3]: speech, pose, mouth given.
    """
    stacked = {name: np.stack([getattr(frame, name) for frame in frames]) for name in ("visible", "landmarks")}
    halves = {name: np.stack([getattr(frame, name)[::2, ::2] for frame in frames]) for name in ("face", "background")}
    return {
        "frames": np.stack([frame.picture for frame in frames]),
        "reference": reference.picture,
        "flow": np.stack([frame.flow for frame in frames]).astype(np.float16),
        **stacked,
        **halves,
        "reference_landmarks": reference.landmarks,
        "reference_face": reference.face[::2, ::2],
        "units": clip.units,
        "pose": clip.pose,
        "placement": clip.placement,
        "mel": clip.mel,
        "reference_units": clip.identity.reference_units,
        "reference_pose": clip.identity.reference_pose,
        "flags": np.array([clip.speaking, True, True]),
    }


# ---- motion -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _speech(number: int, split: str, num_pixel_frames: int) -> tuple[Speech, np.ndarray, np.ndarray]:
    """A recording, its units and its mel features, for several clips."""
    total = _CLIPS_A_SPEECH * num_pixel_frames
    speech = speak_phrases(number, split, seconds=total / FPS + 0.2)
    features = log_mel(torch.from_numpy(speech.waveform)).numpy()
    return speech, speech_units(speech.phonemes, total), features


def _spoken(rng: np.random.Generator, seed: int, num_pixel_frames: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Units [T, 52] and mel [T, 64] of a piece of speech, by somebody who mumbles or articulates."""
    _, units, features = _speech(seed // _CLIPS_A_SPEECH, split, num_pixel_frames)
    start = (seed % _CLIPS_A_SPEECH) * num_pixel_frames
    piece = slice(start, start + num_pixel_frames)
    return units[piece] * rng.uniform(0.65, 1.25), features[piece].astype(np.float32)


def idle_motion(rng: np.random.Generator, num_pixel_frames: int, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Units [T, 52] of eyes, brows and mood, and the head's turns [T, 3] in rad."""
    silent = np.zeros((num_pixel_frames, 2), np.float32)
    controls = sample_controls(int(rng.integers(2**31)), num_pixel_frames, silent, split)
    controls[:, CONTROLS.index("gaze")] *= 0.6
    units = units_from_controls(controls)
    looks = _glide(rng, num_pixel_frames, 0.22, seconds=0.8)
    for side in ("Left", "Right"):
        units[:, UNITS.index(f"eyeLookUp{side}")] += np.maximum(looks, 0)
        units[:, UNITS.index(f"eyeLookDown{side}")] += np.maximum(-looks, 0)
    return np.clip(units + _mood(rng, num_pixel_frames), 0, 1), pose_from_controls(controls)


_MOODS = (
    {"mouthSmile": 0.5, "cheekSquint": 0.4, "eyeSquint": 0.25},
    {
        "mouthSmile": 0.8,
        "cheekSquint": 0.6,
        "eyeSquint": 0.4,
        "mouthUpperUp": 0.25,
        "jawOpen": 0.10,
        "mouthLowerDown": 0.2,
    },
    {"mouthFrown": 0.45, "browDown": 0.35, "mouthShrugLower": 0.3},
    {"browInnerUp": 0.6, "mouthFrown": 0.25},
    {"eyeWide": 0.5, "browOuterUp": 0.5, "browInnerUp": 0.5, "jawOpen": 0.12},
    {"browDown": 0.6, "noseSneer": 0.35, "mouthPress": 0.3},
    {"mouthPress": 0.35, "mouthDimple": 0.3},
    {"mouthPucker": 0.5, "cheekPuff": 0.3},
)


def unit_values(values: dict[str, float]) -> np.ndarray:
    """Units float32 [52] from names; one without its side sets both."""
    units = np.zeros(len(UNITS), np.float32)
    for name, value in values.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in UNITS:
                units[UNITS.index(full)] = value
    return units


def _mood(rng: np.random.Generator, num_pixel_frames: int) -> np.ndarray:
    """A feeling that comes and goes, or none: [T, 52]."""
    if rng.random() < 0.45:
        return np.zeros((num_pixel_frames, len(UNITS)), np.float32)
    feeling = unit_values(_MOODS[rng.integers(len(_MOODS))]) * rng.uniform(0.2, 1.0)
    strength = np.clip(rng.uniform(0.0, 0.8) + _glide(rng, num_pixel_frames, 0.5, seconds=1.0), 0, 1)
    return strength[:, None] * feeling


def _glide(rng: np.random.Generator, num_pixel_frames: int, spread: float, seconds: float) -> np.ndarray:
    """A smooth random curve [T]: a new target every ``seconds`` or so, normal with ``spread``."""
    count = int(num_pixel_frames / FPS / seconds) + 3
    knots = rng.normal(0, spread, count)
    at = rng.uniform(0, 1) + np.arange(num_pixel_frames) / FPS / seconds
    left, t = at.astype(int), at % 1
    t = t * t * t * (10 + t * (6 * t - 15))
    return knots[left] * (1 - t) + knots[left + 1] * t


def _blink(rng: np.random.Generator, num_pixel_frames: int) -> np.ndarray:
    """Both eyes shut at some time and open again, a tenth of a second each: float32 [T]."""
    away = np.abs(np.arange(num_pixel_frames) - rng.uniform(0, num_pixel_frames)) / FPS
    return np.clip(1 - (away - rng.uniform(0, 0.12)) / 0.1, 0, 1).astype(np.float32)


def _caught(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Units [52] and pose [6] of a reference that is not at rest."""
    units = unit_values(_MOODS[rng.integers(len(_MOODS))]) * rng.uniform(0.4, 1.0)
    units = units + unit_values({"jawOpen": rng.uniform(0, 0.35), "eyeBlink": rng.uniform(0, 0.4)})
    turns = rng.normal(0, (0.15, 0.09, 0.07))
    return np.clip(units, 0, 1), np.array([*turns, 0, 0, 1])


def _uneven(rng: np.random.Generator, units: np.ndarray) -> np.ndarray:
    """Nobody's face moves alike on both sides: units [T, 52] with the sides up to 15 % apart."""
    factor = np.ones(len(UNITS), np.float32)
    tilt = rng.normal(0, 0.08)
    for number, name in enumerate(UNITS):
        if name.startswith("mouth") and name.endswith(("Left", "Right")):
            factor[number] = 1 + (tilt if name.endswith("Left") else -tilt)
    return units * factor


_TOGETHER = (
    "eyeBlink",
    "eyeSquint",
    "eyeWide",
    "mouthSmile",
    "browDown",
    "browOuterUp",
    "mouthUpperUp",
    "mouthLowerDown",
)


def lively(rng: np.random.Generator, num_pixel_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Units [T, 52] and turns [T, 3] that cover their ranges fast: every one glides between random values."""
    frames = np.arange(num_pixel_frames)
    knots = rng.random((4, len(UNITS))) * (rng.random((4, len(UNITS))) < 0.22) * rng.uniform(0.4, 1.0)
    eyes = [number for number, name in enumerate(UNITS) if name.startswith("eyeLook")]
    knots[:, eyes] = 0
    for name in _TOGETHER:
        left, right = (UNITS.index(f"{name}{side}") for side in ("Left", "Right"))
        alike = rng.random(4) < 0.8
        knots[alike, right] = knots[alike, left]
    gaze = rng.normal(0, 0.4, (4, 2)).clip(-0.9, 0.9)
    for sign, sides in ((1, ("OutLeft", "InRight")), (-1, ("InLeft", "OutRight"))):
        for side in sides:
            knots[:, UNITS.index(f"eyeLook{side}")] = np.maximum(sign * gaze[:, 0], 0)
    for sign, way in ((1, "Up"), (-1, "Down")):
        for side in ("Left", "Right"):
            knots[:, UNITS.index(f"eyeLook{way}{side}")] = 0.6 * np.maximum(sign * gaze[:, 1], 0)
    knots[:, UNITS.index("jawOpen")] = rng.random(4) * (rng.random(4) < 0.6) * 0.9
    knots[:, UNITS.index("tongueOut")] *= rng.random() < 0.2
    knots[:, UNITS.index("mouthClose")] *= 0.5 * knots[:, UNITS.index("jawOpen")]  # closed lips over a closed jaw tear
    turns = rng.uniform(-1, 1, (4, 3)) * np.array([_FARTHEST_YAW, 0.40, 0.35]) * rng.uniform(0.2, 1)
    at = frames / max(1, num_pixel_frames - 1) * rng.uniform(0.8, 2.9)
    left, t = np.minimum(at.astype(int), 2), at - np.minimum(at.astype(int), 2)
    t = (t * t * (3 - 2 * t))[:, None]
    blend = lambda values: (values[left] * (1 - t) + values[left + 1] * t).astype(np.float32)  # noqa: E731
    return np.clip(blend(knots), 0, 1), blend(turns)


def _placed(rng: np.random.Generator, num_pixel_frames: int) -> np.ndarray:
    """Small drifts of the whole person, [T, 3]: pixels and zoom."""
    spread = rng.uniform(0, 3.0)
    drift = [_glide(rng, num_pixel_frames, spread, seconds=1.5) for _ in range(2)]
    zoom = 1 + 0.004 * _glide(rng, num_pixel_frames, spread, seconds=1.5)
    return np.stack([*drift, zoom], axis=1).astype(np.float32)
