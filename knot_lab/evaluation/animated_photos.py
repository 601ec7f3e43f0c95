"""Photos that a model moves: by speech, and by controls that turn the head and shut the eyes, for the figures of both.

Shapes: S side of a picture, T pixel frames, N landmarks, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core import Audio, Driving, open_stream
from knot_core.codec.head_window import head_distance
from knot_core.codec.latent_matching import warp
from knot_core.driving.audio import FPS
from knot_core.driving.face_units import POSE, POSE_RADIANS
from knot_core.media.face_detectors import import_optional
from knot_core.media.face_mesh import find_mesh
from knot_core.model import Model

from ..synthetic.avatars import to_uint8
from ..synthetic.heads.head_bank import HeadBank
from ..synthetic.heads.identity import HeadIdentity
from ..synthetic.heads.render import render
from ..synthetic.sentences import Speech, speak_phrases
from . import photo_figures as formulas

TURNED = 0.15  # rad, of the photo whose embedding is the scale of identity
_WITHIN = 0.25  # rad of yaw within which controls are judged
_YAW_AT_1 = POSE_RADIANS[POSE.index("yaw")]  # rad
_BLINKS = 2.2  # seconds between them
_MEASURED_EVERY = 2  # frames, of embeddings

Embedder = Callable[[np.ndarray], np.ndarray | None]  # a picture uint8 [S, S, 3] -> [E], or None without a face


@dataclass(frozen=True, kw_only=True, eq=False)
class Animated:
    """A photo's two streams, uint8 [T, S, S, 3], and what they were told."""

    spoken: np.ndarray
    moved: np.ndarray
    mouth_T: np.ndarray
    controls: Mapping[str, np.ndarray]  # yaw, pitch and blink, each [T]


def animate_photo(model: Model, photo_13SS: Tensor, number: int, seconds: float) -> Animated:
    """Somebody of the split `eval` speaks; then the head turns and nods, and the eyes shut every two seconds."""
    anchor = model.encode_anchor(photo_13SS[0].movedim(0, -1))
    speech = speak_phrases(number, "eval", seconds)
    controls = exercises(round(seconds * FPS), number)
    return Animated(
        spoken=_streamed(model, anchor, _spoken(model, speech), number),
        moved=_streamed(model, anchor, Driving.from_controls(controls), number),
        mouth_T=speech.mouth[:, 0],
        controls={name: controls[name] for name in ("yaw", "pitch", "blink")},
    )


def exercises(num_frames: int, number: int) -> dict[str, np.ndarray]:
    """Controls of a head that turns within a quarter of a rad, nods, and blinks: name -> float32 [T]."""
    at = np.arange(num_frames) / FPS
    shift = number * 0.7
    phase = (at + 0.3 * number) % _BLINKS
    return {
        "yaw": (_WITHIN / _YAW_AT_1 * np.sin(2 * np.pi * at / 4.0 + shift)).astype(np.float32),
        "pitch": (0.6 * np.sin(2 * np.pi * at / 2.9 + shift)).astype(np.float32),
        "blink": np.clip(1 - np.abs(phase - 0.3) / 0.2, 0, 1).astype(np.float32),
        "mouth_open": np.zeros(num_frames, np.float32),
    }


def figures_of(animated: Animated, photo_13SS: Tensor, turned_13SS: Tensor, embed: Embedder | None) -> dict[str, float]:
    """The figures of `photo_figures.GOALS` that can be had here: landmarks need MediaPipe, identity an embedder."""
    found = {"background": max(formulas.background_change(one, away(one.shape[1]))
                               for one in (animated.spoken, animated.moved))}  # fmt: skip
    spoken, moved = (_meshes(one) for one in (animated.spoken, animated.moved))
    if spoken is not None and moved is not None:
        told = animated.controls
        within = np.abs(told["yaw"] * _YAW_AT_1) <= _WITHIN + 1e-6
        found |= {
            "mouth": formulas.correlation(formulas.mouth_opening(spoken), animated.mouth_T),
            "yaw": formulas.correlation(formulas.yaw(moved), told["yaw"], within),
            "pitch": formulas.correlation(formulas.pitch(moved), told["pitch"], within),
            "blink": formulas.correlation(formulas.blink(moved), told["blink"], within),
        }
    if embed is not None:
        found |= _identity(animated, photo_13SS, turned_13SS, embed)
    return found


