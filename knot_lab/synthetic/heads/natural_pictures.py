"""Natural pictures in known motion: what teaches copying and warping of pixels that no renderer makes.

A clip is one picture (public domain or CC0, out of the wheel of scikit-image or a folder, or a procedural texture)
under a smooth flow that changes over time, with occluders that move by themselves before it.

Shapes: T pixel frames, P = 256 pixels a side, F = 128 labels a side, H W of a source.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from knot_core.driving.audio import MEL_DIM, SILENCE
from knot_core.driving.face_units import UNITS
from knot_core.errors import DrivingError

from .cameras import PICTURE
from .lights import photographed, sample_background, sample_camera
from .noise import NoiseBank

LABELS = PICTURE // 2
# Files of the wheel of scikit-image and what its docstrings say of them; the astronaut is kept for evaluation.
SCIKIT_IMAGE: Mapping[str, str] = {
    "brick.png": "CC0, CC0Textures",
    "camera.png": "CC0, Lav Varshney",
    "chelsea.png": "CC0, Stefan van der Walt",
    "coffee.png": "CC0, Rachel Michetti",
    "grass.png": "CC0, Linolafett",
    "gravel.png": "CC0, CC0Textures",
    "hubble_deep_field.jpg": "public domain, NASA",
    "clock_motion.png": "public domain, Stefan van der Walt",
    "retina.jpg": "CC0",
    "rocket.jpg": "public domain, SpaceX",
}
_STILL, _PROCEDURAL = 0.12, 0.35  # chances: of no motion at all; of a procedural texture
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MARGIN = 1.35  # a source is cut this much larger than the picture


def read_sources(path: Path | None) -> list[np.ndarray]:
    """Pictures uint8 [H, W, 3] of a scikit-image wheel (those of ``SCIKIT_IMAGE``) or of a folder; none for None."""
    if path is None:
        return []
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            files = [wheel.read(f"skimage/data/{name}") for name in SCIKIT_IMAGE]
    elif path.is_dir():
        files = [file.read_bytes() for file in sorted(path.rglob("*")) if file.suffix.lower() in _SUFFIXES]
    else:
        raise DrivingError(f"{path} is neither a folder of pictures nor the wheel of scikit-image; give one of them")
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


def natural_clip(
    rng: np.random.Generator, sources: Sequence[np.ndarray], noise: NoiseBank, num_pixel_frames: int = 17
) -> dict[str, np.ndarray]:
    """A clip of one of the ``sources`` [H, W, 3], under the names of ``clips.packed``; no landmarks, flags False."""
    layers = [_Layer.sample(rng, sources, noise, num_pixel_frames, occluder=False)]
    layers += [_Layer.sample(rng, sources, noise, num_pixel_frames, occluder=True) for _ in range(rng.integers(0, 4))]
    camera = sample_camera(rng)
    drawn = [_frame(layers, t) for t in range(num_pixel_frames)]
    shoot = lambda light: photographed(light, camera, noise, rng)  # noqa: E731
    nothing = np.zeros((num_pixel_frames, LABELS, LABELS), bool)
    return {
        "frames": np.stack([shoot(light) for light, _, _ in drawn]),
        "reference": shoot(_frame(layers, None)[0]),
        "flow": np.stack([flow for _, flow, _ in drawn]).astype(np.float16),
        "visible": np.stack([visible for _, _, visible in drawn]),
        "face": nothing,
        "background": nothing,
        "units": np.zeros((num_pixel_frames, len(UNITS)), np.float32),
        "pose": np.zeros((num_pixel_frames, 3), np.float32),
        "placement": np.tile(np.array([[0, 0, 1]], np.float32), (num_pixel_frames, 1)),
        "mel": np.full((num_pixel_frames, MEL_DIM), SILENCE, np.float32),
        "flags": np.zeros(3, bool),
    }


@dataclass(frozen=True)
class _Layer:
    """A texture with a shape, and its backward flow at every frame."""

    texture: np.ndarray  # float32 [H, H, 3], linear
    place: np.ndarray  # [2, 3]: pixels of the reference -> pixels of the texture
    outline: tuple[np.ndarray, np.ndarray] | None  # middle [2]; radii [24] by angle
    motion: list[_Motion]

    @staticmethod
    def sample(
        rng: np.random.Generator, sources: Sequence[np.ndarray], noise: NoiseBank, frames: int, *, occluder: bool
    ) -> _Layer:
        texture = _texture(rng, sources, noise)
        size = len(texture)
        scale = size / PICTURE / _MARGIN * (rng.uniform(0.5, 1.0) if occluder else 1.0)
        angle = rng.normal(0, 0.3)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place = np.column_stack([turn, size / 2 - turn @ np.full(2, PICTURE / 2)])
        outline = _outline(rng) if occluder else None
        return _Layer(texture, place.astype(np.float32), outline, _motions(rng, frames, stiff=occluder))

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colour [.., 3] and presence [..] at places of the reference [.., 2]."""
        on = points @ self.place[:, :2].T + self.place[:, 2]
        colour = _bilinear(self.texture, on)
        if self.outline is None:
            return colour, np.ones(points.shape[:-1], bool)
        middle, radii = self.outline
        away = points - middle
        angle = (np.arctan2(away[..., 1], away[..., 0]) / (2 * np.pi) + 0.5) * len(radii)
        low = np.floor(angle).astype(int) % len(radii)
        part = angle % 1
        edge = radii[low] * (1 - part) + radii[(low + 1) % len(radii)] * part
        return colour, np.hypot(away[..., 0], away[..., 1]) < edge


