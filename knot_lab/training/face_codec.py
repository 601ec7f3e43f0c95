"""Train the video autoencoder that moves a reference picture; `face_codec_losses.py` says what by.

Shapes: B clips, T pixel frames (whole groups of four), H W pixels.
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

from knot_core.codec.latent_matching import warp
from knot_core.codec.warping import WarpingCodec, composed
from knot_core.codec.warping_networks import MemoryBlock, ResBlock
from knot_core.errors import SettingsError
from knot_core.media.landmark_names import GROUPS, LANDMARKS

from ..data.face_batch import FaceClips
from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice
from .face_codec_losses import encoded, face_codec_loss, motion_of
from .landmark_code_fit import read_landmark_code
from .latent_reader import ReadCodec
from .optimizers import make_optimizer
from .roles import TrainedModel
from .stage import Losses, Stage, Update, make_role
from .training_state import load_training

NAME = "face-codec"
FILE = "knot-face-codec.safetensors"
_OUTER = ("encoder.frame.0.", "encoder.group.5.", "decoder.first.", "decoder.coarse.", "decoder.head.",
          "decoder.reference.0.", "decoder.points.")  # fmt: skip
_CODE = "decoder.points.code."  # fitted when all is trained
_SHOWN = (0, 3, 7)  # pixel frames of a clip on the sheet


def build_face_codec(recipe: Recipe, team: Team, start: Mapping[str, Tensor] | None = None) -> Stage:
    """The stage `face-codec` at its beginning, or with the weights `start` of an autoencoder that is trained already.

    Raises:
        CheckpointError: `start` holds no warping autoencoder.
        SettingsError: it has other widths than the recipe's.
    """
    own = recipe.face_codec
    with torch.random.fork_rng():
        torch.manual_seed(own.seed)
        codec = started(ReadCodec(own.codec))
    if start is not None:
        _go_on_from(codec, start)
    codec.encoder.requires_grad_(own.encoder_learns)
    average = ReadCodec(own.codec)
    average.load_state_dict(codec.state_dict())
    role = make_role(codec, recipe, team)

    def losses(stage: Stage, batch: FaceClips, dice: Dice) -> Losses:
        return stage.roles["codec"](partial(face_codec_loss, own=own), batch, dice)

    return Stage(
        name=NAME,
        recipe=recipe,
        own=own,
        team=team,
        roles={"codec": role, "average": make_role(average, recipe, team, learns=False)},
        optimizers={"codec": make_optimizer(recipe.optimizer, role, own, own.lr, _OUTER)},
        learner="codec",
        updates=(Update(role="codec", losses=losses),),
        fixed={"network": json.dumps(dataclasses.asdict(codec.config))},
        write=_write,
        sample=_sample,
        sheet=draw_face_sheet,
    )


def _go_on_from(codec: ReadCodec, start: Mapping[str, Tensor]) -> None:
    """Load an autoencoder as it ships; where it reads no landmarks, what reads them begins anew and tells nothing."""
    own = {name: tensor.float() for name, tensor in start.items() if not name.startswith(_CODE)}
    trained = WarpingCodec.from_state_dict(own)
    weights, config = codec.of_engine(trained.state_dict()), codec.config
    if config.points and not trained.config.points:
        config = dataclasses.replace(config, points=0)
        told = codec.decoder.join.in_channels - trained.decoder.join.in_channels
        weights["decoder.join.weight"] = fn.pad(weights["decoder.join.weight"], (0, 0, 0, 0, 0, told))
    if trained.config != config:
        raise SettingsError(f"the weights to begin with are of {trained.config}, the recipe's of {codec.config}")
    codec.load_state_dict(codec.state_dict() | weights)


def export_face_codec(folder: Path, assets: Path) -> Path:
    """The averaged weights of the folder's training, in half precision, as the engine loads them."""
    weights, step = _averaged(folder)
    assets.mkdir(parents=True, exist_ok=True)
    _save({name: tensor.half() for name, tensor in weights.items()}, assets / FILE, step)
    return assets / FILE


def trained_face_codec(folder: Path) -> WarpingCodec:
    """The codec of the folder's training, with its averaged weights."""
    weights, _ = _averaged(folder)
    return WarpingCodec.from_state_dict(_engines(weights)).requires_grad_(False)


def _averaged(folder: Path) -> tuple[Mapping[str, Tensor], int]:
    state = load_training(folder / f"{NAME}.ckpt")
    if state is None:
        raise SettingsError(f"there is no trained face codec in {folder}; run the stage {NAME!r} first")
    code = read_landmark_code(folder) or {}
    return state["roles"]["average"] | {f"{_CODE}{name}": tensor for name, tensor in code.items()}, state["step"]


def _engines(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that the engine has, by its names."""
    return ReadCodec.for_engine({name.removeprefix("network."): tensor for name, tensor in weights.items()})


@torch.no_grad()
def _sample(stage: Stage, batch: FaceClips, _: Dice) -> Tensor:
    """The averaged weights' pictures, the copy alone, and the mask: [B, T, 3, 3, H, W]."""
    return stage.roles["average"](_shown, batch)


def _shown(model: TrainedModel, batch: FaceClips) -> Tensor:
    codec, rows = model.network, []
    for row in range(len(batch.frames_BT3HW)):
        frames = batch.frames_BT3HW[row]
        reference = codec.read_reference(batch.reference_B3HW[row : row + 1])
        motion = motion_of(codec, encoded(codec, frames[None]), reference, len(frames))
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
def started(codec: WarpingCodec) -> WarpingCodec:
    """Initial weights: activations keep their size (He et al., arXiv 1502.01852), residual blocks do nothing, and the
    reference stands still.
    """
    points = codec.decoder.points
    heads = (codec.decoder.coarse, codec.decoder.head, points and points.local)  # a new one's says nothing
    for layer in codec.modules():
        if isinstance(layer, nn.Conv2d) and layer not in heads:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for layer in codec.modules():
        if isinstance(layer, ResBlock | MemoryBlock):
            nn.init.zeros_(layer.conv[-1].weight)
    if points is not None and points.mix.shape == (len(GROUPS), len(LANDMARKS)):
        nn.init.zeros_(points.mix)
        for row, members in enumerate(GROUPS):
            points.mix[row, members] = 1.0
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
    save_file(_engines(weights), path, metadata={"family": "warping", "steps": str(steps)})
