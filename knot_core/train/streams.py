"""The student's own streams on drawn portraits, whose true pictures are known: what the decoder is tuned on.

Shapes: N streams, F latent frames, T pixel frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..codec.taehv import TAEHV
from ..geometry import num_pixel_frames
from ..wan.model import WanNetwork
from . import avatars
from .batch import Given, full_signal
from .clips import ClipRecipe, draw_driving, encode_pictures, per_latent_frame, portrait_poses
from .dice import Dice
from .roles import Role
from .rollout import StudentRecipe
from .self_forcing import Length, roll_out

_TOGETHER = 16  # streams in a batch


@dataclass(frozen=True, kw_only=True)
class StreamRecipe(ClipRecipe):
    """What decides the streams; their people are no clip's."""

    first: int = 2_000_000
    latent_frames: int = 15  # whole chunks
    references: int = 1


@dataclass(frozen=True, kw_only=True)
class Streams:
    """What the student made, and what it should have been."""

    latents: Tensor  # [N, F, 16, h, w]
    controls: Tensor  # [N, T, 8]: with the identity, the true pictures
    identities: Tensor  # [N] seeds

    def window(self, rows: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """`length` latent frames of these streams, each from its own start: latents [B, length, 16, h, w], the
        controls of their pictures [B, 4 length, 8], and the seeds of the identities [B].
        """
        frames = starts[:, None] + torch.arange(length)
        controls = per_latent_frame(self.controls[rows])[torch.arange(len(rows))[:, None], frames]
        return self.latents[rows[:, None], frames].float(), controls.flatten(1, 2).float(), self.identities[rows]


def prepare_streams(
    codec: TAEHV, network: WanNetwork, recipe: StreamRecipe, student: StudentRecipe, shards: int, folder: Path
) -> list[Path]:
    """Make the shards that are not there yet; a run that is cut off goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{recipe.split}-{number:04d}.safetensors" for number in range(shards)]
    draw = avatars.compiled_draw()
    for number, path in enumerate(paths):
        if not path.exists():
            streams = make_streams(codec, network, recipe, student, number, draw)
            save_file(vars(streams), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
    return paths


def load_streams(paths: list[Path]) -> Streams:
    """All shards in memory."""
    shards = [load_file(path) for path in paths]
    return Streams(**{name: torch.cat([shard[name] for shard in shards]) for name in shards[0]})


@torch.no_grad()
def make_streams(
    codec: TAEHV, network: WanNetwork, recipe: StreamRecipe, student: StudentRecipe, number: int, draw: Callable
) -> Streams:
    """One shard: everybody streams from a nearly frontal picture, fully driven."""
    settings, first = student.settings, recipe.first + number * recipe.shard
    signals = recipe.latent_frames + settings.num_knot_frames
    rng = np.random.default_rng([recipe.seed, avatars.SPLITS[recipe.split], number, 8])
    mel, controls, speaking = draw_driving(recipe, first, num_pixel_frames(0, signals), rng)
    identities = torch.arange(first, first + recipe.shard)
    values = avatars.stack_identities([avatars.identity(int(seed), recipe.split) for seed in identities])
    pictures = avatars.render(values, portrait_poses(rng, recipe.shard, 1), recipe.size, draw=draw)
    reference = encode_pictures(codec, pictures)
    signal = full_signal(per_latent_frame(mel), per_latent_frame(controls), speaking)
    device = torch.device(student.device)
    role = Role(network, dtype=torch.bfloat16, device=device)
    latents = []
    for rows in torch.arange(recipe.shard).split(_TOGETHER):
        given = Given(
            reference_B1CHW=reference[rows],
            reference_position_B=torch.zeros(len(rows), dtype=torch.long),
            signal_BFTS=signal[rows],
            text_BTD=torch.zeros(1, 1, student.network.text_dim),
        ).to(device)
        length = Length(chunks=recipe.latent_frames // settings.num_chunk_frames)
        dice = Dice(recipe.seed, number, rows.tolist(), part=9)
        latents.append(role(roll_out, given, settings, length, dice)[0].cpu())
    shown = num_pixel_frames(0, recipe.latent_frames)
    return Streams(
        latents=torch.cat(latents).half(), controls=controls[:, :shown].contiguous(), identities=identities
    )
