"""Training of the network that reads the mouth's units in speech (`knot_core/driving/spoken_units.py`).

Sentences that espeak-ng says, by the training split's voices, with the units that its phonemes mean; no picture is
needed. They are heard at any level, through any room's tone, and now and then without what comes after them.

Shapes: B pieces, N = P + 16 pixel frames, M units of the mouth.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from knot_core.driving.audio import NUM_MELS, SILENCE, log_mel
from knot_core.driving.face_units import UNITS
from knot_core.driving.spoken_units import AHEAD, MOUTH_UNITS, PAST, SpokenUnitsNet
from knot_core.shipped_weights import write_shipped

from ..synthetic.heads.face_speech import speech_units
from ..synthetic.sentences import speak_phrases

SPOKEN_UNITS_STEPS = 6000
SPOKEN = 2000  # recordings of twelve seconds
_SECONDS = 12.0
_PIECE, _BATCH, _RATE, _WARM_UP = 32, 64, 2e-3, 100
_CUT = 0.4  # share of pieces whose last frames hear nothing of what comes
_GAIN, _TONE = 0.35, 0.35  # of a logarithmic mel value, which is a quarter of the power's logarithm
_FLOOR = 0.05  # of a unit's deviation, below which its errors weigh no more
_PART = 250  # recordings of one file
_MOVES = 1e-3
_JAW = MOUTH_UNITS.index(UNITS.index("jawOpen"))


def prepare_speech(folder: Path, recordings: int, split: str = "train") -> list[Path]:
    """Write recordings, `mel` [R, T, 64] and `units` [R, T, M], as far as they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{split}-{number:03d}.npz" for number in range(math.ceil(recordings / _PART))]
    for number, path in enumerate(paths):
        if not path.is_file():
            made = [_recording(seed, split) for seed in range(number * _PART, min(recordings, (number + 1) * _PART))]
            mel, units = (np.stack(values) for values in zip(*made, strict=True))
            part = path.with_suffix(".part.npz")
            np.savez(part, mel=mel, units=units)
            part.replace(path)
    return paths


def _recording(seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    speech = speak_phrases(seed + 500_000, split, _SECONDS)
    mel = log_mel(torch.from_numpy(speech.waveform)).numpy()
    return mel.astype(np.float16), speech_units(speech.phonemes, len(mel))[:, MOUTH_UNITS].astype(np.float16)


class Speeches:
    """Recordings in memory, of which pieces are drawn."""

    def __init__(self, paths: list[Path]) -> None:
        stored = [np.load(path) for path in paths]
        self.mel, self.units = (torch.from_numpy(np.concatenate([one[name] for one in stored]))
                                for name in ("mel", "units"))  # fmt: skip
        self.deviation = self.units.float().flatten(0, 1).std(dim=0)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pieces as heard [count, N, 64], which frames were heard [count, N], and their units [count, P, M]."""
        rows = rng.integers(len(self.mel), size=count)
        starts = rng.integers(self.mel.shape[1] - _PIECE - PAST - AHEAD, size=count)
        pieces = [slice(start, start + _PIECE + PAST + AHEAD) for start in starts]
        mel = torch.stack([self.mel[row, piece] for row, piece in zip(rows, pieces, strict=True)]).float()
        own = [slice(piece.start + PAST, piece.stop - AHEAD) for piece in pieces]
        units = torch.stack([self.units[row, piece] for row, piece in zip(rows, own, strict=True)]).float()
        heard = torch.ones(mel.shape[:2])
        heard[torch.from_numpy(rng.random(count) < _CUT), -AHEAD:] = 0
        return recorded(rng, mel), heard, units


def recorded(rng: np.random.Generator, mel_BN64: Tensor) -> Tensor:
    """[B, N, 64] -> [B, N, 64] at another level, in a room and through a microphone of another tone; silence stays."""
    bands = np.linspace(0, 1, NUM_MELS)
    waves = np.stack([np.cos(np.pi * number * bands) for number in range(4)])  # from level to fine colour
    scales = np.array([_GAIN, _TONE, _TONE / 2, _TONE / 3])
    change = rng.standard_normal((len(mel_BN64), len(scales))) * scales @ waves
    change = torch.from_numpy(np.tile(change, 2)).float()[:, None]
    power = ((4 * mel_BN64 - 4).exp() - 1e-5).clamp(min=0) * (4 * change).exp()
    return ((power + 1e-5).log().add(4) / 4).clamp(SILENCE, 4)


def train_spoken_units(folder: Path, *, steps: int, recordings: int = SPOKEN, seed: int = 0) -> Path:
    """Train; writes recordings, a log and `spoken-units.safetensors` into `folder`."""
    data = Speeches(prepare_speech(folder / "speech", recordings))
    unseen = Speeches(prepare_speech(folder / "speech", max(1, recordings // 30), "eval"))
    torch.manual_seed(seed)
    network = SpokenUnitsNet()
    path = folder / "spoken-units.safetensors"
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        for line in _steps(network, data, unseen, np.random.default_rng(seed), steps):
            log.write(json.dumps(line) + "\n")
            log.flush()
            write_shipped(network, path, "spoken-units")
    return path


def loss_of(network: SpokenUnitsNet, piece: tuple[Tensor, Tensor, Tensor], deviation_M: Tensor) -> Tensor:
    """A piece (mel [B, N, 64], heard [B, N], units [B, P, M]) -> [], the mean square of the errors of units and of
    their changes, in deviations of each unit [M].
    """
    mel, heard, units = piece
    error = (network(mel, heard) - units) / deviation_M.clamp(min=_FLOOR)
    return error.square().mean() + error.diff(dim=1).square().mean()


def _steps(
    network: SpokenUnitsNet, data: Speeches, unseen: Speeches, rng: np.random.Generator, steps: int
) -> Iterator[dict]:
    """Train; the figures of every five hundredth step, and of the last."""
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / _WARM_UP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
    )
    since = time.monotonic()
    for step in range(1, steps + 1):
        loss = loss_of(network, data.draw(rng, _BATCH), data.deviation)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
        if step % 500 == 0 or step == steps:
            jaw, all_units = agreement(network, unseen)
            yield {"step": step, "loss": round(float(loss.detach()), 4), "jaw": round(jaw, 4),
                   "units": round(all_units, 4), "seconds": round(time.monotonic() - since)}  # fmt: skip


@torch.no_grad()
def agreement(network: SpokenUnitsNet, unseen: Speeches, count: int = 512) -> tuple[float, float]:
    """Correlation with the truth of unseen voices' sentences: of the jaw, and the mean over units that move."""
    mel, heard, units = unseen.draw(np.random.default_rng(0), count)
    found, units = network(mel, heard).flatten(0, 1), units.flatten(0, 1)
    moving = (units.std(dim=0) > _MOVES).nonzero().flatten().tolist()
    each = {unit: _correlation(found[:, unit], units[:, unit]) for unit in moving}
    return each[_JAW], float(np.mean(list(each.values())))


def _correlation(a: Tensor, b: Tensor) -> float:
    """0 where one of them does not move."""
    return 0.0 if a.std() < _MOVES else float(torch.corrcoef(torch.stack([a, b]))[0, 1])
