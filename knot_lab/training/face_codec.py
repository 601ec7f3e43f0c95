"""Train the video autoencoder that moves a reference picture.

The decoder is to copy wherever the reference shows a place and to paint only what it hides. So the flow is taught where
it is known, the copy has a loss of its own, and the mask costs something where copying would do. Latents get noise, as
those of the built-in codec, and are held to a standard deviation of 1. What the encoder sees is tinted a little, the
reference and the frames apart, so that colours are not read from latents; what is compared is not.

Shapes: B clips, T pixel frames (whole groups of four), F latent frames, H W pixels, N = B*T.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as fn

from knot_core.codec.warping import MemoryBlock, Motion, ReadReference, ResBlock, WarpingCodec, composed, warp
from knot_core.errors import SettingsError

from ..data.face_batch import FaceClips
from ..parallel import Team
from ..recipes import FaceCodecRecipe, Recipe
from ..rng import Dice
from .losses import charbonnier, edges_of
from .optimizers import make_optimizer
from .roles import TrainedModel
from .stage import Losses, Stage, Update, make_role
from .training_state import load_training

NAME = "face-codec"
FILE = "knot-face-codec.safetensors"
_OUTER = ("encoder.frame.0.", "encoder.group.5.", "decoder.first.", "decoder.coarse.", "decoder.head.",
          "decoder.reference.0.")  # fmt: skip
_NEAR = 0.25  # pixels of a flow's error below which it counts as its square
_SCALES = (1, 2, 4)  # at which edges are compared
_SHOWN = (0, 3, 7)  # pixel frames of a clip on the sheet


def build_face_codec(recipe: Recipe, team: Team) -> Stage:
    """The stage `face-codec` at its beginning."""
    own = recipe.face_codec
    with torch.random.fork_rng():
        torch.manual_seed(own.seed)
        codec = _start(WarpingCodec(own.codec))
    role = make_role(codec, recipe, team)
    average = WarpingCodec(own.codec)
    average.load_state_dict(codec.state_dict())

    def losses(stage: Stage, batch: FaceClips, dice: Dice) -> Losses:
        return stage.roles["codec"](partial(face_codec_loss, own=own), batch, dice)

    return Stage(
        name=NAME,
        recipe=recipe,
        own=own,
        team=team,
        roles={"codec": role, "average": make_role(average, recipe, team, learns=False)},
        optimizers={"codec": make_optimizer(recipe.optimizer, role, own, own.lr, team, _OUTER)},
        learner="codec",
        updates=(Update(role="codec", losses=losses),),
        fixed={"network": json.dumps(dataclasses.asdict(codec.config))},
        write=_write,
        sample=_sample,
        sheet=draw_face_sheet,
    )


def export_face_codec(folder: Path, assets: Path) -> Path:
    """The averaged weights of the folder's training, in half precision, as the engine loads them."""
    weights, step = _averaged(folder)
    assets.mkdir(parents=True, exist_ok=True)
    _save({name: tensor.half() for name, tensor in weights.items()}, assets / FILE, step)
    return assets / FILE


def trained_face_codec(folder: Path) -> WarpingCodec:
    """The codec of the folder's training, with its averaged weights."""
    weights, _ = _averaged(folder)
    codec = WarpingCodec.from_state_dict({_plain(name): tensor for name, tensor in weights.items()})
    return codec.requires_grad_(False)


def _averaged(folder: Path) -> tuple[Mapping[str, Tensor], int]:
    state = load_training(folder / f"{NAME}.ckpt")
    if state is None:
        raise SettingsError(f"there is no trained face codec in {folder}; run the stage {NAME!r} first")
    return state["roles"]["average"], state["step"]


def _plain(name: str) -> str:
    return name.removeprefix("network.")


