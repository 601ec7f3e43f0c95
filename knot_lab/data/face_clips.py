"""Rendered clips as the face codec's latents with their driving signals, for the regression of knot-face.

A clip of a bank is an npz file: see `face_pictures.py`. Beside pictures it holds units [T, 52], pose [T, 3] in radians,
mel [T, 64], flags [3] (speech, pose, mouth), face [T, S/2, S/2], and units and pose of the reference.
Shapes: N clips, T pixel frames, F latent frames, R references.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.warping import WarpingCodec
from knot_core.errors import SettingsError
from knot_core.geometry import TEMPORAL

from .clip_shards import Clips, per_latent_frame

SHARD = 64  # clips


def prepare_bank(codec: WarpingCodec, bank: Path, folder: Path) -> list[Path]:
    """Make the shards of all whole sixty-fours of the bank's clips that are not there yet."""
    if codec.decoder.points is None or codec.decoder.points.code is None:
        raise SettingsError("the face codec has no code for how landmarks move; run the stage face-code first")
    files = [file for file in sorted(bank.glob("*.npz")) if is_of_a_person(file)]
    if len(files) < SHARD:
        raise SettingsError(f"{bank} holds {len(files)} clips; render at least {SHARD}: data heads --bank {bank}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"train-{number:04d}.safetensors" for number in range(len(files) // SHARD)]
    for number, path in enumerate(paths):
        if not path.exists():
            made = [read_clip(codec, file) for file in files[number * SHARD : (number + 1) * SHARD]]
            tensors = {name: torch.stack([vars(clip)[name] for clip in made]) for name in vars(made[0])}
            save_file({name: value.half().contiguous() for name, value in tensors.items()}, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
    return paths


@torch.no_grad()
def read_clip(codec: WarpingCodec, file: Path) -> Clips:
    """One clip, without the leading N. Its references: the rendered one, and some of its own frames by themselves."""
    with np.load(file) as stored:
        clip = {name: torch.from_numpy(stored[name]) for name in stored.files}
    frames, still = _pixels(clip["frames"]), _pixels(clip["reference"])
    own = range(0, len(frames), 8)
    references = torch.cat([still[None], frames[list(own)]])[:, None]
    controls = torch.cat([clip["units"], clip["pose"]], dim=-1).float()
    of_reference = torch.cat([clip["reference_units"], clip["reference_pose"][:3]]).float()
    face = _to_latents(torch.cat([clip["reference_face"][None], clip["face"]]).float(), codec)
    places, code = [1 + frame for frame in own], codec.decoder.points.code
    moved = (clip["landmarks"] - clip["reference_landmarks"]).float() / still.shape[-1]
    still_moved = torch.cat([torch.zeros_like(moved[:1]), moved[list(own)]])
    return Clips(
        latents=codec.encode(frames[None])[0],
        references=codec.encode(references)[:, 0],
        reference_controls=torch.cat([of_reference[None], controls[list(own)]]),
        reference_face=face[[0, *places]],
        mel=per_latent_frame(clip["mel"].float()),
        controls=per_latent_frame(controls),
        face=face[1::4],
        speaking=clip["flags"][0].float(),
        code=code.written(per_latent_frame(moved.flatten(1)).unflatten(-1, moved.shape[1:])),
        reference_code=code.written(still_moved[:, None].expand(-1, TEMPORAL, -1, -1)),
    )


def is_of_a_person(file: Path) -> bool:
    """Whether it has units of its reference: clips of natural pictures have none."""
    with np.load(file) as stored:
        return "reference_units" in stored.files


def _pixels(pictures: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] -> [..., 3, H, W] in 0..1."""
    return pictures.movedim(-1, -3).float() / 255


def _to_latents(masks_THW: Tensor, codec: WarpingCodec) -> Tensor:
    """Masks at half the size -> the share of each latent pixel, [T, h, w]."""
    return fn.avg_pool2d(masks_THW[:, None], codec.spatial // 2)[:, 0]
