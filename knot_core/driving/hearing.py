"""Speech features in time: which sound each of them is made of, so that they can be made while it arrives.

A whole wav2vec2 cannot stream. Its first convolution is normalised over all of the sound, its position embedding looks
64 pixel frames to either side, its attention sees everything, and its input is brought to the variance of the whole. So
each block of pixel frames gets a window: sound from `before` pixel frames ahead of it to `ahead` behind it, and the
whole model is run on that. This is the definition, for recordings too: features made while sound arrives are the same
numbers, time and memory are constant, and of sound no longer than the first window they are the whole model's.
How far they are from the whole model's elsewhere depends on the weights; `tests/core/test_wav2vec.py` measures random
ones.

Shapes: P pixel frames, N convolution steps, L layers, H hidden dim, V = values of a pixel frame.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import SettingsError
from .audio import HOP
from .audio import WINDOW as CONVOLUTION_REACH  # wav2vec2's convolutions see 400 samples, 320 apart, as the mel does
from .tracks import Frames, Values
from .wav2vec import SpeechEncoder
from .waveform import Waveform, not_ready

_REMEMBERED = 3  # blocks: a chunk asks for the end of one, the next, and what the knot looks ahead to


@dataclass(frozen=True, kw_only=True)
class SpeechWindow:
    """In pixel frames: what is made at once, and the sound around it that it is made of."""

    block: int
    before: int
    ahead: int

    def __post_init__(self) -> None:
        for name, least in (("block", 1), ("before", 0), ("ahead", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise SettingsError(
                    f"the speech window's {name} is {value!r}; it must be a whole number, {least} or more"
                )


RECORDED = SpeechWindow(block=48, before=128, ahead=72)  # past the reach of the position embedding on both sides
LIVE = SpeechWindow(block=12, before=100, ahead=12)  # a chunk at a time, half a second behind the speaker


@dataclass(frozen=True, kw_only=True, eq=False)
class Hearing:
    """A track: `choose` of wav2vec2's states, pixel frame by pixel frame. Past the sound's end it hears silence."""

    waveform: Waveform
    encoder: SpeechEncoder
    window: SpeechWindow
    samples_per_frame: int
    phase: int  # blocks end at pixel frames phase + n * block, so that they end where latent frames do
    choose: Callable[[Tensor], Tensor]  # [P, 1 + L, H] -> [P, V]
    _made: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict, init=False, repr=False)

    @property
    def num_pixel_frames(self) -> int | None:
        samples = self.waveform.num_samples
        return None if samples is None else math.ceil(samples / self.samples_per_frame)

    @property
    def num_ready(self) -> int | None:
        """Pixel frames that can be had by now; None = all."""
        if self.waveform.num_samples is not None:
            return None
        heard = self.waveform.num_ready // self.samples_per_frame - self.window.ahead
        blocks = (heard - self.phase) // self.window.block
        return self.phase + blocks * self.window.block if blocks > 0 else 0

    def at(self, frames: Frames) -> Values:
        """[P] -> [P, V]"""
        numbers = np.maximum(0, (frames - self.phase) // self.window.block)
        return np.stack(
            [
                self._block(number)[frame - self._span(number)[0]]
                for number, frame in zip(*self._within_sound(numbers, frames), strict=True)
            ]
        )

    def content(self) -> bytes:
        head = f"{self.encoder.digest} {self.window} {self.samples_per_frame} {self.phase} {self.choose.__name__} "
        return head.encode() + self.waveform.content()

    def _within_sound(self, numbers: np.ndarray, frames: Frames) -> tuple[Sequence[int], Sequence[int]]:
        """Blocks whose window holds nothing but the silence after the end are all alike: the first stands for them."""
        end = self.num_pixel_frames
        if end is None:
            return numbers.tolist(), frames.tolist()
        silent = 1 + max(0, -(-(end + self.window.before - self.phase) // self.window.block))
        excess = np.maximum(0, numbers - silent)
        return (numbers - excess).tolist(), (frames - excess * self.window.block).tolist()

    def _span(self, number: int) -> tuple[int, int]:
        """Pixel frames of a block; the first one begins with the stream."""
        start = self.phase + number * self.window.block
        return (start if number else 0), start + self.window.block

    def _block(self, number: int) -> np.ndarray:
        if number not in self._made:
            self._made[number] = self._hear(*self._span(number))
            if len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return self._made[number]

    def _hear(self, start: int, stop: int) -> np.ndarray:
        """Values of pixel frames start .. stop - 1; the window ends with the sound as long as that is being spoken."""
        end = self.num_pixel_frames
        heard = stop + self.window.ahead
        if end is None or end >= heard or end <= start:
            return self._hear_until(start, stop, heard)
        spoken = self._hear_until(start, min(stop, end), end)
        return spoken if stop <= end else np.concatenate([spoken, self._hear_until(end, stop, heard)])

    def _hear_until(self, start: int, stop: int, heard: int) -> np.ndarray:
        per_frame, ready = self.samples_per_frame, self.waveform.num_ready
        if self.waveform.num_samples is None and heard * per_frame > ready:
            raise not_ready(heard * per_frame, ready)
        begin = max(0, start - self.window.before)
        samples = self.waveform.read(begin * per_frame, heard * per_frame)
        states = self.encoder.states(samples, heard - begin)
        return self.choose(states[start - begin : stop - begin]).numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class HeardLayers:
    """A track over wav2vec2 states that a host made at their own rate, about 50 a second; past their end they hold.

    A host stretches nothing before the transformer, so its layers ran at another rate than the portrait network's
    training had them; here each layer is stretched afterwards, linearly, to the same points in time. On random weights
    that differs by about as much as two different sounds do; what it costs a trained network, only its weights can say.
    """

    layers_NH: Sequence[Tensor]  # 1 + L of them
    num_samples: int  # of the sound, at 16 kHz
    samples_per_frame: int
    choose: Callable[[Tensor], Tensor]
    num_ready: None = None

    @property
    def num_pixel_frames(self) -> int:
        return max(1, math.ceil(self.num_samples / self.samples_per_frame))

    def at(self, frames: Frames) -> Values:
        """[P] -> [P, V]"""
        place = self._places(torch.from_numpy(np.minimum(frames, self.num_pixel_frames - 1)))
        low = place.floor().long()
        high, weight = (low + 1).clamp(max=len(self.layers_NH[0]) - 1), (place - low)[:, None].float()
        states = [torch.lerp(layer[low].float().cpu(), layer[high].float().cpu(), weight) for layer in self.layers_NH]
        return self.choose(torch.stack(states, dim=1)).numpy()

    def content(self) -> bytes:
        head = f"{self.num_samples} {self.samples_per_frame} {self.choose.__name__} "
        return head.encode() + b"".join(layer.float().cpu().numpy().tobytes() for layer in self.layers_NH)

    def _places(self, frames_P: Tensor) -> Tensor:
        """Convolution steps, float64: evenly spread over the pixel frames, first on first and last on last."""
        padded = self.num_pixel_frames * self.samples_per_frame
        steps = (padded - CONVOLUTION_REACH) // HOP + 1
        place = frames_P.double() * ((steps - 1) / max(1, self.num_pixel_frames - 1))
        return place.clamp(max=len(self.layers_NH[0]) - 1)