@dataclass(frozen=True)
class _Motion:
    """source = p + A (p - c) + b + sum_i d_i exp(-|p - q_i|^2 / 2 s_i^2), pixels of the picture."""

    linear: np.ndarray  # [2, 2]
    shift: np.ndarray  # [2]
    bumps: tuple[np.ndarray, np.ndarray, np.ndarray]  # places [n, 2], widths [n], pushes [n, 2]

    def source(self, points: np.ndarray) -> np.ndarray:
        moved = points + (points - PICTURE / 2) @ self.linear.T + self.shift
        for place, width, push in zip(*self.bumps, strict=True):
            away = ((points - place) ** 2).sum(axis=-1)
            moved = moved + np.exp(-away / (2 * width * width))[..., None] * push
        return moved


def _motions(rng: np.random.Generator, frames: int, *, stiff: bool) -> list[_Motion]:
    """One for each frame, gliding between random ones; the same for all where nothing moves."""
    strength = 0.0 if rng.random() < _STILL else rng.uniform(0.2, 1.0)
    count = 0 if stiff else int(rng.integers(1, 7))
    places, widths = rng.uniform(0, PICTURE, (count, 2)), rng.uniform(18, 70, count)
    linear = rng.normal(0, 0.06, (3, 2, 2)) * strength
    if stiff:
        turns = rng.normal(0, 0.15, 3) * strength
        linear = np.stack([[[np.cos(a) - 1, -np.sin(a)], [np.sin(a), np.cos(a) - 1]] for a in turns])
    shift = rng.normal(0, 22 if stiff else 9, (3, 2)) * strength
    pushes = rng.normal(0, 0.22, (3, count, 2)) * widths[None, :, None] * strength  # below 0.4 nothing folds
    at = np.linspace(0, 2, frames) * rng.uniform(0.3, 1.0)
    motions = []
    for value in at:
        left, t = min(int(value), 1), value - min(int(value), 1)
        t = t * t * (3 - 2 * t)
        between = lambda knots: knots[left] * (1 - t) + knots[left + 1] * t  # noqa: B023, E731 - used at once
        single = [x.astype(np.float32) for x in (between(linear), between(shift), places, widths, between(pushes))]
        motions.append(_Motion(single[0], single[1], (single[2], single[3], single[4])))
    return motions


