"""Fit the code that tells in latents how landmarks move: principal components of rendered heads' motion.

In the metric of the components the motion of eyes and mouth in themselves counts more than what a part has in common,
since lids move by few pixels. A component's strength in the latents is the square root of its spread in pixels: where
all numbers are predicted equally well, that is off by the fewest pixels. An orthogonal mixture shares the strength out
among the numbers.

Shapes: N latent frames, T = 4 pixel frames of each, L landmarks, D = 2 T L, K numbers of the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from knot_core.codec.landmark_code import LandmarkCode
from knot_core.errors import SettingsError
from knot_core.geometry import TEMPORAL
from knot_core.media.landmark_names import LANDMARKS, PARTS

from ..data.face_clips import is_of_a_person

FILE = "landmark-code.safetensors"
_STRENGTH = 0.7  # standard deviation of a number of the code; latents have about 1
_OFTEN = 4.0  # how often the motion of eyes and mouth in themselves counts


def fit_landmark_code(bank: Path, folder: Path, channels: int) -> Path:
    """Fit the code to the clips of people in a bank, and write it.

    Raises:
        SettingsError: there are none.
    """
    motion = [moved for file in sorted(bank.glob("*.npz")) if is_of_a_person(file) for moved in _motion(file)]
    if not motion:
        raise SettingsError(f"{bank} holds no clips of people; render some: data heads --bank {bank}")
    code = fitted(np.concatenate(motion), channels)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in code.state_dict().items()}, folder / FILE)
    return folder / FILE


def read_landmark_code(folder: Path) -> dict[str, torch.Tensor] | None:
    """The code's tensors in the folder of a training, by name; None where it has none."""
    return load_file(folder / FILE) if (folder / FILE).exists() else None


def fitted(motion_NTL2: np.ndarray, channels: int) -> LandmarkCode:
    """The code of this motion, in sides of the picture."""
    code = LandmarkCode(channels, motion_NTL2.shape[2])
    numbers = len(code.reads)
    rows = motion_NTL2.reshape(len(motion_NTL2), -1).astype(np.float64)
    metric, back = _metric(motion_NTL2.shape[1:])
    weighted = rows @ metric
    values, vectors = np.linalg.eigh(weighted.T @ weighted / len(rows))
    order = np.argsort(values)[::-1][:numbers]
    vectors, spread = vectors[:, order], np.sqrt(np.maximum(values[order], 0)).clip(1e-9)
    strength = np.sqrt(spread / spread.sum() * numbers) * _STRENGTH  # of each component
    mixed = _cosines(numbers)[: len(order)]
    writes = metric @ (vectors * (strength / spread)) @ mixed
    reads = mixed.T @ ((vectors * (spread / strength)).T @ back)
    code.writes.copy_(torch.from_numpy(writes).reshape(code.writes.shape))
    code.reads.copy_(torch.from_numpy(reads).reshape(code.reads.shape))
    return code


def _cosines(size: int) -> np.ndarray:
    """The orthogonal matrix of the discrete cosine transform [S, S]."""
    rows, columns = np.arange(size)[:, None], np.arange(size)[None]
    waves = np.cos(np.pi * (columns + 0.5) * rows / size)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _metric(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric root of the metric of motion [D, D], and its inverse."""
    size = int(np.prod(shape))
    whole = np.eye(size).reshape(size, *shape)
    parts = [_OFTEN * (whole[:, :, part] - whole[:, :, part].mean(axis=2, keepdims=True)) for part in PARTS]
    seen = np.concatenate([whole, *parts], axis=2).reshape(size, -1)
    values, vectors = np.linalg.eigh(seen @ seen.T)
    return vectors * np.sqrt(values) @ vectors.T, vectors / np.sqrt(values) @ vectors.T


def _motion(file: Path) -> Iterator[np.ndarray]:
    """The motion from the reference in whole groups of frames [N, T, L, 2], where all landmarks are known."""
    with np.load(file) as stored:
        moved, side = stored["landmarks"] - stored["reference_landmarks"], stored["frames"].shape[1]
    whole = moved[1 : 1 + (len(moved) - 1) // TEMPORAL * TEMPORAL] / side
    if np.isfinite(whole).all() and whole.shape[1] == len(LANDMARKS):
        yield whole.reshape(-1, TEMPORAL, *whole.shape[1:])
