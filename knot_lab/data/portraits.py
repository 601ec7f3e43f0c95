"""Batches of drawn clips for the regression: single frames that know their reference alone, and clips to stream.

With clean past frames at hand the network copies them and does not learn to turn the reference, so most steps at first
are single frames; clips take over later.
Shapes: B clips or single frames, F latent frames, C channels, H W latent size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from knot_core.driving.expression_controls import CONTROLS, MOUTH_CONTROLS
from knot_core.driving.face_units import POSE, UNITS
from knot_core.driving.spoken_units import MOUTH_UNITS

from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice, DiceOf
from ..stage_recipes import RegressionRecipe
from .batch import Batch, Given
from .clip_shards import Clips, choose_references

# By how many values lie between sound and flags, of controls, or of units and a pose: which of them move the mouth, and
# how many of the clips in which somebody speaks have them. Models of units get the mouth with the speech.
_MOUTH = {
    len(CONTROLS): [name in MOUTH_CONTROLS for name in CONTROLS],
    len(UNITS) + len(POSE): [number in MOUTH_UNITS for number in range(len(UNITS) + len(POSE))],
}
_MOUTH_BESIDE_SPEECH = {len(CONTROLS): 0.35, len(UNITS) + len(POSE): 0.85}


@dataclass(frozen=True, kw_only=True, eq=False)
class Portraits:
    """Clips, and pictures of more people, of whom there are no clips (the clips themselves where there are none)."""

    own: RegressionRecipe
    clips: Clips
    stills: Clips

    def draw(self, recipe: Recipe, team: Team, dice_of: DiceOf) -> Iterator[tuple[Batch, Dice]]:
        """This process's part of one update: of single frames, or of clips."""
        own, lots = self.own, dice_of(())
        if recipe.stream.use_anchor and lots.shared_uniform() < own.alone(lots.step):
            people = self.stills if lots.shared_uniform() < own.still else self.clips
            for rows in team.rows(own.alone_clips, max(1, own.alone_clips // team.size)):
                yield self._frames(recipe, people, lots.of(rows))
        else:
            for rows in team.rows(own.clips, max(1, own.clips // team.size)):
                dice = lots.of(rows)
                yield self.batch(recipe, dice), dice

    def batch(self, recipe: Recipe, dice: Dice) -> Batch:
        """Clips to stream."""
        clips = self.clips.pick(torch.tensor(dice.below(len(self.clips.latents))))
        signal = given_signal(clips, dice)
        chosen = choose_references(clips.references.shape[1], dice)
        return self._batch(recipe, *clips.from_reference(chosen), signal)

    def _frames(self, recipe: Recipe, people: Clips, dice: Dice) -> tuple[Batch, Dice]:
        clips = people.pick(torch.tensor(dice.below(len(people.latents))))
        frames, references = clips.apart(self.own.alone_frames, dice)
        dice = dice.spread(self.own.alone_frames)
        return self._batch(recipe, frames, references, given_signal(frames, dice)), dice

    def _batch(self, recipe: Recipe, clips: Clips, references: Tensor, signal: Tensor) -> Batch:
        given = Given(
            reference_B1CHW=references,
            reference_position_B=torch.full((len(references),), clips.latents.shape[1] - 1),
            signal_BFTS=signal,
            text_BTD=torch.zeros(1, 1, recipe.network.text_dim),
        )
        return Batch(truth_BFCHW=clips.latents, given=given, weight_BF1HW=self._weight(clips))

    def _weight(self, clips: Clips) -> Tensor:
        weight = 1 + self.own.face * clips.face + self.own.mouth * mouth_part(clips.face)
        weight = (weight + self.own.eyes * eyes_part(clips.face))[:, :, None]
        return weight / weight.mean()


def given_signal(clips: Clips, dice: Dice) -> Tensor:
    """The driving signal [B, F, 4, S] with parts left out at random: pose, mouth controls, speech; or all of them."""
    pose = dice.uniform() < 0.95
    beside = _MOUTH_BESIDE_SPEECH[clips.controls.shape[-1]]
    mouth = dice.uniform() < torch.where(clips.speaking > 0, beside, 0.9)
    speech = (clips.speaking > 0) & (dice.uniform() < torch.where(mouth, 0.5, 0.95))
    flags = torch.stack([speech, pose, mouth], dim=-1).float()[:, None, None].expand(*clips.mel.shape[:3], 3)
    is_mouth = torch.tensor(_MOUTH[clips.controls.shape[-1]])
    keep = torch.where(is_mouth, mouth[:, None], pose[:, None]).float()[:, None, None]
    return torch.cat([clips.mel * speech.float()[:, None, None, None], clips.controls * keep, flags], dim=-1)


def mouth_part(face: Tensor) -> Tensor:
    """The part of a face box [..., h, w] where the mouth is: its lower two fifths, the middle half of its width."""
    rows, columns = _places(face)
    return face * (rows > 0.6)[..., :, None] * ((columns - 0.5).abs() < 0.25)[..., None, :]


def eyes_part(face: Tensor) -> Tensor:
    """The part of a face box [..., h, w] where the eyes are: a band across it, from a fifth of its height to half."""
    rows, _ = _places(face)
    return face * ((rows > 0.2) & (rows < 0.5))[..., :, None]


def _places(face: Tensor) -> tuple[Tensor, Tensor]:
    """The places of rows [..., h] and columns [..., w] in a face box [..., h, w], from 0 to 1."""
    rows, columns = ((side.cumsum(dim=-1) - side / 2) / side.sum(dim=-1, keepdim=True).clamp_min(1e-6)
                     for side in (face.amax(dim=-1), face.amax(dim=-2)))  # fmt: skip
    return rows, columns
