"""Training clips: portraits that speak or move, as latents with their driving signals, made once and kept in shards.

Shapes: N clips, F latent frames, R references, S signal values; latents [N, F, 16, h, w].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.landmark_code import token_means, with_means
from knot_core.codec.taehv import TAEHV
from knot_core.driving.audio import MEL_DIM, log_mel
from knot_core.geometry import num_pixel_frames

from ..precision import mixed_precision
from ..rng import Dice
from ..stage_recipes import ClipRecipe
from ..synthetic import avatars
from ..synthetic.avatars import box_mask
from ..synthetic.motion import lively_controls, sample_controls
from ..synthetic.sentences import speak_phrases

CLIPS_PER_SPEECH = 4  # neighbouring clips share one recording: starting a voice costs more than letting it talk
LIVELY = 0.43  # share of the other clips in which controls cross their ranges fast; the rest move calmly
_LATENT_MASK_SCALE = 8
PORTRAITS = 3  # the first references of everybody are as the pictures that people give: nearly frontal, at rest
_AS_PORTRAIT = 0.7  # how often such a one is the reference


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Some clips, or single frames of them: all that is known of N drawn ones."""

    latents: Tensor  # [N, F, 16, h, w]
    references: Tensor  # [N, R, 16, h, w]: the same person at other moments
    reference_controls: Tensor  # [N, R, 8]
    reference_face: Tensor  # [N, R, h, w]
    mel: Tensor  # [N, F, 4, 64]
    controls: Tensor  # [N, F, 4, 8]
    face: Tensor  # [N, F, h, w]: share of each latent pixel inside the face box
    speaking: Tensor  # [N]: whether the sound is speech that belongs to the mouth
    # of codecs whose latents' means tell how landmarks move: what they tell of the motion from the first reference
    code: Tensor | None = None  # [N, F, K]
    reference_code: Tensor | None = None  # [N, R, K]

    def tensors(self) -> dict[str, Tensor]:
        """All that is known of them, by name, as shards hold it."""
        return {name: value.contiguous() for name, value in vars(self).items() if value is not None}

    def pick(self, rows: Tensor) -> Clips:
        """The clips of these rows, [B] whole numbers, in float32."""
        return Clips(**{name: value[rows].float() for name, value in self.tensors().items()})

    def from_reference(self, chosen: Tensor) -> tuple[Clips, Tensor]:
        """The clips as they move from the reference of these numbers, [N], and that, [N, 1, 16, h, w]."""
        rows = torch.arange(len(chosen))
        reference = self.references[rows, chosen][:, None]
        if self.code is None:
            return self, reference
        moved = self.code - self.reference_code[rows, chosen][:, None]
        means = (token_means(reference[:, 0])[:, None] + moved).flatten(0, 1)
        latents = with_means(self.latents.flatten(0, 1), means).unflatten(0, self.latents.shape[:2])
        return replace(self, latents=latents), reference

    def apart(self, count: int, dice: Dice) -> tuple[Clips, Tensor]:
        """``count`` single frames of every clip [N count, 1, ...] and one reference of each [N, 1, 16, h, w].

        A frame is any latent frame of the clip or any other reference: people whom only their references show count.
        """
        N, F, R = len(self.latents), self.latents.shape[1], self.references.shape[1]
        still = per_latent_frame(self.reference_controls[:, :, None])[:, :, 0]
        silent = self.mel.new_zeros(N, R, *self.mel.shape[2:])
        chosen = dice.uniform(F + R)
        rows = torch.arange(N)
        reference = choose_references(R, dice)
        chosen[rows, F + reference] = -1  # never its own target
        frames = chosen.topk(count, dim=1).indices
        parts = {
            "latents": (self.latents, self.references),
            "mel": (self.mel, silent),
            "controls": (self.controls, still),
            "face": (self.face, self.reference_face),
        }
        if self.code is not None:
            parts["code"] = (self.code, self.reference_code)
        cut = {name: torch.cat(pair, dim=1)[rows[:, None], frames] for name, pair in parts.items()}
        speaking = (self.speaking[:, None] * (frames < F)).flatten()
        picked, still = replace(self, **cut).from_reference(reference)
        each = {name: getattr(picked, name).flatten(0, 1)[:, None] for name in parts}
        return replace(picked, **each, speaking=speaking), still


def choose_references(num_references: int, dice: Dice) -> Tensor:
    """Which reference each clip is shown [B]: mostly one as people give them, else any."""
    as_portrait = dice.uniform() < _AS_PORTRAIT
    portrait = torch.tensor(dice.below(min(PORTRAITS, num_references)))
    return torch.where(as_portrait, portrait, torch.tensor(dice.below(num_references)))


