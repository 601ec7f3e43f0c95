"""Figures of the face codec: rendered people whom it never saw, and photos whose true motion is known.

Renders are clips of a bank (`data/face_pictures.py`). A photo has no true motion of its own, so it gets a render's: its
pixels are moved by the flow of a rendered head that lies where the photo's face lies. The moved photo is encoded and
given back from the photo that stands still. In the transfer nothing of the photo moves: its latents get the difference
that the driving clip's latents have from those of the clip's reference.

Shapes: T pixel frames, N = T, H W pixels, F latent frames, C channels, h w latent size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.latent_matching import warp
from knot_core.codec.warping import GAIN, WarpingCodec, composed, decided
from knot_core.codec.warping_networks import MOST_GAIN, Motion, ReadReference
from knot_core.errors import SettingsError
from knot_core.media.landmark_names import LANDMARKS

from ..data.face_batch import FaceClips
from ..data.face_pictures import read_whole
from . import metrics

FARTHEST_YAW = 0.35  # rad, of the clips whose motion photos get
NOISE = 0.1  # of latents, a standard deviation, as in training
_MOVES = 1.0  # pixels, a standard deviation of a motion that is measured
_SIDES = ("right", "left")
_SURE = 0.5  # of a mask, above which the residual stands


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenBack:
    """A clip as the codec gives it back; pictures [T, 3, H, W] in 0..1, flow and mask at half the size."""

    pictures_T3HW: Tensor
    flow_T2HW: Tensor
    mask_T1HW: Tensor


@torch.no_grad()
def give_back(codec: WarpingCodec, latents_1FChw: Tensor, reference: ReadReference) -> GivenBack:
    """Latents [1, F, C, h, w] of T = 1 + 4 (F - 1) pixel frames, decoded from the reference."""
    motion, _ = codec.decoder(latents_1FChw, reference, None)
    first = len(motion.flow_N2HW) - (1 + 4 * (latents_1FChw.shape[1] - 1))
    motion = decided(Motion(**{name: part[first:] for name, part in vars(motion).items()}))
    return GivenBack(pictures_T3HW=composed(motion, reference), flow_T2HW=motion.flow_N2HW, mask_T1HW=motion.mask_N1HW)


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationClip:
    """A rendered clip and where its face is, bool [T, H/2, W/2]."""

    name: str
    clip: FaceClips
    face_THW: Tensor
    farthest_yaw: float


def read_evaluation_clips(folder: Path) -> list[EvaluationClip]:
    """The clips of people in a folder.

    Raises:
        SettingsError: there are none.
    """
    clips = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            face, yaw = torch.from_numpy(stored["face"]), float(np.abs(stored["pose"][:, 0]).max())
        if face.any():
            clips.append(EvaluationClip(name=path.stem, clip=read_whole(path), face_THW=face, farthest_yaw=yaw))
    if not clips:
        raise SettingsError(f"{folder} holds no clips of people; draw some: data heads --bank {folder} --split eval")
    return clips


def calm_clips(clips: Sequence[EvaluationClip]) -> list[EvaluationClip]:
    """The clips in which nobody turns far, whose motion photos get; all, where everybody does."""
    return [one for one in clips if one.farthest_yaw <= FARTHEST_YAW] or list(clips)


def means(figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over those that have it; one that nobody has is left out."""
    values: dict[str, list[float]] = {}
    for one in figures:
        for name, value in one.items():
            if np.isfinite(value):
                values.setdefault(name, []).append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


@torch.no_grad()
def render_figures(codec: WarpingCodec, one: EvaluationClip) -> tuple[dict[str, float], GivenBack]:
    """A render against the truth, in the face: dB of the whole, and what copying by the true flow would reach."""
    reference = codec.read_reference(one.clip.reference_B3HW)
    made = give_back(codec, codec.encode(one.clip.frames_BT3HW), reference)
    flow, visible = one.clip.flow_BT2HW[0], one.clip.visible_BT1HW[0, :, 0]
    true, face = one.clip.frames_BT3HW[0], one.face_THW
    best = warp(one.clip.reference_B3HW.expand_as(true), fn.interpolate(flow, scale_factor=2, mode="bilinear"), 1)
    seen, hidden = face & (visible > 0), face & (visible == 0)
    off = (made.flow_T2HW - flow).norm(dim=1)
    return {
        "psnr": _psnr(made.pictures_T3HW, true, face),
        "psnr_visible": _psnr(made.pictures_T3HW, true, seen),
        "psnr_true_flow": _psnr(best, true, seen),
        "psnr_true_light": _psnr(best * _best_gain(best, true, seen), true, seen),
        "psnr_still": _psnr(one.clip.reference_B3HW.expand_as(true), true, face),
        "mouth_followed": followed(made.flow_T2HW, one, [("lower_lip", "upper_lip")]),
        "lids_followed": followed(made.flow_T2HW, one, [(f"{side}_lid_upper", f"{side}_eye_outer") for side in _SIDES]),
        "sharpness": _sharpness(made.pictures_T3HW, true, face),
        "pixels_median": _quantile(off[seen], 0.5),
        "pixels_p90": _quantile(off[seen], 0.9),
        "still_median": _quantile(flow.norm(dim=1)[seen], 0.5),
        "hidden_found": _share(made.mask_T1HW[:, 0][hidden] > _SURE),
        "visible_painted": _share(made.mask_T1HW[:, 0][seen] > _SURE),
    }, made


