"""The measures of the evaluation, as pure functions.

Pictures are uint8 [T, H, W, 3] or float 0..1 of that shape. A mask [T, H, W] says how much each pixel counts.
Functions over frames give one number a pixel frame, [T] float64; what is made of them over time is numpy.

A latent-frame boundary lies between the last pixel frame of one latent frame and the first of the next; it is named by
that first one. Those between chunks are chunk boundaries; the others lie within a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from knot_core.geometry import first_pixel_frame

_T_975 = (12.706, 4.303, 3.182, 2.776)  # Student's t, 97.5 %, of 1 .. 4 degrees of freedom
_Z_975 = 1.959964


def to_float(pictures: Tensor) -> Tensor:
    """uint8 or float pictures [T, H, W, 3] -> float32 in 0..1."""
    return pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures.float()


def squared_error(pictures: Tensor, truth: Tensor, masks: Tensor) -> np.ndarray:
    """Mean squared difference of pictures [T, H, W, 3] under the masks [T, H, W], per pixel frame: [T]."""
    return _masked_mean((to_float(pictures) - to_float(truth)).square().mean(dim=-1), masks)


def frame_difference(pictures: Tensor, masks: Tensor) -> np.ndarray:
    """Mean absolute difference from the previous frame of pictures [T, H, W, 3], under the frame's own mask [T, H, W]:
    [T], of which the first is nan.
    """
    x = to_float(pictures)
    change = torch.cat([torch.full_like(x[:1], torch.nan), x[1:] - x[:-1]]).abs().mean(dim=-1)
    return _masked_mean(change, masks)


def gradient_energy(pictures: Tensor, masks: Tensor) -> np.ndarray:
    """Mean of dx^2 + dy^2 (forward differences, over the colours) of pictures [T, H, W, 3] under the masks [T, H, W],
    per pixel frame: [T].
    """
    x = to_float(pictures)
    dx, dy = x[:, :-1, 1:] - x[:, :-1, :-1], x[:, 1:, :-1] - x[:, :-1, :-1]
    return _masked_mean((dx.square() + dy.square()).mean(dim=-1), masks[:, :-1, :-1])


def psnr(squared_errors: np.ndarray) -> float:
    """-10 log10 of the mean squared error over all frames, [T], in dB; frames without a value are left out."""
    return float(-10 * np.log10(max(_mean(squared_errors), 1e-12)))


def sharpness(energies: np.ndarray, true_energies: np.ndarray) -> float:
    """Gradient energy [T] over that of the truth, [T], each summed over the frames: 1 is as sharp as the truth, less is
    blurred.
    """
    return _mean(energies) / max(_mean(true_energies), 1e-12)


def latent_boundaries(num_pixel_frames: int, num_chunk_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel frames after the chunk boundaries, [N], and after the other latent-frame boundaries, [M], of a
    stream.
    """
    last = (num_pixel_frames + 2) // 4  # the last latent frame whose first pixel frame is there
    latents = np.arange(1, last + 1)
    firsts = np.array([first_pixel_frame(int(latent)) for latent in latents], dtype=np.int64)
    between_chunks = latents % num_chunk_frames == 0
    return firsts[between_chunks], firsts[~between_chunks]


def boundary_ratio(differences: np.ndarray, num_chunk_frames: int) -> float:
    """Mean frame difference, of [T], at chunk boundaries over that at the other latent-frame boundaries; nan without
    any.
    """
    between, within = latent_boundaries(len(differences), num_chunk_frames)
    return _mean(differences[between]) / max(_mean(differences[within]), 1e-12)


def latent_step_ratio(differences: np.ndarray) -> float:
    """Mean frame difference, of [T], from one latent frame to the next over that within them: 1 moves evenly, more goes
    on in steps; nan without any.
    """
    steps, others = latent_boundaries(len(differences), 1)
    assert not len(others)
    within = np.setdiff1d(np.arange(1, len(differences)), steps)
    return _mean(differences[steps]) / max(_mean(differences[within]), 1e-12)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation coefficient of two series [T]; 0 where one of them does not vary."""
    return _cosine(*(np.asarray(x, dtype=np.float64) - np.mean(x) for x in (a, b)))


def count_blinks(blink: np.ndarray, shut: float = 0.6, open_again: float = 0.35) -> int:
    """How often the eyes shut in a series [T] in 0..1; they must open again in between."""
    count, is_shut = 0, False
    for value in blink:
        if not is_shut and value > shut:
            count, is_shut = count + 1, True
        elif value < open_again:
            is_shut = False
    return count


def strongest_repeat(tracks: np.ndarray, least: int, most: int) -> float:
    """How much a motion [T, N] looks like a loop: the highest peak of its autocorrelation at lags of `least` to `most`
    frames. Only peaks count, for a slow motion is like itself a little later without repeating; 0 without any, nan if
    the motion is shorter than twice `least`.
    """
    moves = np.asarray(tracks, dtype=np.float64) - np.mean(tracks, axis=0)
    lags = range(least - 1, min(most, len(moves) // 2) + 2)
    if len(lags) < 3:
        return float("nan")
    alike = np.array([_cosine(moves[:-lag], moves[lag:]) for lag in lags])
    peaks = alike[1:-1][(alike[1:-1] >= alike[:-2]) & (alike[1:-1] >= alike[2:])]
    return float(peaks.max(initial=0.0))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 1e-9 else 0.0


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval by Student's t; nan values are left out."""
    found = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    if len(found) < 2:
        return (float(found[0]) if len(found) else float("nan")), float("nan")
    return float(found.mean()), float(_t_975(len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))


def _t_975(freedom: int) -> float:
    """Student's t quantile: exact for few degrees of freedom, else the expansion of Abramowitz and Stegun 26.7.5."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = _Z_975
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _mean(values: np.ndarray) -> float:
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    return float(found.mean()) if len(found) else float("nan")


def _masked_mean(values: Tensor, masks: Tensor) -> np.ndarray:
    """[T, H, W] under masks -> [T]; nan where a mask is empty."""
    return ((values.double() * masks).sum(dim=(1, 2)) / masks.double().sum(dim=(1, 2))).numpy()
