"""The losses of the face codec: how a batch of clips is encoded and given back, and what each part of that costs.

The decoder is to copy wherever the reference shows a place and to paint only what it hides. So the flow is taught where
it is known, the copy has a loss of its own, as has what is painted, whatever the mask says, and the mask costs
something where copying would do. Latents get noise, as those of the built-in codec, and are held to a standard
deviation of 1. The encoder sees frames and reference as if by other cameras in other light, so that latents tell
geometry and not colours; what is compared is as it was. Landmarks that are read from latents have a loss of their own,
and the decoder is often told where they lie, so that it learns what follows from them before they are read well.

Shapes: B clips, T pixel frames (whole groups of four, or one), F latent frames, H W pixels, N = B*T.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.latent_matching import warp
from knot_core.codec.point_motion import Points
from knot_core.codec.warping import WarpingCodec, composed
from knot_core.codec.warping_networks import Motion, ReadReference
from knot_core.geometry import TEMPORAL

from ..data.face_batch import FaceClips
from ..rng import Dice
from ..stage_recipes import FaceCodecRecipe
from .fused_losses import edge_loss, weighted_charbonnier
from .latent_reader import ReadCodec, errors_in_parts, inside, landmark_loss
from .roles import TrainedModel
from .stage import Losses

_LEAST = 1e-3  # that a mask is off
_NEAR = 0.25  # pixels of a flow's error below which it counts as its square
_SHOWN_THERE, _SAME_PLACE = 0.5, 3.0  # of a landmark: the share that is visible; pixels from where its flow leads
_OFTEN = (4.0, 4.0, 1.5)  # how often the motion of eyes and mouth in themselves counts: lids move by a pixel or three
_ABOUT, _FARTHEST = 21, 12.0  # of half the size: the square about a pixel; pixels
_SCALES = (1, 2)  # of half the size, at which edges are compared


def face_codec_loss(model: TrainedModel, batch: FaceClips, dice: Dice, own: FaceCodecRecipe) -> Losses:
    """The losses of clips that are encoded, and given back from their latents and the reference."""
    count = max(1, batch.frames_BT3HW.shape[1] // TEMPORAL)
    height, width = (side // model.network.spatial for side in batch.reference_B3HW.shape[-2:])
    noise = _noise_strength(dice, own) * dice.normal(count, model.network.config.latent_channels, height, width)
    told = None
    if batch.reference_B3HW.shape[-1] < own.size or dice.shared_uniform() < own.told:
        num = batch.landmarks_BTL2.shape[2]
        blur = own.blur / own.size * dice.normal(TEMPORAL * count, num, 2)
        alike = own.misplaced / own.size * dice.normal(1, num, 2) if own.misplaced else torch.zeros(1, 1, num, 2)
        told = told_points(batch, *(part.to(batch.landmarks_BTL2) for part in (blur, alike)))
    return clip_losses(model.network, batch, noise.to(batch.reference_B3HW), own, told)


def told_points(batch: FaceClips, blur_BTL2: Tensor, alike_B1L2: Tensor) -> tuple[Points, Points]:
    """The landmarks of all pixel frames of whole groups, off by `blur`, and the reference's, as the decoder takes them,
    both off by `alike`; those that are not known, or lie outside, are nowhere.
    """
    frames, still = (places.unflatten(0, (-1, TEMPORAL)) for places in _in_fours(batch))
    alike_still = alike_B1L2.expand(len(still), -1, -1, -1)
    alike = alike_still.repeat_interleave(len(frames) // len(still), dim=0)
    blur = blur_BTL2.flatten(0, 1).unflatten(0, (-1, TEMPORAL))
    own, still = (
        Points(places_NL2=places.nan_to_num(0.5), sure_NL=inside(places).float())
        for places in ((part.flatten(0, 1) for part in (frames + blur + alike, still + alike_still)))
    )
    return own, still


def clip_losses(
    codec: ReadCodec,
    batch: FaceClips,
    noise_BFChw: Tensor,
    own: FaceCodecRecipe,
    told: tuple[Points, Points] | None = None,
) -> Losses:
    """The losses, all []; the latents get the noise [B, F, C, h, w]. The decoder reads where landmarks lie, or is told
    it of the frames and of the reference.
    """
    count = batch.frames_BT3HW.shape[1]
    latents = encoded(codec, batch.frames_seen_BT3HW).float()
    still = codec.encoder.still(_laid_out(batch.reference_seen_B3HW)).float()
    reference = codec.read_reference(batch.reference_B3HW, still)
    if told is not None:
        reference = replace(reference, points=told[1])
    motion = motion_of(codec, latents + noise_BFChw, reference, count, None if told is None else told[0])
    weight = batch.weight_B1HW.repeat_interleave(count, dim=0)
    half_weight, half_truth = (fn.avg_pool2d(part, 2) for part in (weight, batch.frames_BT3HW.flatten(0, 1)))
    copied = _half_copy(motion, batch)
    painted = fn.avg_pool2d(motion.residual_N3HW, 2)
    half = torch.lerp(copied, painted, motion.mask_N1HW)
    picture = picture_loss(half, half_truth, half_weight, own.edges, _SCALES)
    if count > 1:  # whole size costs four times as much: of each clip the last picture
        whole = composed(_last_of_each(motion, count), reference)
        picture = picture + own.whole * picture_loss(
            whole, batch.frames_BT3HW[:, -1], batch.weight_B1HW, own.edges, (1,)
        )
    visible = batch.visible_BT1HW.flatten(0, 1)
    parts = {
        "picture": picture,
        "copied": own.copied * weighted_charbonnier(copied - half_truth, visible * half_weight),
        "painted": own.painted * weighted_charbonnier(painted - half_truth, (1 - visible) * half_weight),
        "flow": own.flow * _flow_losses(motion, batch, half_weight, own.rough, own.apart),
        "points": own.points * point_loss(motion.flow_N2HW, batch),
        "masked": own.masked * _mask_loss(motion.mask_N1HW, batch, half_weight, own.hidden),
        "pull": own.pull * _pull(latents),
        "landmarks": own.landmarks * _landmark_loss(codec, latents + noise_BFChw, still, batch, own.size),
    }
    figures = {
        "pixels": _flow_error(motion.flow_N2HW, batch, half_weight),
        "still": _flow_error(torch.zeros_like(motion.flow_N2HW), batch, half_weight),
    }
    return {"loss": sum(parts.values()), **{name: part.detach() for name, part in parts.items()}, **figures}


def picture_loss(output: Tensor, truth: Tensor, weight: Tensor, edges: float, scales: tuple[int, ...]) -> Tensor:
    """Colours and, at these scales, edges, [N, 3, H, W] against the truth's, weighted by [N, 1, H, W]."""
    error = output.float() - truth
    loss = weighted_charbonnier(error, weight)
    for scale in scales:
        rough, counts = (part if scale == 1 else fn.avg_pool2d(part, scale) for part in (error, weight))
        loss = loss + edges * scale / 2 * edge_loss(rough, counts)
    return loss