def face_codec_loss(model: TrainedModel, batch: FaceClips, dice: Dice, own: FaceCodecRecipe) -> Losses:
    """The losses of clips that are encoded, and given back from their latents and the reference."""
    codec, frames = model.network, batch.frames_BT3HW
    latents, reference = _seen(codec, batch, dice, own)
    motion = _motion(codec, latents + _noise(latents, dice, own), reference, frames.shape[1])
    output = composed(motion, reference).unflatten(0, frames.shape[:2])
    weight = batch.weight_B1HW[:, None].expand(-1, frames.shape[1], -1, -1, -1)
    parts = {
        "picture": picture_loss(output, frames, weight, own.edges),
        "copied": own.copied * _copy_loss(motion, batch),
        "flow": own.flow * _flow_loss(motion.flow_N2HW, batch),
        "masked": own.masked * _mask_loss(motion.mask_N1HW, batch),
        "pull": own.pull * _pull(latents),
    }
    figures = {
        "error": (output.detach() - frames).square().mean(),
        "pixels": _flow_error(motion.flow_N2HW, batch),
        "still": _flow_error(torch.zeros_like(motion.flow_N2HW), batch),
    }
    return {"loss": sum(parts.values()), **{name: part.detach() for name, part in parts.items()}, **figures}


def picture_loss(output: Tensor, truth: Tensor, weight: Tensor, edges: float) -> Tensor:
    """Colours and, at three scales, edges, [B, T, 3, H, W] against the truth's, weighted by [B, T, 1, H, W]."""
    error = output - truth
    loss = (charbonnier(error) * weight).mean()
    for scale in _SCALES:
        rough, counts = (fn.avg_pool2d(part.flatten(0, 1), scale)[None] for part in (error, weight))
        loss = loss + edges * scale / 2 * sum((charbonnier(e) * c).mean() for e, c in edges_of(rough, counts))
    return loss


def _seen(codec: WarpingCodec, batch: FaceClips, dice: Dice, own: FaceCodecRecipe) -> tuple[Tensor, ReadReference]:
    """Latents [B, F, C, h, w] of the frames, and the reference with the latents of what the encoder sees of it."""
    frames, still = batch.frames_BT3HW, batch.reference_B3HW
    tints = own.tint * dice.normal(2, 2, 3).to(frames)[..., None, None]  # [B, frames or reference, gain or offset, 3]
    shown = frames * (1 + tints[:, :1, 0]) + tints[:, :1, 1]
    still_shown = still * (1 + tints[:, 1, 0]) + tints[:, 1, 1]
    return _encoded(codec, shown), codec.read_reference(still, codec.encoder.still(_laid_out(still_shown)))


def _encoded(codec: WarpingCodec, frames_BTCHW: Tensor) -> Tensor:
    """Latents [B, F, C, h, w] of whole groups, or of single pictures."""
    encode = codec.encoder.still if frames_BTCHW.shape[1] == 1 else codec.encoder
    return encode(_laid_out(frames_BTCHW.flatten(0, 1))).unflatten(0, (len(frames_BTCHW), -1))


def _motion(codec: WarpingCodec, latents: Tensor, reference: ReadReference, num_frames: int) -> Motion:
    if num_frames == 1:
        return codec.decoder.last_frames(latents[:, 0], reference)
    return codec.decoder(latents, reference, None)[0]


def _pull(latents_BFCHW: Tensor) -> Tensor:
    """log(variance)^2 + mean^2: both over channels, the variance about each channel's own mean"""
    means = latents_BFCHW.mean(dim=(0, 1, 3, 4), keepdim=True)
    return (latents_BFCHW - means).square().mean().log().square() + means.square().mean()


def _noise(latents: Tensor, dice: Dice, own: FaceCodecRecipe) -> Tensor:
    strength = own.noise * min(1.0, (dice.step + 1) / own.noise_ramp)
    return strength * dice.normal(*latents.shape[1:]).to(latents)


def _copy_loss(motion: Motion, batch: FaceClips) -> Tensor:
    """At half the size, where the reference shows the place."""
    truth = fn.avg_pool2d(batch.frames_BT3HW.flatten(0, 1), 2)
    still = fn.avg_pool2d(batch.reference_B3HW, 2).repeat_interleave(batch.frames_BT3HW.shape[1], dim=0)
    gain = fn.interpolate(motion.log_gain_N1HW.exp(), scale_factor=4, mode="bilinear")
    error = warp(still, motion.flow_N2HW, 2) * gain - truth
    return (charbonnier(error) * batch.visible_BT1HW.flatten(0, 1)).mean()


