"""Speech features in time: which sound each of them is made of, so that they can be made while it arrives.

A whole wav2vec2 cannot stream. Its first convolution is normalised over all of the sound, its position embedding looks
64 pixel frames to either side, its attention sees everything, its input is brought to the variance of the whole, and
where the convolutions' steps do not fall on pixel frames evenly (16 a second) they are stretched from first to last, so
that features slide by up to 37 ms over a clip. So each group of pixel frames gets a window: sound from `before` pixel
frames ahead of it to `ahead` behind it, on which the whole model is run, with every frame at its own time. This is the
definition, for recordings too: features made while sound arrives are the same numbers, time and memory are constant,
and sound that is shorter than the first window is heard whole, as the families define it.

How far that is from the whole model depends on the weights. On random ones of full size (12 layers of 768) and 24 s of
speech, the root mean square difference of the last layer is 24 to 26 % of its own variation in time with `LIVE`, and 4
to 7 % with `RECORDED`; of another sound's features it is 140 %. At 16 a second the whole model itself, stretched from
first to last, moves away from every frame's own time: 14 % at the clip's beginning, more than 100 % at its end.

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
from .tracks import FrameNumbers, Values
from .wav2vec import SpeechEncoder
from .waveform import Waveform, not_ready

_REMEMBERED = 3  # groups: a chunk asks for the end of one, the next, and what the knot looks ahead to


@dataclass(frozen=True, kw_only=True)
class SpeechWindow:
    """The lengths, in pixel frames, of a group whose features are made at once, and of the sound around it."""

    group: int
    before: int  # of the sound before its first pixel frame
    ahead: int  # of the sound behind its last one

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            SettingsError: a length is no whole number, or too small.
        """
        for name, least in (("group", 1), ("before", 0), ("ahead", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise SettingsError(
                    f"the speech window's {name} is {value!r}; it must be a whole number, {least} or more"
                )


RECORDED = SpeechWindow(group=48, before=128, ahead=72)  # past the reach of the position embedding on both sides
LIVE = SpeechWindow(group=12, before=100, ahead=12)  # a chunk at a time, half a second behind the speaker


@dataclass(frozen=True, kw_only=True, eq=False)
class Hearing:
    """A track: `choose` of wav2vec2's states, pixel frame by pixel frame. Past the sound's end it hears silence."""

    waveform: Waveform
    encoder: SpeechEncoder
    window: SpeechWindow
    samples_per_frame: int
    phase: int  # groups end at pixel frames phase + n * group, so that they end where latent frames do
    choose: Callable[[Tensor], Tensor]  # [P, 1 + L, H] -> [P, V]
    spread: bool = False  # over one pixel frame more than the sound is long, first step on first and last on last
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
        heard = self.waveform.num_ready // self.samples_per_frame - self._ahead
        groups = (heard - self.phase) // self.window.group
        return self.phase + groups * self.window.group if groups > 0 else 0

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, V]"""
        numbers = np.maximum(0, (frames - self.phase) // self.window.group)
        return np.stack(
            [
                self._group(number)[frame - self._span(number)[0]]
                for number, frame in zip(*self._within_sound(numbers, frames), strict=True)
            ]
        )

    def end_within(self, frame: int) -> int | None:
        """`num_pixel_frames`, having looked for it as far as that pixel frame."""
        self.waveform.find_end(frame * self.samples_per_frame)
        return self.num_pixel_frames

    def content(self) -> bytes:
        head = f"{self.encoder.digest} {self.window} {self.samples_per_frame} {self.phase} {self.choose.__name__} "
        return head.encode() + b"spread " * self.spread + self.waveform.content()

    @property
    def _rows(self) -> int | None:
        """Pixel frames over which all of the sound is spread."""
        end = self.num_pixel_frames
        return end + 1 if end is not None and self.spread else end

    @property
    def _period(self) -> int:
        """Pixel frames after which a convolution step falls on a pixel frame again: 1 at 25 a second, 8 at 16. Where
        they are spread, that is not waited for.
        """
        return 1 if self.spread else HOP // math.gcd(HOP, self.samples_per_frame)

    @property
    def _ahead(self) -> int:
        """Windows end with a step on a pixel frame, so they may be cut by almost a period, but not into the group."""
        return max(self.window.ahead, self._period - 1)

    def _within_sound(self, numbers: np.ndarray, frames: FrameNumbers) -> tuple[Sequence[int], Sequence[int]]:
        """Groups whose window holds nothing but the silence after the end are alike: the first ones stand for them."""
        end = self.num_pixel_frames
        if end is None:
            return numbers.tolist(), frames.tolist()
        group, cycle = self.window.group, self._period // math.gcd(self._period, self.window.group)
        silent = 1 + max(0, -(-(end + self.window.before + self._period - self.phase) // group))
        excess = np.maximum(0, numbers - silent) // cycle * cycle
        return (numbers - excess).tolist(), (frames - excess * group).tolist()

    def _span(self, number: int) -> tuple[int, int]:
        """Pixel frames of a group; the first one begins with the stream."""
        start = self.phase + number * self.window.group
        return (start if number else 0), start + self.window.group

    def _group(self, number: int) -> np.ndarray:
        if number not in self._made:
            self._made[number] = self._hear(*self._span(number))
            if len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return self._made[number]

    def _hear(self, start: int, stop: int) -> np.ndarray:
        """Values of pixel frames start .. stop - 1."""
        self.end_within(stop + self._ahead)
        end = self._rows
        begin = max(0, start - self.window.before) // self._period * self._period
        if end is None or begin > 0 or not start < end < stop + self._ahead:
            return self._hear_window(begin, start, stop)
        num_samples = self.num_pixel_frames * self.samples_per_frame
        whole = self.choose(self.encoder.states(self.waveform.read(0, num_samples), end)).numpy()
        after = [self._hear_window(begin, max(start, end), stop)] if end < stop else []
        return np.concatenate([whole[start:stop], *after])

    def _hear_window(self, begin: int, start: int, stop: int) -> np.ndarray:
        per_frame, ready, period = self.samples_per_frame, self.waveform.num_ready, self._period
        if self.spread:
            return self._hear_spread(begin, start, stop)
        if self.waveform.num_samples is None and (stop + self._ahead) * per_frame > ready:
            raise not_ready((stop + self._ahead) * per_frame, ready)
        # first step on first frame, last step on last frame: then those between fall on theirs
        last = begin + (stop + self._ahead - 1 - begin) // period * period
        samples = self.waveform.read(begin * per_frame, last * per_frame + CONVOLUTION_REACH)
        states = self.encoder.states(samples, last + 1 - begin)
        return self.choose(states[start - begin : stop - begin]).numpy()

    def _hear_spread(self, begin: int, start: int, stop: int) -> np.ndarray:
        """The same of a sound of known length: pixel frame p stands at convolution step p * (N - 1) / (rows - 1)."""
        num_steps = max(1, (self.num_pixel_frames * self.samples_per_frame - CONVOLUTION_REACH) // HOP + 1)
        places = torch.arange(begin, stop + self.window.ahead).double() * ((num_steps - 1) / (self._rows - 1))
        first, last = int(places[0]), math.ceil(places[-1]) + 1
        samples = self.waveform.read(first * HOP, last * HOP + CONVOLUTION_REACH)
        states = self.encoder.states(samples, len(places), places - first)
        return self.choose(states[start - begin : stop - begin]).numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class HeardLayers:
    """A track over wav2vec2 states that a host made at their own rate, about 50 a second; past their end they hold.

    A host stretches nothing before the transformer, so its layers ran at another rate than in the portrait network's
    training; here each layer is stretched afterwards, linearly, to the same points in time. On random weights the root
    mean square difference is 46 to 51 % of the features' own variation in time (of another sound's features: 140 %).
    What it costs a trained network, only trained weights can say; where the sound itself is at hand, use `Hearing`.
    """

    layers_NH: Sequence[Tensor]  # 1 + L of them
    num_samples: int  # of the sound, at 16 kHz
    samples_per_frame: int
    choose: Callable[[Tensor], Tensor]
    spread: bool = False  # as in `Hearing`
    num_ready: None = None

    @property
    def num_pixel_frames(self) -> int:
        return max(1, math.ceil(self.num_samples / self.samples_per_frame))

    def end_within(self, _frame: int) -> int:
        """`num_pixel_frames`."""
        return self.num_pixel_frames

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, V]"""
        place = self._places(torch.from_numpy(np.minimum(frames, self.num_pixel_frames - 1 + self.spread)))
        low = place.floor().long()
        high, weight = (low + 1).clamp(max=len(self.layers_NH[0]) - 1), (place - low)[:, None].float()
        states = [torch.lerp(layer[low].float().cpu(), layer[high].float().cpu(), weight) for layer in self.layers_NH]
        return self.choose(torch.stack(states, dim=1)).numpy()

    def content(self) -> bytes:
        head = f"{self.num_samples} {self.samples_per_frame} {self.choose.__name__} " + "spread " * self.spread
        return head.encode() + b"".join(layer.float().cpu().numpy().tobytes() for layer in self.layers_NH)

    def _places(self, frames_P: Tensor) -> Tensor:
        """Convolution steps, float64: evenly spread over the pixel frames, first on first and last on last."""
        padded = self.num_pixel_frames * self.samples_per_frame
        steps = (padded - CONVOLUTION_REACH) // HOP + 1
        place = frames_P.double() * ((steps - 1) / max(1, self.num_pixel_frames - 1 + self.spread))
        return place.clamp(max=len(self.layers_NH[0]) - 1)