def encoded(codec: WarpingCodec, frames_BTCHW: Tensor) -> Tensor:
    """Latents [B, F, C, h, w] of whole groups, or of single pictures."""
    encode = codec.encoder.still if frames_BTCHW.shape[1] == 1 else codec.encoder
    return encode(_laid_out(frames_BTCHW.flatten(0, 1))).unflatten(0, (len(frames_BTCHW), -1))


def motion_of(
    codec: WarpingCodec, latents: Tensor, reference: ReadReference, num_frames: int, points: Points | None = None
) -> Motion:
    """The decoder's output from latents [B, F, C, h, w] of whole groups, or of single pictures."""
    if num_frames == 1:
        return codec.decoder.last_frames(latents[:, 0], reference, points)
    return codec.decoder(latents, reference, None, points)[0]


def _pull(latents_BFCHW: Tensor) -> Tensor:
    """log(variance)^2 + mean^2: both over channels, the variance about each channel's own mean"""
    means = latents_BFCHW.mean(dim=(0, 1, 3, 4), keepdim=True)
    return (latents_BFCHW - means).square().mean().log().square() + means.square().mean()


def _noise_strength(dice: Dice, own: FaceCodecRecipe) -> float:
    return own.noise * min(1.0, (dice.step + 1) / own.noise_ramp)


def _last_of_each(motion: Motion, count: int) -> Motion:
    """The motion of the last of every `count` pixel frames."""
    return Motion(**{name: part[count - 1 :: count] for name, part in vars(motion).items()})


def _half_copy(motion: Motion, batch: FaceClips) -> Tensor:
    """The copy alone, at half the size, [N, 3, H/2, W/2]."""
    still = fn.avg_pool2d(batch.reference_B3HW, 2).repeat_interleave(batch.frames_BT3HW.shape[1], dim=0)
    gain = fn.interpolate(motion.log_gain_N1HW.exp(), scale_factor=4, mode="bilinear")
    return warp(still, motion.flow_N2HW, 2) * gain


def _flow_losses(motion: Motion, batch: FaceClips, weight_N1HW: Tensor, rough: float, apart: float) -> Tensor:
    """Pixels by which the flow is off where it is known; with the weight `rough`, the smaller flows, too.

    What moves otherwise than what is about it counts more, by `apart` for each pixel: a lid is small, and all of it
    that is seen when the eye shuts comes from a strip.
    """
    visible, truth = batch.visible_BT1HW.flatten(0, 1), batch.flow_BT2HW.flatten(0, 1)
    loss = _off(motion.flow_N2HW, truth, visible * weight_N1HW * (1 + apart * moved_apart(truth, visible)))
    for flow in (motion.rough_N2HW, motion.matched_N2HW):
        times = truth.shape[-1] // flow.shape[-1]
        shares = fn.avg_pool2d(visible, times)
        mean = fn.avg_pool2d(truth * visible, times) / shares.clamp_min(1e-3)
        loss = loss + rough * _off(flow, mean, shares * fn.avg_pool2d(weight_N1HW, times))
    return loss