def turned_photo(bank: HeadBank, photo_13SS: Tensor) -> Tensor:
    """The photo moved by the flow of a rendered head that turns by `TURNED`, [1, 3, S, S]."""
    identity = HeadIdentity.sample(bank, np.random.default_rng(0))
    pose = np.array(identity.reference_pose, np.float32)
    pose[0] += TURNED
    flow = torch.from_numpy(render(identity, identity.reference_units, pose).flow.copy()).float().movedim(-1, 0)[None]
    return warp(photo_13SS, fn.interpolate(flow, size=photo_13SS.shape[-2:], mode="bilinear"), 1)


def away(side: int) -> np.ndarray:
    """Bool [S, S]: what of an aligned picture lies away from the head."""
    return (head_distance(side, side) > 1).numpy()


def face_embedder() -> Embedder | None:
    """dlib's face recognition network (CC0), where `dlib-bin` and `face-recognition-models` are installed."""
    dlib, models = (import_optional(name) for name in ("dlib", "face_recognition_models"))
    if dlib is None or models is None:
        return None
    detect = dlib.get_frontal_face_detector()
    points = dlib.shape_predictor(models.pose_predictor_model_location())
    network = dlib.face_recognition_model_v1(models.face_recognition_model_location())

    def embed(picture: np.ndarray) -> np.ndarray | None:
        picture = np.ascontiguousarray(picture)  # dlib takes no other
        boxes = detect(picture, 1)
        return np.array(network.compute_face_descriptor(picture, points(picture, boxes[0]))) if boxes else None

    return embed


def as_pictures(pixels_N3SS: Tensor) -> np.ndarray:
    """[N, 3, S, S] in 0..1 -> uint8 [N, S, S, 3]."""
    return to_uint8(pixels_N3SS).numpy()


def _spoken(model: Model, speech: Speech) -> Driving:
    return Driving.from_audio(Audio(samples=speech.waveform, sample_rate=16000), model)


def _streamed(model: Model, anchor: object, driving: Driving, seed: int) -> np.ndarray:
    chunks = open_stream(model, anchor, model.settings, driving, seed=seed)
    return np.concatenate([np.asarray(chunk.pixel_frames) for chunk in chunks])


def _meshes(frames_TSS3: np.ndarray) -> np.ndarray | None:
    """[T, N, 3]; not a number where no face is found; None where MediaPipe is not installed."""
    if import_optional("mediapipe") is None:
        return None
    found = [find_mesh(frame) for frame in frames_TSS3]
    shape = next((one.shape for one in found if one is not None), None)
    return None if shape is None else np.stack([np.full(shape, np.nan) if one is None else one for one in found])


def _identity(animated: Animated, photo: Tensor, turned: Tensor, embed: Embedder) -> dict[str, float]:
    """`identity`, and by how much its last fifth is lower than its first; nothing where the photo itself shows the
    embedder no face. A frame in which it finds none counts as nobody's.
    """
    own, other = (embed(as_pictures(one)[0]) for one in (photo, turned))
    if own is None or other is None:
        return {}
    rows = np.stack(list(_embedded(animated.spoken[::_MEASURED_EVERY], embed, len(own))))
    fifth = max(1, len(rows) // 5)
    ratios = [formulas.identity_ratio(part, own, other) for part in (rows, rows[:fifth], rows[-fifth:])]
    lost = "identity_lost_in_10_minutes" if len(animated.spoken) >= 600 * FPS else "identity_lost"
    return {"identity": ratios[0], lost: ratios[1] - ratios[2]}


def _embedded(frames: Iterable[np.ndarray], embed: Embedder, size: int) -> Iterator[np.ndarray]:
    for frame in frames:
        found = embed(frame)
        yield np.zeros(size) if found is None else found
