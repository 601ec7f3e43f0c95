"""Landmarks that go on without steps from one latent frame to the next.

Latent frames are predicted each with an error of its own, and what moves within one too little: streams' heads went on
in a step for every four pictures. A step that neither side's speed explains is spread over the four that follow.

Shapes: ``B`` batch, ``F`` latent frames, ``L`` landmarks; T = 4 pixel frames of a latent frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import TEMPORAL
from ..media.landmark_names import PARTS


def continued(moved_BTL2: Tensor, before_B2L2: Tensor | None) -> tuple[Tensor, Tensor]:
    """Landmarks' motion from the reference [B, F T, L, 2], without steps, and the last two of what was given,
    [B, 2, L, 2]: what the next call takes as `before`.

    The last picture of a latent frame is where it is predicted. Eyes and mouths are moved as a whole, so that lids and
    lips do within them what is predicted.
    """
    told = moved_BTL2.unflatten(1, (-1, TEMPORAL))
    ends = told[:, :, -2:]
    first = torch.zeros_like(ends[:, :1]) if before_B2L2 is None else before_B2L2[:, None]
    before, last = torch.cat([first, ends[:, :-1]], dim=1).unbind(dim=2)
    speed = (last - before + told[:, :, 1] - told[:, :, 0]) / 2
    step = _in_parts(told.shape[3]).to(told) @ (told[:, :, 0] - last - speed)
    if before_B2L2 is None:
        step = torch.cat([torch.zeros_like(step[:, :1]), step[:, 1:]], dim=1)
    left = torch.arange(TEMPORAL - 1, -1, -1, dtype=told.dtype, device=told.device) / TEMPORAL  # of it, in each picture
    return (told - left[:, None, None] * step[:, :, None]).flatten(1, 2), ends[:, -1].clone()


def _in_parts(points: int) -> Tensor:
    """[L, L]: of a landmark of an eye or of the mouth the mean of those of that part, of others itself."""
    mixed = torch.eye(points)
    for part in PARTS:
        if max(part) < points:
            mixed[torch.tensor(part)[:, None], torch.tensor(part)] = 1 / len(part)
    return mixed
