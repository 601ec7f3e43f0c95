"""Face units of the mouth from speech, by a small network that hears the mel features around a pixel frame.

A model of face units is moved by speech and by units. Units reach the mouth more surely, and any amount of speech
teaches the way to them, as no picture is needed: so speech comes as the units of the mouth as well, wherever nobody
else gives these. `knot_lab/training/spoken_units_training.py` trains the network.

Shapes: B batch, P pixel frames, N = P + 16 pixel frames with those around them, M = 29 units of the mouth, H hidden
width, U = 52 face units.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from ..shipped_weights import ASSETS, read_shipped
from .audio import MEL_DIM, SILENCE
from .face_units import UNITS
from .tracks import FrameNumbers, Track, Values

WEIGHTS = ASSETS / "spoken-units.safetensors"
PAST, AHEAD = 12, 4  # pixel frames before and after its own that a frame's units hear
MOUTH_UNITS = tuple(
    number for number, name in enumerate(UNITS) if name.startswith(("jaw", "mouth", "cheekP", "tongue"))
)
_LAYERS = 4
_BLOCK = 48  # pixel frames
_BLOCKS_KEPT = 8


class SpokenUnitsNet(nn.Module):
    """Four residual convolutions over time, each of which hears three frames back and one ahead."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        before, after = PAST // _LAYERS, AHEAD // _LAYERS
        self._kept = slice(before, -after)
        self.input = nn.Conv1d(MEL_DIM + 1, hidden, 1)
        self.layers = nn.ModuleList(nn.Conv1d(hidden, hidden, before + 1 + after) for _ in range(_LAYERS))
        self.output = nn.Conv1d(hidden, len(MOUTH_UNITS), 1)

    def forward(self, mel_BN64: Tensor, heard_BN: Tensor) -> Tensor:
        """Log-mel values [B, N, 64], and which frames were heard, 0 or 1 [B, N] -> units [B, P, M] in 0 .. 1."""
        heard = heard_BN[..., None]
        x = self.input(torch.cat([mel_BN64 * heard, heard], dim=-1).mT)
        for layer in self.layers:
            x = x[..., self._kept] + layer(fn.silu(x))
        return self.output(fn.silu(x)).mT.clamp(0, 1)


@lru_cache(maxsize=1)
def load_spoken_units(path: Path = WEIGHTS) -> SpokenUnitsNet | None:
    """The trained network; None where its weights are not at hand.

    Raises:
        CheckpointError: the file is damaged, or holds other weights.
    """
    return read_shipped(SpokenUnitsNet(), path, "the network that reads mouths in speech")


@torch.inference_mode()
def spoken_units(network: SpokenUnitsNet, mel: Track, first: int, stop: int, end: int | None = None) -> Values:
    """Units [P, U] of the pixel frames from `first` to `stop`, of a track of mel features; those of the eyes are 0.

    `end`: the pixel frame from which on nothing is heard, because it has not arrived; None: all is.
    """
    around = np.arange(first - PAST, stop + AHEAD)
    heard = around < (stop + AHEAD if end is None else end)
    values = mel.at(np.clip(around, 0, around[heard][-1]))
    values[around < 0] = SILENCE
    units = np.zeros((stop - first, len(UNITS)), np.float32)
    found = network(torch.from_numpy(values)[None], torch.from_numpy(heard)[None].float())
    units[:, MOUTH_UNITS] = found[0].numpy()
    return units


@dataclass(frozen=True, eq=False)
class SpokenUnits:
    """A track: the units of a track of mel features. Sound that still arrives is waited for, as far as a frame hears.

    Made in blocks where the sound is there, so that a frame has the same values whoever asks for it.
    """

    mel: Track
    network: SpokenUnitsNet
    _made: OrderedDict[tuple[int, int], np.ndarray] = field(default_factory=OrderedDict, init=False, repr=False)

    @property
    def num_pixel_frames(self) -> int | None:
        return self.mel.num_pixel_frames

    @property
    def num_ready(self) -> int | None:
        ready = self.mel.num_ready
        return None if ready is None else max(0, ready - AHEAD)

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, U]"""
        values = np.empty((len(frames), len(UNITS)), np.float32)
        numbers = frames // _BLOCK
        for number in np.unique(numbers):
            here, first = numbers == number, int(number) * _BLOCK
            begin, stop = first, first + _BLOCK
            if self.num_ready is not None and stop > self.num_ready:
                begin, stop = int(frames[here].min()), int(frames[here].max()) + 1
            values[here] = self._between(begin, stop)[frames[here] - begin]
        return values

    def content(self) -> bytes:
        return b"units of " + self.mel.content()

    def _between(self, first: int, stop: int) -> np.ndarray:
        """[stop - first, U]"""
        if (first, stop) not in self._made:
            self._made[first, stop] = spoken_units(self.network, self.mel, first, stop)
            if len(self._made) > _BLOCKS_KEPT:
                self._made.popitem(last=False)
        return self._made[first, stop]
