"""The input of a training step of any stage: the truth, its weights, and the conditions of the video.

Shapes: B clips, F latent frames, C channels, H W latent size, T packed pixel frames or text tokens, S signal dim,
D text dim. Of the codec's stages the truth is pixels: F pixel frames, H W pixels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from knot_core.config import AdapterConfig, AudioCrossConfig
from knot_core.driving.audio import MEL_DIM
from knot_core.driving.expression_controls import CONTROLS

from ..rng import Dice

FULL_SIGNAL = AdapterConfig().signal_dim  # speech, controls, and a flag for speech, pose and mouth


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """The conditions of a clip, for teacher and student alike."""

    reference_B1CHW: Tensor  # [B / n, 1, C, H, W] where n single frames that follow each other share one
    reference_position_B: Tensor  # latent frames from the clip's first; the last frame or a later one
    signal_BFTS: Tensor
    text_BTD: Tensor  # [1, T, D]; one zero token where there is none

    def without_driving(self) -> "Given":
        """The conditions of guidance's second pass: no speech, no controls, all flags off; no text."""
        nothing = torch.zeros_like(self.text_BTD[:, :1])
        return replace(self, signal_BFTS=torch.zeros_like(self.signal_BFTS), text_BTD=nothing)

    def to(self, device: torch.device) -> "Given":
        return Given(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Clips, how much each place of them counts, and what they were made of."""

    truth_BFCHW: Tensor
    given: Given | None = None  # None where nothing is conditioned on it: the codec's stages
    weight_BF1HW: Tensor | None = None  # 1 in the mean; None: all places count the same

    def to(self, device: torch.device) -> "Batch":
        parts = {name: None if part is None else part.to(device) for name, part in vars(self).items()}
        return Batch(**parts)

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, on the CPU."""
        parts = {"truth": self.truth_BFCHW, "weight": self.weight_BF1HW}
        given = {} if self.given is None else vars(self.given)
        return {name: part.cpu() for name, part in (parts | given).items() if part is not None}


def drop_driving(
    signal_BFTS: Tensor, adapter: AdapterConfig | AudioCrossConfig | None, drop: tuple[float, float, float], dice: Dice
) -> Tensor:
    """The signal, [B, F, T, S], without speech, controls, or both, at random: at inference either, both or none may be
    given.

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
