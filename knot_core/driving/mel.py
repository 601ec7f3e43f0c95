"""The mel features of speech, made of no more of its sound than is asked for: it may be long, or still arrive.

Shapes: P pixel frames, S samples.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from .audio import HOP, MEL_DIM, SAMPLES_PER_PIXEL_FRAME, SILENCE, WINDOW, log_mel
from .tracks import FrameNumbers, Values
from .waveform import Waveform, not_ready

_REACH = (WINDOW - HOP) // 2  # samples past a pixel frame that it hears
_BLOCK = 48  # pixel frames
_BLOCKS_KEPT = 8  # smoothing looks back by seconds


@dataclass(frozen=True, eq=False)
class LiveMel:
    """A track: `log_mel` of a waveform, made of no more of it than a frame hears; silence past its end."""

    waveform: Waveform

    @property
    def num_pixel_frames(self) -> int | None:
        samples = self.waveform.num_samples
        return None if samples is None else math.ceil(samples / SAMPLES_PER_PIXEL_FRAME)

    @property
    def num_ready(self) -> int | None:
        """Pixel frames that can be had by now; None = all."""
        if self.waveform.num_samples is not None:
            return None
        return max(0, self.waveform.num_ready - _REACH) // SAMPLES_PER_PIXEL_FRAME

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, 64]"""
        end = self.num_pixel_frames
        values = np.full((len(frames), MEL_DIM), SILENCE, dtype=np.float32)
        heard = np.full(len(frames), True) if end is None else frames < end
        if heard.any():
            first, last = int(frames[heard].min()), int(frames[heard].max())
            values[heard] = self._between(first, last + 1)[frames[heard] - first]
        return values

    def content(self) -> bytes:
        return self.waveform.content()

    def _between(self, first: int, stop: int) -> np.ndarray:
        """[P, 64], made with one pixel frame more on either side, whose sound theirs looks into."""
        heard, ready = stop * SAMPLES_PER_PIXEL_FRAME + _REACH, self.waveform.num_ready
        if self.waveform.num_samples is None and heard > ready:
            raise not_ready(heard, ready)
        begin, end = (first - 1) * SAMPLES_PER_PIXEL_FRAME, (stop + 1) * SAMPLES_PER_PIXEL_FRAME
        samples = self.waveform.read(begin, heard)
        return log_mel(samples)[1 : 1 + stop - first].numpy() if end > begin else np.zeros((0, MEL_DIM))


@dataclass(frozen=True, eq=False)
class SpokenMel(LiveMel):
    """The same of a sound that is there: made in blocks, so that a frame has the same values whoever asks for it."""

    _made: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict, init=False, repr=False)

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, 64]"""
        values = np.empty((len(frames), MEL_DIM), dtype=np.float32)
        numbers = frames // _BLOCK
        for number in np.unique(numbers):
            here = numbers == number
            values[here] = self._block(int(number))[frames[here] - number * _BLOCK]
        return values

    def _block(self, number: int) -> np.ndarray:
        if number not in self._made:
            first = number * _BLOCK
            # which also finds out whether the sound ends here
            block = self._between(first, first + _BLOCK)
            if self.num_pixel_frames is not None:
                block[max(0, self.num_pixel_frames - first) :] = SILENCE
            self._made[number] = block
            if len(self._made) > _BLOCKS_KEPT:
                self._made.popitem(last=False)
        return self._made[number]
