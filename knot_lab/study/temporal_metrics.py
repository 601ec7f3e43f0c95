"""The measures of the study beside the evaluation's, as pure functions.

Signals over time have one value a pixel frame. A chunk is ``period`` pixel frames long; what recurs with that period is
a seam, what recurs ``period / num_chunk_frames`` frames apart is the video autoencoder's own.

Shapes: T pixel frames, N frames of a segment, H W size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.geometry import TEMPORAL

from ..evaluation.metrics import to_float

MOST_PERIODS = 20  # of a segment of the spectrum: 9.6 s of chunks of 12 frames
_LEAST_PERIODS = 10  # fewer, and a harmonic's neighbours are the next one's
_NEAR, _FAR = 3, 8  # bins to either side that a line is held against; a Hann window spreads it over one
_STILL = 1 / 255 + 1e-6  # a change that rounding alone can make
_AROUND = 9  # pixels: what moves this near is no static region
_ARRIVED = 0.9
_ANSWERED = 0.5  # of the way asked for: who goes less far has not answered


def period_of(num_chunk_frames: int) -> int:
    """Pixel frames from one chunk to the next."""
    return TEMPORAL * num_chunk_frames


def log_change(change: np.ndarray, true_change: np.ndarray) -> np.ndarray:
    """q[t] = log((d[t] + e) / (y[t] + e)), e = mean y / 4: change from picture to picture over the truth's.

    What the two share, the motion, falls out of it, and with it most of what would hide a seam.
    """
    least = max(float(np.nanmean(true_change)) / 4, 1e-6)
    return np.log((change + least) / (true_change + least))


def spectrum(signal: np.ndarray, period: int) -> np.ndarray:
    """Welch's power spectrum; bin j lies at j / N cycles a frame.

    P[j] = mean over segments of |sum_t h[t] (s[t] - m) exp(-2 pi i j t / N)|^2 / sum_t h[t]^2, with h the Hann window,
    m the mean, half-overlapping segments of N = 20 periods, or as many whole ones as there are; empty below 10.
    """
    found = np.asarray(signal, dtype=np.float64)
    found = found[np.isfinite(found)]
    length = min(MOST_PERIODS, len(found) // period) * period
    if length < _LEAST_PERIODS * period:
        return np.zeros(0)
    window, centred = np.hanning(length + 1)[:-1], found - found.mean()
    starts = range(0, len(found) - length + 1, length // 2)
    powers = [np.abs(np.fft.rfft(window * centred[i : i + length])) ** 2 for i in starts]
    return np.mean(powers, axis=0) / (window**2).sum()


def seam(power: np.ndarray, period: int, num_chunk_frames: int) -> float:
    """How far the chunk rate stands out of a ``spectrum``, dB; 0 where it does not, nan of an empty one.

    mean over m of 10 log10(P[m N / period] / median P nearby), m = 1 .. period / 2 without the multiples of the chunk's
    latent frames, which are the latent rate's; nearby is 3 to 8 bins to either side.
    """
    return _standing_out(power, [m for m in _harmonics(power, period) if m % num_chunk_frames], period)


def beat(power: np.ndarray, period: int, num_chunk_frames: int) -> float:
    """As `seam`, for the latent rate: m = multiples of the chunk's latent frames, of a ``spectrum`` [M]."""
    return _standing_out(power, [m for m in _harmonics(power, period) if m % num_chunk_frames == 0], period)


def _harmonics(power: np.ndarray, period: int) -> range:
    return range(1, period // 2 + 1 if len(power) else 1)


def _standing_out(power: np.ndarray, harmonics: list[int], period: int) -> float:
    if not harmonics:
        return float("nan")
    spacing = 2 * (len(power) - 1) // period
    lines = [m * spacing for m in harmonics]
    beside = [*range(-_FAR, -_NEAR + 1), *range(_NEAR, _FAR + 1)]
    floors = [np.median([power[line + i] for i in beside if 0 < line + i < len(power)]) for line in lines]
    return float(np.mean(10 * np.log10(np.maximum(power[lines], 1e-20) / np.maximum(floors, 1e-20))))


def static_masks(pictures: Tensor) -> Tensor:
    """The places where the truth does not change, float [T, H, W]; none for the first frame.

    1 where max |y[t] - y[t-1]|, over the colours and the 9 x 9 pixels around, is at most one level of 255.
    """
    y = to_float(pictures)
    change = (y[1:] - y[:-1]).abs().amax(dim=-1)
    near = fn.max_pool2d(change[:, None], _AROUND, stride=1, padding=_AROUND // 2)[:, 0]
    return torch.cat([torch.zeros_like(y[:1, ..., 0]), (near <= _STILL).float()])


def change_energy(pictures: Tensor, masks: Tensor) -> np.ndarray:
    """Mean over the mask and the colours of (x[t] - x[t-1])^2, per pixel frame; nan for the first, or an empty mask."""
    x = to_float(pictures)
    energy = (x[1:] - x[:-1]).square().mean(dim=-1).double()
    mask = masks[1:].double()
    return np.concatenate([[np.nan], ((energy * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))).numpy()])


def flicker(energies: np.ndarray) -> float:
    """255 sqrt(mean over t of the energies [T]): root mean square change in levels of 255; nan without any."""
    found = energies[np.isfinite(energies)]
    return float(255 * np.sqrt(found.mean())) if len(found) else float("nan")


def roughness(read: np.ndarray, asked: np.ndarray) -> float:
    """sqrt(sum |D D read|^2 / sum |D D asked|^2), D the difference over time, [T, Y] each: 1 moves as smoothly."""
    jerks = [np.square(np.diff(np.asarray(track, dtype=np.float64), 2, axis=0)).sum() for track in (read, asked)]
    return float(np.sqrt(jerks[0] / max(jerks[1], 1e-12)))


def step_response(read: np.ndarray, asked: np.ndarray, step: int, stop: int, period: int) -> tuple[float, float]:
    """(delay in chunks, gain) of what is read, after what is asked for jumps at frame ``step`` and rests till ``stop``.

    a = median read[step - period : step], b = median read[stop - period : stop], gain = (b - a) / (asked[step] -
    asked[step - 1]), delay = (min {t >= step: (read[t] - a) / (b - a) >= 0.9} - step) / period; nan where gain < 0.5.
    """
    before, after = np.median(read[step - period : step]), np.median(read[stop - period : stop])
    gain = float((after - before) / (asked[step] - asked[step - 1]))
    if gain < _ANSWERED:
        return float("nan"), gain
    way = (read[step:stop] - before) / (after - before)
    return float(np.argmax(way >= _ARRIVED)) / period, gain


def mean_response(
    read: np.ndarray, asked: np.ndarray, steps: Iterable[tuple[int, int]], period: int
) -> dict[str, float]:
    """Mean delay of the steps that were answered, mean gain of all, and the share that was answered; `read`, `asked`
    [T].
    """
    delays, gains = zip(*(step_response(read, asked, step, stop, period) for step, stop in steps), strict=True)
    answered = [delay for delay in delays if np.isfinite(delay)]
    return {
        "response": float(np.mean(answered)) if answered else float("nan"),
        "response_gain": float(np.mean(gains)),
        "response_answered": len(answered) / len(delays),
    }