def moved_apart(flow_N2HW: Tensor, visible_N1HW: Tensor) -> Tensor:
    """Pixels, up to `_FARTHEST`, by which a flow differs from the mean of what is seen about it: [N, 1, H, W]."""
    mean, seen = (
        fn.avg_pool2d(part, _ABOUT, stride=1, padding=_ABOUT // 2) for part in (flow_N2HW * visible_N1HW, visible_N1HW)
    )
    own = (flow_N2HW - mean / seen.clamp_min(1e-3)).norm(dim=1, keepdim=True)
    return own.clamp(max=_FARTHEST) * visible_N1HW


def point_loss(flow_N2HW: Tensor, batch: FaceClips) -> Tensor:
    """Pixels by which the flow [N, 2, H, W] is off at landmarks; in eyes and mouth also less what a part has in common.

    A part moves as the head does, and by far more than its lids or lips move in it: those would be learnt last.
    """
    places = batch.landmarks_BTL2.flatten(0, 1)
    count, side = batch.landmarks_BTL2.shape[1], 2 * flow_N2HW.shape[-1]
    truth = side * (batch.reference_landmarks_BL2.repeat_interleave(count, dim=0) - places)
    found, label, seen = (
        fn.grid_sample(part, 2 * places.nan_to_num(2.0)[:, None] - 1, align_corners=False)[:, :, 0].movedim(1, 2)
        for part in (flow_N2HW, batch.flow_BT2HW.flatten(0, 1), batch.visible_BT1HW.flatten(0, 1))
    )
    truth = truth.nan_to_num()
    shown = (seen[..., 0] > _SHOWN_THERE) & ((label - truth).norm(dim=-1) < _SAME_PLACE)
    error = (found - truth) * shown[..., None]
    off = _length(error)
    for own, often in zip(errors_in_parts(error, shown), _OFTEN, strict=True):
        off = off + often * _length(own)
    return off / shown.sum().clamp_min(1)


def _length(error_NL2: Tensor) -> Tensor:
    """The sum of all lengths, in pixels; of short ones the square."""
    return ((error_NL2.square().sum(dim=-1) + _NEAR**2).sqrt() - _NEAR).sum()


def _off(flow: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """The mean distance of flows [N, 2, H, W], in pixels, of short ones the square."""
    error = (flow - truth).square().sum(dim=1, keepdim=True)
    return (((error + _NEAR**2).sqrt() - _NEAR) * weight).mean()


@torch.no_grad()
def _flow_error(flow_N2HW: Tensor, batch: FaceClips, weight_N1HW: Tensor) -> Tensor:
    """The mean error in pixels where the flow is known, weighted."""
    known = batch.visible_BT1HW.flatten(0, 1) * weight_N1HW
    error = (flow_N2HW - batch.flow_BT2HW.flatten(0, 1)).square().sum(dim=1, keepdim=True).sqrt()
    return (error * known).sum() / known.sum().clamp_min(1)


def _mask_loss(mask_N1HW: Tensor, batch: FaceClips, weight_N1HW: Tensor, often: float) -> Tensor:
    """Weighted cross entropy where it is known whether the reference shows the place; hidden ones, which are few, count
    `often` times.
    """
    visible, hidden = (part.flatten(0, 1) for part in (batch.visible_BT1HW, batch.hidden_BT1HW))
    mask = mask_N1HW.clamp(_LEAST, 1 - _LEAST)
    return -(((1 - mask).log() * visible + often * mask.log() * hidden) * weight_N1HW).mean()


def _landmark_loss(codec: ReadCodec, latents_BFChw: Tensor, still_BChw: Tensor, batch: FaceClips, whole: int) -> Tensor:
    """The loss of the landmarks read from latents, of all pixel frames and of the reference.

    Nobody can tell which eye a part of a picture shows: what lies outside of it is not said to be nowhere.
    """
    if codec.decoder.points is None:
        return still_BChw.new_zeros(())
    known = torch.cat(_in_fours(batch))
    if batch.reference_B3HW.shape[-1] < whole:
        known = torch.where(inside(known)[..., None], known, torch.nan)
    maps = codec.decoder.points.reader.maps(torch.cat([latents_BFChw.flatten(0, 1), still_BChw]))
    return landmark_loss(maps, still_BChw.shape[-2:], known)


def _in_fours(batch: FaceClips) -> tuple[Tensor, Tensor]:
    """The landmarks of the pixel frames of all latent frames, and of the reference's, [N, L, 2]; a picture by itself
    is four of them.
    """
    own, still = batch.landmarks_BTL2, batch.reference_landmarks_BL2.repeat_interleave(TEMPORAL, dim=0)
    if own.shape[1] == 1:
        own = own.expand(-1, TEMPORAL, -1, -1)
    return own.flatten(0, 1), still


def _laid_out(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.contiguous(memory_format=torch.channels_last)