def _frame(layers: list[_Layer], t: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear light [P, P, 3] of frame ``t`` (None: the reference), its flow [F, F, 2] and what is seen [F, F]."""
    pixels = np.stack(np.meshgrid(*[np.arange(PICTURE, dtype=np.float32) + 0.5] * 2), axis=-1)
    light, _ = _compose(layers, t, pixels)
    labels = np.stack(np.meshgrid(*[2 * np.arange(LABELS, dtype=np.float32) + 1] * 2), axis=-1)
    flow, visible = np.zeros_like(labels), np.zeros((LABELS, LABELS), bool)
    _, top = _compose(layers, t, labels)
    for number, layer in enumerate(layers):
        source = labels if t is None else layer.motion[t].source(labels)
        here = top == number
        flow[here] = (source - labels)[here]
        inside = ((source > 0) & (source < PICTURE)).all(axis=-1)
        covered = np.any([other.at(source)[1] for other in layers[number + 1 :]] or [np.zeros_like(inside)], axis=0)
        visible[here] = (inside & ~covered)[here]
    return light.astype(np.float32, copy=False), flow, visible


def _compose(layers: list[_Layer], t: int | None, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour [.., 3] at places [.., 2] of the frame, and which layer is on top [..]."""
    colour, top = None, np.zeros(points.shape[:-1], int)
    for number, layer in enumerate(layers):
        own, present = layer.at(points if t is None else layer.motion[t].source(points))
        colour = own if colour is None else np.where(present[..., None], own, colour)
        top[present] = number
    return colour, top


def _texture(rng: np.random.Generator, sources: Sequence[np.ndarray], noise: NoiseBank) -> np.ndarray:
    """Linear float32 [H, H, 3]: a piece of a picture in changed colours, or a procedure's."""
    if not sources or rng.random() < _PROCEDURAL:
        return sample_background(rng, noise)
    source = sources[rng.integers(len(sources))]
    side = int(min(source.shape[:2]) * rng.uniform(0.45, 1.0))
    y, x = (rng.integers(0, n - side + 1) for n in source.shape[:2])
    size = min(side, round(1.1 * _MARGIN * PICTURE))  # about a texel a pixel
    piece = Image.fromarray(source[y : y + side, x : x + side]).resize((size, size), Image.Resampling.LANCZOS)
    linear = (np.asarray(piece, np.float32) / 255) ** 2.2
    if rng.random() < 0.5:
        linear = linear[:, ::-1]
    mixed = linear @ (np.eye(3) + rng.normal(0, 0.12, (3, 3))).astype(np.float32)
    return np.clip(mixed * rng.uniform(0.6, 1.6), 0, 4).astype(np.float32)


def _outline(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A blot: middle [2] and radii [24] by angle, smooth or ragged."""
    rough = rng.normal(0, 1, 24)
    for _ in range(rng.integers(0, 4)):
        rough = (rough + np.roll(rough, 1) + np.roll(rough, -1)) / 2.2
    radius = rng.uniform(10, 60)
    return rng.uniform(0, PICTURE, 2), radius * np.clip(1 + 0.3 * rough, 0.3, 2)


def _bilinear(texture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[H, H, 3] at places [.., 2] in its pixels, mirrored beyond its edges."""
    size = len(texture)
    folded = np.abs((at - 0.5) % (2 * size - 2))
    folded = np.minimum(np.where(folded > size - 1, 2 * size - 2 - folded, folded), size - 1.001).astype(np.float32)
    low = folded.astype(np.int32)
    x0, y0 = low[..., 0], low[..., 1]
    fx, fy = ((folded - low)[..., k, None] for k in (0, 1))
    upper = texture[y0, x0] * (1 - fx) + texture[y0, x0 + 1] * fx
    return upper * (1 - fy) + (texture[y0 + 1, x0] * (1 - fx) + texture[y0 + 1, x0 + 1] * fx) * fy
