"""Clips of a face codec's training step: frames, the reference they are moved from, and what is known of the motion.

Shapes: B clips, T pixel frames (whole groups of four), H W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceClips:
    """Pictures in 0..1; a place where nothing is known of the flow counts 0 in both `visible` and `hidden`."""

    frames_BT3HW: Tensor
    reference_B3HW: Tensor
    flow_BT2HW: Tensor  # at half the size: how far away in the reference a pixel lies, in pixels (x, y)
    visible_BT1HW: Tensor  # at half the size: 1 where the reference shows it
    hidden_BT1HW: Tensor  # 1 where the reference is known not to show it
    weight_B1HW: Tensor  # what a pixel counts, 1 in the mean

    def to(self, device: torch.device) -> "FaceClips":
        return FaceClips(**{name: part.to(device) for name, part in vars(self).items()})

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, on the CPU."""
        return {name: part.cpu() for name, part in vars(self).items()}


def stacked(clips: list[FaceClips]) -> FaceClips:
    """Clips of one size as a batch."""
    return FaceClips(**{name: torch.cat([getattr(clip, name) for clip in clips]) for name in vars(clips[0])})