def prepare(codec: TAEHV, recipe: ClipRecipe, shards: int, folder: Path) -> list[Path]:
    """Make the shards that are not there yet; a run that is cut off goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{recipe.split}-{number:04d}.safetensors" for number in range(shards)]
    draw = avatars.compiled_draw()
    for number, path in enumerate(paths):
        if not path.exists():
            clips = make_shard(codec, recipe, number, draw)
            save_file(clips.tensors(), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
    return paths


def load(paths: list[Path]) -> Clips:
    """All shards in memory, in half precision."""
    shards = [load_file(path) for path in paths]
    return Clips(**{name: torch.cat([shard[name] for shard in shards]) for name in shards[0]})


@torch.no_grad()
def make_shard(codec: TAEHV, recipe: ClipRecipe, number: int, draw: Callable) -> Clips:
    """One shard of clips; a pure function of the recipe and the shard's number."""
    first, frames = recipe.first + number * recipe.shard, num_pixel_frames(0, recipe.latent_frames)
    rng = np.random.default_rng([recipe.seed, avatars.SPLITS[recipe.split], number, 7])
    mel, controls, speaking = _driving(recipe, first, frames, rng)
    values = avatars.stack_identities([avatars.identity(first + i, recipe.split) for i in range(recipe.shard)])
    latents = torch.cat(
        [
            _encode(codec, avatars.render(values[i : i + 2], controls[i : i + 2], draw=draw))
            for i in range(0, recipe.shard, 2)
        ]
    )
    poses = _poses(recipe, rng)
    stills = [avatars.render(values[i : i + 16], poses[i : i + 16], draw=draw) for i in range(0, recipe.shard, 16)]
    references = torch.cat([_encode(codec, still.flatten(0, 1)[:, None])[:, 0] for still in stills])
    return Clips(
        latents=latents.half(),
        references=references.unflatten(0, (recipe.shard, recipe.references)).half(),
        reference_controls=poses.half(),
        reference_face=_face(values, poses, recipe.size).half(),
        mel=per_latent_frame(mel).half(),
        controls=per_latent_frame(controls).half(),
        face=_face(values, controls[:, ::4], recipe.size).half(),
        speaking=speaking,
    )


def per_latent_frame(signal: Tensor) -> Tensor:
    """Per pixel frame [..., 1 + 4 (F - 1), S] -> per latent frame [..., F, 4, S]; the first repeats pixel frame 0."""
    padded = torch.cat([signal[..., :1, :].expand(*signal.shape[:-2], 3, -1), signal], dim=-2)
    return rearrange(padded, "... (f t) s -> ... f t s", t=4)


def _face(values: Tensor, controls: Tensor, size: int) -> Tensor:
    """Share of each latent pixel inside the face box [N, F, h, w], at one pixel frame's controls [N, F, 8] each."""
    return fn.avg_pool2d(box_mask(avatars.face_box(values[:, None], controls, size), size), _LATENT_MASK_SCALE)


def _encode(codec: TAEHV, pixels: Tensor) -> Tensor:
    with mixed_precision("cpu"):
        return codec.encode(pixels).float()


def _driving(recipe: ClipRecipe, first: int, frames: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sound [N, T, 64], controls [N, T, 8] and whether they belong together [N]."""
    mel, controls, speaking = torch.zeros(recipe.shard, frames, MEL_DIM), [], rng.random(recipe.shard) < recipe.speaking
    for i in range(recipe.shard):
        if i % CLIPS_PER_SPEECH == 0 and recipe.speaking > 0:
            speech = speak_phrases(
                (first + i) // CLIPS_PER_SPEECH, recipe.split, seconds=CLIPS_PER_SPEECH * frames / 25 + 0.2
            )
            features = log_mel(torch.from_numpy(speech.waveform))
        start = (i % CLIPS_PER_SPEECH) * frames
        mouth = speech.mouth[start : start + frames] if speaking[i] else None
        if speaking[i]:
            mel[i] = features[start : start + frames]
        if mouth is None and rng.random() < LIVELY:
            controls.append(lively_controls(rng, 1, frames)[0])
        else:
            controls.append(torch.from_numpy(sample_controls(first + i, frames, mouth, recipe.split)))
    return mel, torch.stack(controls), torch.from_numpy(speaking)


def _poses(recipe: ClipRecipe, rng: np.random.Generator) -> Tensor:
    """Controls of the reference pictures [N, R, 8]: the first ones nearly frontal and at rest, the others anything."""
    poses = lively_controls(rng, recipe.shard * recipe.references, 1)[:, 0]
    poses[:, :3] *= torch.from_numpy(rng.random((len(poses), 1)).astype(np.float32))
    poses[:, 3] *= torch.from_numpy((rng.random(len(poses)) < 0.3).astype(np.float32))
    poses[:, 5] *= torch.from_numpy((rng.random(len(poses)) < 0.5).astype(np.float32))
    poses = poses.unflatten(0, (recipe.shard, recipe.references))
    portraits = poses[:, :PORTRAITS]
    portraits[:] = 0
    portraits[..., :3] = torch.from_numpy(rng.uniform(-0.25, 0.25, portraits[..., :3].shape).astype(np.float32))
    return poses
