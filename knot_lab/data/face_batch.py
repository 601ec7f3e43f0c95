"""Clips of a face codec's training step: frames, the reference they are moved from, and what is known of the motion.

Shapes: B clips, T pixel frames (whole groups of four), H W pixels, L landmarks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from knot_core.media.landmark_names import LANDMARKS


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceClips:
    """Pictures in 0..1; a place where nothing is known of the flow counts 0 in both `visible` and `hidden`."""

    frames_BT3HW: Tensor
    reference_B3HW: Tensor
    flow_BT2HW: Tensor  # at half the size: how far away in the reference a pixel lies, in pixels (x, y)
    visible_BT1HW: Tensor  # at half the size: 1 where the reference shows it
    hidden_BT1HW: Tensor  # 1 where the reference is known not to show it
    weight_B1HW: Tensor  # what a pixel counts, 1 in the mean
    frames_seen_BT3HW: Tensor  # frames and reference as the encoder sees them: in other light, by other cameras
    reference_seen_B3HW: Tensor
    landmarks_BTL2: Tensor  # in sides of the picture (x, y); no number where they are not known
    reference_landmarks_BL2: Tensor

    def to(self, device: torch.device) -> "FaceClips":
        return FaceClips(**{name: part.to(device) for name, part in vars(self).items()})

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, on the CPU."""
        return {name: part.cpu() for name, part in vars(self).items()}


def unseen_clip(**parts: Tensor) -> FaceClips:
    """Clips that the encoder sees as they are, and whose landmarks nobody knows."""
    frames, still = parts["frames_BT3HW"], parts["reference_B3HW"]
    unknown = torch.full((*frames.shape[:2], len(LANDMARKS), 2), torch.nan)
    return FaceClips(
        **parts, frames_seen_BT3HW=frames, reference_seen_B3HW=still, landmarks_BTL2=unknown,
        reference_landmarks_BL2=unknown[:, 0],
    )  # fmt: skip


def stacked(clips: list[FaceClips]) -> FaceClips:
    """Clips of one size as a batch."""
    return FaceClips(**{name: torch.cat([getattr(clip, name) for clip in clips]) for name in vars(clips[0])})
