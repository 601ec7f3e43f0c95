"""Rendered people whom no training has seen, streamed from their reference by what moves them, against the renders.

The truth is drawn without the camera's noise, which nobody could predict. Shapes: T pixel frames, S = 256 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from knot_core import Driving
from knot_core.driving.expression_controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS
from knot_core.driving.face_units import controls_from_units
from knot_core.driving.tracks import Samples
from knot_core.stream import Chunk

from ..synthetic.heads.clips import Clip, sample_clip
from ..synthetic.heads.head_bank import HeadBank
from ..synthetic.heads.render import REST_POSE, reference_of, render
from . import metrics
from .photo_figures import Goal

GOALS = (
    Goal(figure="psnr", limit=26.0),
    Goal(figure="sharpness", limit=0.85),
    Goal(figure="sharpness", limit=1.15, at_most=True),
    Goal(figure="boundary", limit=0.03, at_most=True),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedRender:
    """A person as drawn and as a model streamed them; pictures uint8 [T, S, S, 3], face bool [T, S, S]."""

    reference: np.ndarray
    truth: np.ndarray
    face: np.ndarray
    made: np.ndarray | None = None  # nothing yet


def speaking_clips(bank: HeadBank, count: int, num_pixel_frames: int) -> list[Clip]:
    """Clips of the first `count` people of the split `eval` who speak."""
    found: list[Clip] = []
    seed = 0
    while len(found) < count:
        clip = sample_clip(bank, seed, num_pixel_frames, "eval")
        found += [clip] * clip.speaking
        seed += 1
    return found


def draw_render(clip: Clip) -> StreamedRender:
    """The clip's person from its units and pose, with nothing made of it yet; the picture as a whole stays in place."""
    frames = [render(clip.identity, units, np.concatenate([pose, REST_POSE[3:]]), labels=False)
              for units, pose in zip(clip.units, clip.pose, strict=True)]  # fmt: skip
    reference = reference_of(clip.identity)
    return StreamedRender(
        reference=reference.picture,
        truth=np.stack([frame.picture for frame in frames]),
        face=np.stack([frame.face for frame in frames]),
    )


def streamed(drawn: StreamedRender, chunks: Iterable[Chunk]) -> StreamedRender:
    """The same with what a stream makes of it."""
    pictures = np.concatenate([np.asarray(chunk.pixel_frames) for chunk in chunks])
    return replace(drawn, made=pictures[: len(drawn.truth)])


def render_stream_figures(one: StreamedRender, num_chunk_frames: int) -> dict[str, float]:
    """In the face: dB against the truth, gradient energy over the truth's, the ratio of changes at chunk boundaries to
    those at other latent frames', and that of changes between latent frames to those within them.
    """
    made, truth, face = (torch.from_numpy(part) for part in (one.made, one.truth, one.face.astype(np.float32)))
    changes = [metrics.frame_difference(part, face) for part in (made, truth)]
    still = torch.from_numpy(one.reference)[None].expand_as(truth)
    return {
        "psnr": metrics.psnr(metrics.squared_error(made, truth, face)),
        "psnr_still": metrics.psnr(metrics.squared_error(still, truth, face)),
        "sharpness": metrics.sharpness(metrics.gradient_energy(made, face), metrics.gradient_energy(truth, face)),
        "boundary_ratio": metrics.boundary_ratio(changes[0], num_chunk_frames),
        "boundary_ratio_true": metrics.boundary_ratio(changes[1], num_chunk_frames),
        "step_ratio": metrics.latent_step_ratio(changes[0]),
        "step_ratio_true": metrics.latent_step_ratio(changes[1]),
    }


def summary(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means over people, and `boundary`: by how much the mean ratio differs from the truth's."""
    means = {name: float(np.nanmean([one[name] for one in figures])) for name in figures[0]}
    return means | {"boundary": abs(means["boundary_ratio"] - means["boundary_ratio_true"])}


def driving_of(clip: Clip) -> Driving:
    """The clip's units and pose as a driving; models of controls get the nearest ones."""
    controls = controls_from_units(clip.units, clip.pose)
    pose, mouth = (Samples(controls[:, [CONTROLS.index(name) for name in names]])
                   for names in (POSE_CONTROLS, MOUTH_CONTROLS))  # fmt: skip
    return Driving(pose=pose, mouth=mouth, units=Samples(clip.units))


def differences(
    figures: Sequence[Mapping[str, float]], full: Sequence[Mapping[str, float]]
) -> dict[str, tuple[float, float]]:
    """Each figure of a variant less that of the full stream, person by person: the mean and half its 95 % interval."""
    return {
        name: metrics.mean_and_interval([one[name] - other[name] for one, other in zip(figures, full, strict=True)])
        for name in figures[0]
    }
