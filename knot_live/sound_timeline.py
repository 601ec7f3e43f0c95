"""The sound of a live stream: what arrives, at any rate, and the timeline of what was and will be heard.

Shapes: C channels, S samples, P pixel frames.
"""

import math
import uuid
from collections.abc import Mapping
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from .engine import HEARD_RATE, MEAN, Reach, chosen, mixed, resample
from .sound_bytes import from_text, to_text
from .speech_queue import SOUND_RATE

HISTORY = 12 * SOUND_RATE  # samples that are kept: a speech encoder looks back by seconds
_COMMON = math.gcd(SOUND_RATE, HEARD_RATE)
_FAR = 2**50  # samples: behind what is laid there is silence


class Intake:
    """Pieces of one sound, as mono at `SOUND_RATE`. The last millisecond waits for the next piece, or for `finish`."""

    def __init__(self, rate: int, mode: str) -> None:
        self.rate, self.mode = rate, mode
        self._before = MEAN  # of several channels, what is heard
        self._resampler = (
            None if rate == SOUND_RATE else av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        )

    def push(self, samples_CS: Tensor) -> np.ndarray:
        """float32 [C, S] of full scale 1 -> float32 [S]."""
        return self._resampled(self._mono(samples_CS))

    def finish(self) -> np.ndarray:
        """The last samples, float32 [S]; nothing can be pushed behind them."""
        if self._resampler is None:
            return np.zeros(0, dtype=np.float32)
        return _joined(self._resampler.resample(None))

    def _mono(self, samples_CS: Tensor) -> Tensor:
        if samples_CS.shape[0] == 1 or samples_CS.shape[1] == 0:
            return samples_CS[0]
        now = chosen(samples_CS, self._before)
        found, self._before = mixed(samples_CS, self._before, now, self.rate), now
        return found

    def _resampled(self, samples_S: Tensor) -> np.ndarray:
        values = samples_S.contiguous().numpy()
        if self._resampler is None or len(values) == 0:
            return values.copy()
        frame = av.AudioFrame.from_ndarray(values[None], format="flt", layout="mono")
        frame.sample_rate = self.rate
        return _joined(self._resampler.resample(frame))


def _joined(frames: list[Any]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.float32), *(frame.to_ndarray()[0] for frame in frames)])


class Timeline:
    """A `Waveform` of the engine: what was played, then what is laid for the chunk at hand, then silence."""

    def __init__(self, samples_per_frame: int) -> None:
        self._per_frame = samples_per_frame
        self._played, self._end = np.zeros(0, dtype=np.float32), 0  # at SOUND_RATE; where it ends
        self._laid = np.zeros(0, dtype=np.float32)
        self._name = uuid.uuid4().hex

    @property
    def end(self) -> int:
        """Samples that were played: where the next chunk begins."""
        return self._end

    def begin(self, end: int) -> None:
        """A stream that begins later: silence up to there."""
        self._end = end

    def lay(self, sound: np.ndarray) -> None:
        """Place sound [S] behind the timeline's end, until it is played or other sound is placed there."""
        self._laid = sound

    def play(self, count: int) -> np.ndarray:
        """The first samples laid were played: [count]; they stay."""
        sound, self._laid = self._laid[:count].copy(), np.zeros(0, dtype=np.float32)
        self._played = np.concatenate([self._played, sound])[-HISTORY:]
        self._end += count
        return sound

    def cut(self, start: int) -> np.ndarray:
        """Take back the sound [S] from `start` on, which was not played: the timeline ends there."""
        count = min(self._end - start, len(self._played))
        kept = len(self._played) - count
        self._played, cut = self._played[:kept], self._played[kept:]
        self._end, self._laid = start, np.zeros(0, dtype=np.float32)
        return cut

    def between(self, start: int, stop: int) -> np.ndarray:
        """float32 [stop - start] at SOUND_RATE, zeros where there is nothing."""
        known = np.concatenate([self._played, self._laid])
        first = self._end - len(self._played)
        inside = known[max(0, start - first) : max(0, stop - first)]
        before = min(max(0, first - start), stop - start)
        return np.pad(inside, (before, stop - start - before - len(inside)))

    num_samples = None  # more may arrive
    num_ready = _FAR

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start] at 16 kHz, as `resample` makes it of the whole; zeros before the beginning."""
        reach = Reach.of(SOUND_RATE)
        period_in, period_out = SOUND_RATE // _COMMON, HEARD_RATE // _COMMON
        first, last = start // period_out, -(-stop // period_out)
        samples = self.between(first * period_in - reach.samples, last * period_in + reach.samples)
        heard = resample(torch.from_numpy(samples), SOUND_RATE)[reach.resampled :]
        heard[: max(0, -first * period_out)] = 0
        skip = start - first * period_out
        return heard[skip : skip + stop - start]

    def find_end(self, sample: int) -> None:
        """Does nothing: it has none."""

    def content(self) -> bytes:
        return self._name.encode()  # what will be said is not known, so no two are equal

    def levels(self, first: int, stop: int) -> np.ndarray:
        """Root mean square of each pixel frame: [P]"""
        sound = self.between(first * self._per_frame, stop * self._per_frame).reshape(stop - first, self._per_frame)
        return np.sqrt(np.einsum("ps,ps->p", sound, sound) / self._per_frame)

    def to_state(self) -> Mapping[str, Any]:
        """The sound that was played; what is laid is laid again."""
        return {"end": self._end, "played": to_text(self._played)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where `to_state` was called."""
        self._end, self._played = state["end"], from_text(state["played"])
