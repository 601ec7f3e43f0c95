"""Batches of drawn pictures for the video autoencoder: parts of clips of new identities, drawn when they are asked for.

Shapes: B clips, T pixel frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice, DiceOf
from ..stage_recipes import CodecRecipe
from ..synthetic import avatars
from ..synthetic.avatars import box_mask
from ..synthetic.motion import lively_controls
from .batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Parts of clips of new identities, drawn when they are asked for."""

    own: CodecRecipe
    renderer: Callable = field(default_factory=avatars.compiled_draw)

    def draw(self, _: Recipe, team: Team, dice_of: DiceOf) -> Iterator[tuple[Batch, Dice]]:
        """This process's part of one update."""
        for rows in team.rows(self.own.clips, max(1, self.own.clips // team.size)):
            dice = dice_of(rows)
            first = self.own.first + dice.step * self.own.clips
            yield self._batch([first + row for row in rows], dice, team.device), dice

    def _batch(self, people: Sequence[int], dice: Dice, device: torch.device) -> Batch:
        """Pixels [B, T, 3, H, W] and what each counts [B, T, 1, H, W]."""
        own, rngs = self.own, dice.numpy()
        values = avatars.stack_identities([avatars.identity(number) for number in people])
        controls = torch.cat([lively_controls(rng, 1, 4 * own.groups) for rng in rngs])
        controls[::2, :3] = controls[::2, 3:4]  # every other clip starts like a stream: four times the same picture
        where, size = (values[:, None], controls, own.size), own.size
        corners = _corners(own, avatars.face_box(*where)[:, 0], rngs)
        with torch.no_grad():
            crop = (corners.to(device), own.crop)
            pixels = avatars.render(values.to(device), controls.to(device), size, crop=crop, draw=self.renderer)
        eyes = box_mask(avatars.eye_boxes(*where), size).amax(dim=-3)
        features = torch.maximum(eyes, box_mask(avatars.mouth_box(*where), size))
        weight = 1 + own.face * box_mask(avatars.face_box(*where), size) + own.features * features
        rows, columns = (corners[:, axis, None] + torch.arange(own.crop) for axis in (0, 1))
        weight = weight[torch.arange(len(rngs))[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        return Batch(truth_BFCHW=pixels, weight_BF1HW=(weight / weight.mean())[:, :, None])


def _corners(own: CodecRecipe, face: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Top and left of each clip's crop: most look at the face, where the detail is; the others anywhere."""
    drawn = [(rng.integers(0, own.size - own.crop + 1, 2), rng.integers(-16, 17, 2), rng.random()) for rng in rngs]
    anywhere, moved, lot = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    centre = (face[:, :2] + face[:, 2:]) // 2 + moved
    at_face = (centre - own.crop // 2).clamp(0, own.size - own.crop)
    return torch.where(lot[:, None] < own.face_crops, at_face, anywhere)