def _flow_loss(flow_N2HW: Tensor, batch: FaceClips) -> Tensor:
    """Pixels by which the flow is off, where it is known."""
    error = (flow_N2HW - batch.flow_BT2HW.flatten(0, 1)).square().sum(dim=1, keepdim=True)
    return (((error + _NEAR**2).sqrt() - _NEAR) * batch.visible_BT1HW.flatten(0, 1)).mean()


@torch.no_grad()
def _flow_error(flow_N2HW: Tensor, batch: FaceClips) -> Tensor:
    """The mean error in pixels where the flow is known."""
    known = batch.visible_BT1HW.flatten(0, 1)
    error = (flow_N2HW - batch.flow_BT2HW.flatten(0, 1)).square().sum(dim=1, keepdim=True).sqrt()
    return (error * known).sum() / known.sum().clamp_min(1)


def _mask_loss(mask_N1HW: Tensor, batch: FaceClips) -> Tensor:
    visible, hidden = (part.flatten(0, 1) for part in (batch.visible_BT1HW, batch.hidden_BT1HW))
    return (mask_N1HW * visible + (1 - mask_N1HW) * hidden).mean()


@torch.no_grad()
def _sample(stage: Stage, batch: FaceClips, _: Dice) -> Tensor:
    """The averaged weights' pictures, the copy alone, and the mask: [B, T, 3, 3, H, W]."""
    codec = stage.roles["average"].network
    rows = []
    for row in range(len(batch.frames_BT3HW)):
        frames = batch.frames_BT3HW[row]
        reference = codec.read_reference(batch.reference_B3HW[row : row + 1])
        motion = _motion(codec, _encoded(codec, frames[None]), reference, len(frames))
        flow, mask = (fn.interpolate(part, scale_factor=2) for part in (motion.flow_N2HW, motion.mask_N1HW))
        copied = warp(reference.pixels_BCHW.expand(len(flow), -1, -1, -1), flow, 1)
        rows.append(torch.stack([composed(motion, reference), copied, mask.expand(-1, 3, -1, -1)], dim=1))
    return torch.stack(rows)


def draw_face_sheet(path: Path, batch: FaceClips, made: Tensor) -> np.ndarray:
    """Write a PNG, a row a clip: the reference, then for some frames the truth, what was made of it [B, T, 3, 3, H, W],
    the copy alone and the mask; returns uint8 [H, W, 3].
    """
    frames = [frame for frame in _SHOWN if frame < made.shape[1]]
    rows = torch.cat([batch.frames_BT3HW[:, frames, None], made[:, frames].float()], dim=2)
    rows = torch.cat([batch.reference_B3HW[:, None, None], rows.flatten(1, 2)[:, None]], dim=2)
    sheet = rearrange(rows, "b t r c h w -> (b h) (t r w) c").clamp(0, 1).mul(255).round().byte().cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
    return sheet


@torch.no_grad()
def _start(codec: WarpingCodec) -> WarpingCodec:
    """Initial weights: activations keep their size (He et al., arXiv 1502.01852), residual blocks do nothing, and the
    reference stands still.
    """
    heads = (codec.decoder.coarse, codec.decoder.head)
    for layer in codec.modules():
        if isinstance(layer, nn.Conv2d) and layer not in heads:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for layer in codec.modules():
        if isinstance(layer, ResBlock | MemoryBlock):
            nn.init.zeros_(layer.conv[-1].weight)
    _spread(codec)
    return codec


def _spread(codec: WarpingCodec) -> None:
    """Every latent channel gets mean 0 and standard deviation 1 over smooth noise: features behind ReLUs alone are all
    nearly the same everywhere.
    """
    noise = fn.interpolate(torch.rand(16, 3, 12, 12), size=(128, 128), mode="bicubic").clamp(0, 1)
    last, latents = codec.encoder.group[-1], codec.encoder.still(noise)
    deviation, mean = latents.std(dim=(0, 2, 3)), latents.mean(dim=(0, 2, 3))
    last.weight /= deviation[:, None, None, None]
    last.bias.copy_((last.bias - mean) / deviation)


def _write(_: Stage, weights: Mapping[str, Tensor], path: Path, steps: int) -> None:
    _save(weights, path, steps)


def _save(weights: Mapping[str, Tensor], path: Path, steps: int) -> None:
    tensors = {_plain(name): tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, metadata={"family": "warping", "steps": str(steps)})


def _laid_out(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.contiguous(memory_format=torch.channels_last)
