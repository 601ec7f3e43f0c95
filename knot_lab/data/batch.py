"""What a training step is given: clips as latents, and what the video was made of.

Shapes: B clips, F latent frames, C channels, H W latent size, T packed pixel frames or text tokens, S signal dim,
D text dim.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from knot_core.config import AdapterConfig, AudioCrossConfig
from knot_core.driving.audio import MEL_DIM
from knot_core.driving.controls import CONTROLS

from ..rng import Dice

FULL_SIGNAL = AdapterConfig().signal_dim  # speech, controls, and a flag for speech, pose and mouth


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What both teacher and student see of a clip."""

    reference_B1CHW: Tensor
    reference_position_B: Tensor  # latent frames from the clip's first; the last frame or a later one
    signal_BFTS: Tensor
    text_BTD: Tensor  # [1, T, D]; one zero token where there is none

    def without_driving(self) -> "Given":
        """What guidance compares with: no speech, no controls, all flags off; no text."""
        nothing = torch.zeros_like(self.text_BTD[:, :1])
        return replace(self, signal_BFTS=torch.zeros_like(self.signal_BFTS), text_BTD=nothing)

    def to(self, device: torch.device) -> "Given":
        return Given(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Clips and what they were made of."""

    latents_BFCHW: Tensor
    given: Given

    def to(self, device: torch.device) -> "Batch":
        return Batch(latents_BFCHW=self.latents_BFCHW.to(device), given=self.given.to(device))


def drop_driving(
    signal_BFTS: Tensor, adapter: AdapterConfig | AudioCrossConfig | None, drop: tuple[float, float, float], dice: Dice
) -> Tensor:
    """Leave out speech, controls, or both at random, so that at inference either, both or none may be given.

    `drop`: the shares of clips that lose speech, controls, all. What is left out is zero and its flag is off. A signal
    without flags is speech alone.
    """
    lot = dice.uniform().to(signal_BFTS)
    speech, controls, both = drop
    silent = ((lot < speech) | ((lot >= speech + controls) & (lot < speech + controls + both)))[:, None, None, None]
    still = ((lot >= speech) & (lot < speech + controls + both))[:, None, None, None]
    if adapter is None or signal_BFTS.shape[-1] != FULL_SIGNAL:
        return signal_BFTS.masked_fill(silent, 0)
    columns = torch.arange(FULL_SIGNAL, device=signal_BFTS.device)
    flags = MEL_DIM + len(CONTROLS)
    of_speech = (columns < MEL_DIM) | (columns == flags)
    return signal_BFTS.masked_fill(silent & of_speech, 0).masked_fill(still & ~of_speech, 0)
