"""A video against its truth: values per pixel frame, gathered piece by piece, and the figures made of them.

Shapes: T pixel frames, H W size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from knot_core.driving.audio import FPS
from knot_core.driving.expression_controls import CONTROLS

from ..synthetic.avatars import box_mask
from . import metrics
from .reader import READ, Reader
from .scenes import REGIONS, Truth

WINDOW = 5.0  # s at the beginning and at the end that are compared
_REPEAT = (2, 60)  # s: lags at which a motion is not to look like itself
_SMALLEST_REGION = 0.01  # of the picture: what is smaller is no region to judge by

Track = dict[str, np.ndarray]  # name -> [T] of a part, then of the whole


@dataclass(frozen=True)
class Figures:
    """One video's figures, and its curves with a value a second."""

    values: dict[str, float]
    curves: dict[str, list[float]]


def measure(pieces: Iterable[Tensor], truth: Truth | None, reader: Reader) -> Track:
    """Values per pixel frame of a video that comes in pieces, uint8 [T, H, W, 3] each."""
    tracks, start, before = [], 0, None
    for piece in pieces:
        read = reader.read(piece)
        track = {f"read_{name}": read[:, i] for i, name in enumerate(READ)}
        if truth is not None:
            track |= _against(truth, slice(start, start + len(piece)), piece, before)
        tracks.append(track)
        start, before = start + len(piece), piece[-1:]
    return {name: np.concatenate([track[name] for track in tracks]) for name in tracks[0]}


def _against(truth: Truth, part: slice, pictures: Tensor, before: Tensor | None) -> Track:
    true = torch.from_numpy(truth.pictures[part])
    face = box_mask(truth.face[part], true.shape[1])
    track = {
        "error": metrics.squared_error(pictures, true, face),
        "error_picture": metrics.squared_error(pictures, true, torch.ones_like(face)),
        "energy": metrics.gradient_energy(pictures, face),
        "true_energy": metrics.gradient_energy(true, face),
    }
    true_before = None if before is None else torch.from_numpy(truth.pictures[part.start - 1 : part.start])
    for name, frames, last in (("change", pictures, before), ("true_change", true, true_before)):
        joined = frames if last is None else torch.cat([last, frames])
        masks = face if last is None else torch.cat([face[:1], face])
        track[name] = metrics.frame_difference(joined, masks)[-len(frames) :]
    regions = torch.from_numpy(truth.regions[part]).float() / 255
    for i, name in enumerate(REGIONS):
        share = regions[..., i].mean(dim=(1, 2)).numpy()
        error = metrics.squared_error(pictures, true, regions[..., i] + 1e-9)
        track[f"error_{name}"] = np.where(share > _SMALLEST_REGION, error, np.nan)
    return track


def fidelity(track: Track, num_chunk_frames: int) -> Figures:
    """Figures of a video whose truth is known: face box unless said."""
    frames = len(track["error"])
    first, last = windows(frames)
    values = {
        "psnr": metrics.psnr(track["error"]),
        "psnr_picture": metrics.psnr(track["error_picture"]),
        "sharpness": metrics.sharpness(track["energy"], track["true_energy"]),
        "boundary": metrics.boundary_ratio(track["change"], num_chunk_frames),
        "true_boundary": metrics.boundary_ratio(track["true_change"], num_chunk_frames),
    }
    for name, part in (("first", first), ("last", last)):
        values[f"psnr_{name}"] = metrics.psnr(track["error"][part])
        values[f"sharpness_{name}"] = metrics.sharpness(track["energy"][part], track["true_energy"][part])
        values[f"identity_{name}"] = identity_psnr(track, part)
        values |= {f"{region}_{name}": metrics.psnr(track[f"error_{region}"][part]) for region in REGIONS}
    seconds = [slice(i, i + FPS) for i in range(0, frames, FPS)]
    curves = {
        "psnr": [metrics.psnr(track["error"][part]) for part in seconds],
        "sharpness": [metrics.sharpness(track["energy"][part], track["true_energy"][part]) for part in seconds],
        "identity": [identity_psnr(track, part) for part in seconds],
    }
    return Figures(values, curves)


def identity_psnr(track: Track, part: slice) -> float:
    """Mean PSNR of the regions that must not change; those that are hardly there are left out."""
    each = [metrics.psnr(track[f"error_{name}"][part]) for name in REGIONS]
    return float(np.mean([value for value in each if np.isfinite(value)]))


def obedience(track: Track, expected: np.ndarray) -> Figures:
    """How what is read from the picture follows what it should show, [T, 8]; nan where nothing was asked."""
    values = {}
    for name in READ:
        wanted, read = expected[:, CONTROLS.index(name)], track[f"read_{name}"]
        if np.isfinite(wanted).all() and wanted.std() > 1e-3:
            values[f"{name}_correlation"] = metrics.pearson(read, wanted)
    minutes = len(expected) / FPS / 60
    blinks = expected[:, CONTROLS.index("blink")]
    pose = [track[f"read_{name}"] for name in ("yaw", "pitch", "roll")]
    values |= {
        "mouth_open_mean": float(track["read_mouth_open"].mean()),
        "mouth_open_p95": float(np.quantile(track["read_mouth_open"], 0.95)),
        "head_motion": head_motion(*pose),
        "head_repeat": metrics.strongest_repeat(np.stack(pose, axis=1), *(FPS * lag for lag in _REPEAT)),
        "true_head_motion": head_motion(*expected[:, :3].T),
        "blinks_per_minute": metrics.count_blinks(track["read_blink"]) / minutes,
        "true_blinks_per_minute": metrics.count_blinks(blinks) / minutes,
    }
    return Figures(values, {})


def head_motion(*angles: np.ndarray) -> float:
    """Standard deviation over time of the head's pose, root mean square over yaw, pitch and roll."""
    return float(np.sqrt(np.mean([np.var(angle) for angle in angles])))


def windows(frames: int) -> tuple[slice, slice]:
    """The first and last seconds that are compared: 5 s each, of shorter videos a half each."""
    length = max(1, min(round(WINDOW * FPS), frames // 2))
    return slice(0, length), slice(frames - length, frames)
