"""Detection of speech and of pauses, from the sound around each moment alone.

Shapes: S samples at 16 kHz, P pixel frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .audio import FPS, SAMPLE_RATE, SAMPLES_PER_PIXEL_FRAME
from .tracks import FrameNumbers
from .waveform import Waveform

_SHORTEST_PAUSE = 10  # pixel frames, 0.4 s: shorter ones are part of speaking
_AROUND_SPEECH = 3  # pixel frames before and after that belong to it: lips move before they are heard
_AT_ONCE = 250  # pixel frames that are looked at together
_TURN = 15  # pixel frames that it takes to pass from speaking to pausing


@dataclass(frozen=True, eq=False)
class Voice:
    """Detects speech, pixel frame by pixel frame; sound below `level` dB of full scale is a pause."""

    waveform: Waveform
    level: float

    def speaking(self, first: int, stop: int) -> np.ndarray:
        """bool [stop - first], fewer where the sound ends: short pauses and a little around speech included."""
        begin = max(0, first - _SHORTEST_PAUSE)
        loud, reach = self._loud(begin - _AROUND_SPEECH, stop + _SHORTEST_PAUSE + _AROUND_SPEECH), _AROUND_SPEECH
        # a pause that reaches an edge of what is looked at is long enough, or touches an end of the sound
        widened = _widened(loud, reach)[reach : self._end(stop + _SHORTEST_PAUSE) - begin + reach]
        return ~_without_short_runs(~widened, _SHORTEST_PAUSE)[first - begin : stop - begin]

    def eased(self, frames: FrameNumbers) -> np.ndarray:
        """float32 [P]: 0 in pauses and past the end, 1 while speaking, and a passage between."""
        first, last = int(frames.min()), int(frames.max())
        half = _TURN // 2
        begin, end = max(0, first - half), self._end(last + 1 + half)
        if end <= first:
            return np.zeros(len(frames), np.float32)
        known = self.speaking(begin, end).astype(np.float64)
        around = known[np.clip(np.arange(first - half, last + 1 + half), begin, end - 1) - begin]
        window = np.hanning(_TURN + 2)[1:-1]
        eased = np.clip(np.convolve(around, window / window.sum(), mode="valid"), 0, 1)[frames - first]
        return np.where(frames < end, eased, 0).astype(np.float32)

    def content(self) -> bytes:
        return f"voice {float(self.level)} ".encode() + self.waveform.content()

    def _end(self, frame: int) -> int:
        """That pixel frame, or the sound's end if it comes before."""
        self.waveform.find_end(frame * SAMPLES_PER_PIXEL_FRAME)
        samples = self.waveform.num_samples
        return frame if samples is None else min(frame, -(-samples // SAMPLES_PER_PIXEL_FRAME))

    def _loud(self, first: int, stop: int) -> np.ndarray:
        """bool [stop - first]; nothing is loud outside of the sound."""
        powers = [self._powers(here, min(here + _AT_ONCE, stop)) for here in range(first, stop, _AT_ONCE)]
        return np.concatenate(powers) > 10 ** (self.level / 10)

    def _powers(self, first: int, stop: int) -> np.ndarray:
        samples = self.waveform.read(first * SAMPLES_PER_PIXEL_FRAME, stop * SAMPLES_PER_PIXEL_FRAME).double()
        return samples.reshape(-1, SAMPLES_PER_PIXEL_FRAME).square().mean(dim=1).numpy()


@dataclass(frozen=True, eq=False)
class Gated:
    """A waveform that is silent in pauses; it fades within the frames around speech."""

    waveform: Waveform
    voice: Voice

    @property
    def num_samples(self) -> int | None:
        return self.waveform.num_samples

    @property
    def num_ready(self) -> int:
        return self.waveform.num_ready

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start] at 16 kHz: the sound during speech, zeros in pauses."""
        samples = self.waveform.read(start, stop)
        first, last = max(0, start) // SAMPLES_PER_PIXEL_FRAME - 1, stop // SAMPLES_PER_PIXEL_FRAME + 2
        frames = np.arange(max(0, first), last)
        speaking = self.voice.speaking(int(frames[0]), last) if last > 0 else np.zeros(0)
        if not len(speaking):
            return torch.zeros_like(samples)
        at = (np.arange(start, stop) + 0.5) * (FPS / SAMPLE_RATE) - 0.5  # in pixel frames, from the first one's middle
        gate = np.interp(at, frames[: len(speaking)], speaking).astype(np.float32)
        return samples * torch.from_numpy(gate)

    def find_end(self, sample: int) -> None:
        self.waveform.find_end(sample)

    def content(self) -> bytes:
        return b"gated " + self.voice.content()


def _widened(mask: np.ndarray, by: int) -> np.ndarray:
    return np.convolve(mask, np.ones(2 * by + 1))[by : by + len(mask)] > 0.5 if len(mask) else mask


def _without_short_runs(mask: np.ndarray, shortest: int) -> np.ndarray:
    """True only where it is so for that long; up to the beginning and the end it always counts as long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).reshape(-1, 2)
    kept = np.zeros_like(mask)
    for start, stop in edges:
        kept[start:stop] = stop - start >= shortest or start == 0 or stop == len(mask)
    return kept
