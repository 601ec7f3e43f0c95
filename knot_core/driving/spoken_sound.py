"""A sound that is there, as 16 kHz mono that is read as it is needed: hours of it take no more memory than seconds.

Everything is made on a grid of whole seconds from the sound's beginning: however it is read, the numbers are the same.

Shapes: C channels, S samples.
"""

import hashlib
import math
import threading
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as fn
from torch import Tensor

from ..errors import DrivingError
from ..media import Audio, AudioFile, Sound
from ..media.downmix import MEAN, chosen, mixed
from .audio import SAMPLE_RATE, Reach, resample
from .waveform import Waveform

FAR = 2**50  # samples: more than anybody asks for
_SECONDS = 4  # that are resampled at once
_BLOCKS_KEPT = 6  # 24 seconds: the longest window of a speech encoder has 16
_SECONDS_KEPT = 8  # at the sound's own rate: a block, and what its low-pass reaches into


class OwnRate:
    """A sound as one channel at its own rate, second by second."""

    def __init__(self, sound: Sound) -> None:
        self.sample_rate, self.num_samples = sound.sample_rate, sound.num_samples
        self._sound, self._next = sound, 0  # second that the sound is read at
        self._choices: list[int] = []
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def second(self, number: int) -> Tensor:
        """[S], fewer where the sound ends, none behind it."""
        if number not in self._kept:
            if number < self._next:
                self._go_back(number)
            for here in range(self._next, number + 1):
                if self._is_behind(here):
                    break
                self._take(here)
        return self._kept.get(number, torch.zeros(0))

    def _go_back(self, number: int) -> None:
        """A file is read anew from its beginning."""
        again = self._sound.again()
        self._sound, self._next = again, number if again is self._sound else 0

    def _is_behind(self, number: int) -> bool:
        return self.num_samples is not None and number * self.sample_rate >= self.num_samples

    def _take(self, number: int) -> None:
        rate = self.sample_rate
        block, self._next = self._sound.read(number * rate, (number + 1) * rate), number + 1
        before = self._choices[number - 1] if number else MEAN
        if number == len(self._choices):
            self._choices.append(chosen(block, before))
        if block.shape[1] < rate:
            self.num_samples = number * rate + block.shape[1]
        self._kept[number] = mixed(block, before, self._choices[number], rate)
        if len(self._kept) > _SECONDS_KEPT:
            self._kept.popitem(last=False)


class SpokenSound:
    """A `Waveform` of an `Audio` or an `AudioFile`. How long a file's sound is turns out where it ends."""

    def __init__(self, sound: Sound, *, gain: float = 0.0) -> None:
        """Louder by `gain` dB."""
        self._sound, self._gain = sound, gain
        self._own = OwnRate(sound)
        self._reach = Reach.of(sound.sample_rate)
        self._blocks: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def num_samples(self) -> int | None:
        own = self._own.num_samples
        return None if own is None else math.ceil(own * SAMPLE_RATE / self._own.sample_rate)

    @property
    def num_ready(self) -> int:
        return FAR if self.num_samples is None else self.num_samples

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start], zeros outside. Whether the sound ends at `stop` or before is known then."""
        first, last = max(0, start), max(0, stop)
        size = _SECONDS * SAMPLE_RATE
        with self._lock:
            parts = [self._block(number) for number in range(first // size, last // size + 1)]
        found = torch.cat(parts)[first - first // size * size :][: last - first]
        before = min(max(0, -start), stop - start)
        return fn.pad(found, (before, stop - start - before - found.numel()))

    def find_end(self, sample: int) -> None:
        if self.num_samples is None:
            self.read(sample, sample)

    def content(self) -> bytes:
        found = hashlib.sha256(f"spoken {float(self._gain)} ".encode() + self._sound.content())
        return found.digest()

    def _block(self, number: int) -> Tensor:
        """At 16 kHz, from second 4 * number on; fewer where the sound ends, none behind it."""
        if number not in self._blocks:
            self._blocks[number] = self._made(number)
            if len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _made(self, number: int) -> Tensor:
        rate, reach = self._own.sample_rate, self._reach
        start, stop = _SECONDS * number * rate, _SECONDS * (number + 1) * rate
        found = resample(self._around(start - reach.samples, stop + reach.samples), rate)[reach.resampled :]
        begin = _SECONDS * number * SAMPLE_RATE
        length = _SECONDS * SAMPLE_RATE if self.num_samples is None else self.num_samples - begin
        block = found[: max(0, min(_SECONDS * SAMPLE_RATE, length))]
        return block.clone() if self._gain == 0 else block * 10 ** (self._gain / 20)

    def _around(self, start: int, stop: int) -> Tensor:
        """[stop - start] at the sound's own rate, zeros outside."""
        rate = self._own.sample_rate
        first = max(0, start) // rate
        found = torch.cat([self._own.second(number) for number in range(first, -(-stop // rate))])
        inside = found[max(0, start) - first * rate :][: stop - max(0, start)]
        before = max(0, -start)
        return fn.pad(inside, (before, stop - start - before - inside.numel()))


def spoken(sound: Any, *, gain: float = 0.0) -> Waveform:
    """The waveform of an `Audio` or an `AudioFile`, amplified by `gain` dB; a `Waveform` is returned as it is.

    Raises `DrivingError` for anything else, and for a sound of no samples.
    """
    if sound is None:
        raise DrivingError("there is no sound (the clip may have none) to drive the mouth; give a sound, or "
                           "drive by controls or idle motion")  # fmt: skip
    if hasattr(sound, "samples") and hasattr(sound, "sample_rate"):
        sound = sound if isinstance(sound, Audio) else Audio(samples=sound.samples, sample_rate=sound.sample_rate)
    elif not isinstance(sound, AudioFile):
        if not all(hasattr(sound, name) for name in ("read", "num_ready", "num_samples")):
            raise DrivingError(f"got a {type(sound).__name__} as sound; give an Audio(samples=, sample_rate=), an "
                               "AudioFile, or a LiveAudio")  # fmt: skip
        return sound
    waveform = SpokenSound(sound, gain=gain)
    waveform.read(0, 1)
    if waveform.num_samples == 0:
        raise DrivingError("the sound has no samples; give a longer one")
    return waveform
