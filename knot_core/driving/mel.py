"""The mel features of speech that still arrives.

Shapes: P pixel frames, S samples.
"""

import math
from dataclasses import dataclass

import numpy as np

from .audio import HOP, MEL_DIM, SAMPLES_PER_PIXEL_FRAME, SILENCE, WINDOW, log_mel
from .tracks import Frames, Values
from .waveform import Waveform, not_ready

_REACH = (WINDOW - HOP) // 2  # samples past a pixel frame that it hears


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

    def at(self, frames: Frames) -> Values:
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