@torch.no_grad()
def moved_figures(
    codec: WarpingCodec, photo_13HW: Tensor, driving: EvaluationClip
) -> tuple[dict[str, float], Tensor, GivenBack]:
    """A photo moved by the driving's flow, where that shows the face: the figures, the truth [T, 3, H, W], the result.

    `self_psnr` is of the photo that stands still, `self_noisy_psnr` of that through latents with the noise of training.
    """
    flow = driving.clip.flow_BT2HW[0]
    true = warp(photo_13HW.expand(len(flow), -1, -1, -1), fn.interpolate(flow, scale_factor=2, mode="bilinear"), 1)
    reference = codec.read_reference(photo_13HW)
    made = give_back(codec, codec.encode(true[None]), reference)
    whole, own = torch.ones(1, *flow.shape[2:], dtype=torch.bool), reference.latents_BCHW
    noise = NOISE * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    again, noisy = (give_back(codec, z[:, None], reference).pictures_T3HW for z in (own, own + noise))
    seen = driving.face_THW & (driving.clip.visible_BT1HW[0, :, 0] > 0)
    off = (made.flow_T2HW - flow).norm(dim=1)
    return (
        {
            "self_psnr": _psnr(again, photo_13HW, whole),
            "self_noisy_psnr": _psnr(noisy, photo_13HW, whole),
            "moved_psnr": _psnr(made.pictures_T3HW, true, seen),
            "moved_pixels_median": _quantile(off[seen], 0.5),
            "moved_still_median": _quantile(flow.norm(dim=1)[seen], 0.5),
        },
        true,
        made,
    )


@torch.no_grad()
def transferred(codec: WarpingCodec, photo_13HW: Tensor, driving: EvaluationClip) -> tuple[dict[str, float], GivenBack]:
    """The photo by z_photo + (z_frame - z_reference of the driving); its flow against the driving's in the face."""
    reference = codec.read_reference(photo_13HW)
    apart = codec.encode(driving.clip.frames_BT3HW) - codec.encode(driving.clip.reference_B3HW[:, None])
    made = give_back(codec, reference.latents_BCHW[:, None] + apart, reference)
    seen = driving.face_THW & (driving.clip.visible_BT1HW[0, :, 0] > 0)
    off = (made.flow_T2HW - driving.clip.flow_BT2HW[0]).norm(dim=1)
    return {"transfer_pixels_median": _quantile(off[seen], 0.5)}, made


def followed(flow_T2HW: Tensor, one: EvaluationClip, pairs: list[tuple[str, str]]) -> float:
    """The share of how one landmark moves up and down against another over the clip, [T], that the flow has too.

    The slope of a regression through the means: 1 follows wholly, 0 not at all; no number where hardly anything moves.
    """
    true, made = (
        torch.cat([_apart(flow, one, *pair) for pair in pairs]) for flow in (one.clip.flow_BT2HW[0], flow_T2HW)
    )
    if not true.std() > _MOVES:  # or it is no number
        return float("nan")
    return float((true * made).sum() / true.square().sum())


def _apart(flow_T2HW: Tensor, one: EvaluationClip, first: str, second: str) -> Tensor:
    """The difference of the flow's y at two landmarks, [T] less its mean."""
    places = one.clip.landmarks_BTL2[0][:, [LANDMARKS.index(first), LANDMARKS.index(second)]]
    found = fn.grid_sample(flow_T2HW, 2 * places[:, None] - 1, padding_mode="border", align_corners=False)[:, 1, 0]
    apart = found[:, 0] - found[:, 1]
    return apart - apart.mean()


def _best_gain(copied: Tensor, truth: Tensor, where_THW: Tensor) -> Tensor:
    """The brightness by which [T, 3, H, W] is the truth's in the mean of each gain's pixel, [T, 1, H, W]."""
    masks = _whole(where_THW)[:, None]
    own, true = (fn.avg_pool2d(part.mean(dim=1, keepdim=True) * masks, GAIN) for part in (copied, truth))
    gain = ((true + 1e-3) / (own + 1e-3)).log().clamp(-MOST_GAIN, MOST_GAIN)
    return fn.interpolate(gain, scale_factor=GAIN, mode="bilinear").exp()


def _psnr(pictures: Tensor, truth: Tensor, where_THW: Tensor) -> float:
    """dB of [T, 3, H, W] where the mask [T, H/2, W/2] is; of all frames together."""
    errors = (pictures - truth).square().mean(dim=1)[_whole(where_THW)]
    return metrics.psnr(errors.double().numpy())


def _sharpness(pictures: Tensor, truth: Tensor, where_THW: Tensor) -> float:
    masks = _whole(where_THW).float()
    own, true = (metrics.gradient_energy(part.movedim(1, -1), masks) for part in (pictures, truth))
    return metrics.sharpness(own, true)


def _whole(mask_THW: Tensor) -> Tensor:
    return mask_THW.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def _quantile(values: Tensor, share: float) -> float:
    return float(np.quantile(values.numpy(), share)) if values.numel() else float("nan")


def _share(chosen: Tensor) -> float:
    return float(chosen.float().mean()) if chosen.numel() else float("nan")
