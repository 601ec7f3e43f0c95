"""Read a portrait's controls from its picture: where the head points, whether eyes and mouth are open.

A reader knows one identity. It is fitted to renders of that identity at random controls: the pose by kernel ridge
regression from the small picture, then mouth and eyes from their boxes at the pose just read. So it needs to be told
nothing about a frame, and measures what can be seen, whoever made the frame.

Shapes: T pixel frames, N renders it learns from, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as fn

from ..synthetic import avatars
from ..synthetic.motion import lively_controls

NUM_RENDERS = 800
READ = ("yaw", "pitch", "roll", "blink", "gaze", "mouth_open", "mouth_wide")  # what a reader can tell
_POSE, _EYES, _MOUTH = slice(0, 3), slice(3, 5), slice(5, 7)
_SMALL = 4  # times smaller is the picture that the pose is read from
_RIDGE = 1e-3
_NOISE = 0.01  # added to what it learns from, so that it does not read the last digit


@dataclass(frozen=True, eq=False)
class KernelRidge:
    """y(x) = sum_n w_n exp(-|x - x_n|^2 / (2 s^2)), s the median distance of the examples."""

    examples: Tensor  # [N, D]
    weights: Tensor  # [N, Y]
    mean: Tensor  # [Y]
    width: float

    @classmethod
    def fit(cls, features: Tensor, targets: Tensor) -> KernelRidge:
        """features [N, D], targets [N, Y]."""
        width = float(torch.cdist(features[0:512:2], features[1:512:2]).median())
        mean = targets.mean(dim=0)
        kernel = _gauss(features, features, width).double()
        kernel += _RIDGE * torch.eye(len(kernel), dtype=torch.float64)
        return cls(features, torch.linalg.solve(kernel, (targets - mean).double()).float(), mean, width)

    def __call__(self, features: Tensor) -> Tensor:
        return _gauss(features, self.examples, self.width) @ self.weights + self.mean


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the controls ``READ`` of one identity's pictures."""

    values: Tensor  # [P], the identity
    pose: KernelRidge
    eyes: KernelRidge
    mouth: KernelRidge

    @classmethod
    def of(cls, identity: avatars.Identity, size: int = 128) -> Reader:
        """Fit one; a function of the identity alone."""
        rng = np.random.default_rng([identity.seed, 4])
        values = avatars.stack_identities([identity])[0]
        controls = lively_controls(rng, NUM_RENDERS, 1)[:, 0]
        controls[1::3, 5:7] = 0  # many closed mouths and open eyes: what a portrait mostly shows
        controls[2::3, 3] = 0
        pictures = avatars.render_clip(values, controls, size).float() / 255
        pictures += _NOISE * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(identity.seed))
        targets = controls[:, [avatars.CONTROLS.index(name) for name in READ]]
        seen = controls + torch.from_numpy(rng.normal(0, 0.02, controls.shape).astype(np.float32))  # as poses are read
        return cls(
            values=values,
            pose=KernelRidge.fit(_whole(pictures), targets[:, _POSE]),
            eyes=KernelRidge.fit(_around_eyes(pictures, values, seen), targets[:, _EYES]),
            mouth=KernelRidge.fit(_around_mouth(pictures, values, seen), targets[:, _MOUTH]),
        )

    def read(self, pictures: Tensor) -> np.ndarray:
        """uint8 [T, H, W, 3] -> float32 [T, 7] in the order of ``READ``."""
        x = pictures.float() / 255
        pose = self.pose(_whole(x)).clamp(-1, 1)
        where = fn.pad(pose, (0, len(avatars.CONTROLS) - 3))
        eyes, mouth = (
            part(around(x, self.values, where))
            for part, around in ((self.eyes, _around_eyes), (self.mouth, _around_mouth))
        )
        return torch.cat([pose, eyes, mouth], dim=1).numpy()


def _whole(pictures: Tensor) -> Tensor:
    small = fn.avg_pool2d(rearrange(pictures, "t h w c -> t c h w"), _SMALL)
    return rearrange(small, "t c h w -> t (c h w)")


def _around_mouth(pictures: Tensor, values: Tensor, controls: Tensor) -> Tensor:
    boxes = avatars.mouth_box(values, controls, pictures.shape[1])
    return torch.cat([_cut(pictures, boxes), controls[:, :3]], dim=1)


def _around_eyes(pictures: Tensor, values: Tensor, controls: Tensor) -> Tensor:
    boxes = avatars.eye_boxes(values, controls, pictures.shape[1])
    return torch.cat([*(_cut(pictures, boxes[:, side]) for side in (0, 1)), controls[:, :3]], dim=1)


def _cut(pictures: Tensor, boxes: Tensor) -> Tensor:
    """The pixels in the boxes [T, 4], all of one size: [T, D]."""
    height, width = (boxes[0, 2:] - boxes[0, :2]).tolist()
    rows = boxes[:, 0, None] + torch.arange(height)
    columns = boxes[:, 1, None] + torch.arange(width)
    frames = torch.arange(len(pictures))[:, None, None]
    return pictures[frames, rows[:, :, None], columns[:, None]].flatten(1)


def _gauss(a: Tensor, b: Tensor, width: float) -> Tensor:
    return torch.exp(-0.5 * (torch.cdist(a, b) / width).square())
