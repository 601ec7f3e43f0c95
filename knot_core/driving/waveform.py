"""Speech as 16 kHz mono that may still be growing: a recording, or what a microphone gives.

Shapes: C channels, S samples.
"""

import math
import threading
import uuid
from typing import Protocol

import torch
import torch.nn.functional as fn
from torch import Tensor

from ..errors import DrivingError
from ..media.downmix import LiveDownmix
from ..media.samples import Samples, check_rate, to_samples
from .audio import SAMPLE_RATE, Reach, resample


class Waveform(Protocol):
    """16 kHz mono samples; silence is assumed before them, and after them once they have ended."""

    @property
    def num_samples(self) -> int | None:
        """The number of samples at 16 kHz; None while more may arrive."""

    @property
    def num_ready(self) -> int:
        """The number of samples at 16 kHz that have arrived."""

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start], zeros outside; of a waveform that goes on, only what is here may be read."""

    def find_end(self, sample: int) -> None:
        """Find out whether it ends there or before, if that can be known by now; `num_samples` then says so."""

    def content(self) -> bytes:
        """Bytes that differ between two different waveforms."""


class Recording:
    """Samples at 16 kHz, all of which are here."""

    def __init__(self, samples: Tensor) -> None:
        self._samples = samples.detach().to("cpu", torch.float32)

    @property
    def num_samples(self) -> int:
        return self._samples.numel()

    @property
    def num_ready(self) -> int:
        return self._samples.numel()

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start] at 16 kHz, zeros outside the recording."""
        return _cut(self._samples, start, stop)

    def find_end(self, sample: int) -> None:
        """Does nothing: the end is known."""

    def content(self) -> bytes:
        return self._samples.numpy().tobytes()


class LiveAudio:
    """Speech that arrives while the stream runs: `push` samples as they come, `close` when the speaker has ended.

    A driving made from it tells how far the stream may go (`Driving.num_ready_latents`). If the stream needs more, it
    raises an error, and may be continued later. Push and read may happen in different threads. Samples are freed
    `keep_seconds` after the oldest one that was read last, so memory stays constant as long as the sound is read.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE, *, keep_seconds: float = 10.0) -> None:
        sample_rate = check_rate(sample_rate)
        self._keep = round(keep_seconds * SAMPLE_RATE)
        self._downmix = LiveDownmix(sample_rate)
        self._resampler = None if sample_rate == SAMPLE_RATE else _Resampler(sample_rate)
        self._samples, self._first = torch.zeros(0), 0  # what is kept, and which sample stands first in it
        self._closed = False
        self._name = uuid.uuid4().hex
        self._lock = threading.RLock()

    def push(self, samples: Samples) -> None:
        """Append samples [S] or [C, S], full scale -1 .. 1; integers are scaled by their type.

        Several channels are mixed into one (see `downmix`). If they differ, this delays the sound by up to a second,
        since the mix is chosen second by second. Push one channel to avoid that.

        Raises:
            DrivingError: the sound was closed, or the number of channels changes.
        """
        new = to_samples(samples, piece=True)
        with self._lock:
            if self._closed:
                raise DrivingError("this live sound was closed, so nothing can be pushed; open another LiveAudio")
            if 1 != self._downmix.num_channels != new.shape[0] != 1:
                raise DrivingError(
                    f"got a piece of {new.shape[0]} channels, and those before had {self._downmix.num_channels}; push "
                    "as many each time, or one"
                )
            self._hear(self._downmix.push(new))

    def close(self) -> None:
        """End the speech; silence follows."""
        with self._lock:
            if not self._closed:
                self._hear(self._downmix.finish())
                self._append(torch.zeros(0) if self._resampler is None else self._resampler.finish())
            self._closed = True

    @property
    def num_samples(self) -> int | None:
        """The number of samples at 16 kHz; None until `close`."""
        return self.num_ready if self._closed else None

    @property
    def num_ready(self) -> int:
        """The number of samples at 16 kHz that have arrived."""
        with self._lock:
            return self._first + self._samples.numel()

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start] at 16 kHz, zeros outside the sound.

        Raises:
            DrivingError: the samples were freed already, or have not arrived yet.
        """
        with self._lock:
            if max(0, start) < self._first:
                raise DrivingError(
                    f"second {start / SAMPLE_RATE:.2f} of the live sound is forgotten: it is kept from second "
                    f"{self._first / SAMPLE_RATE:.2f} on; give LiveAudio a longer keep_seconds"
                )
            assert self._closed or stop <= self.num_ready, (stop, self.num_ready)
            found = _cut(self._samples, start - self._first, stop - self._first)
            drop = min(max(0, start - self._keep - self._first), self._samples.numel())
            if drop:
                self._samples, self._first = self._samples[drop:].clone(), self._first + drop
            return found

    def find_end(self, sample: int) -> None:
        """Does nothing: `close` sets the end."""

    def content(self) -> bytes:
        """Bytes that identify this sound: no two of them are the same."""
        return self._name.encode()  # what will be said is not known, so no two are equal

    def _hear(self, samples: Tensor) -> None:
        self._append(samples if self._resampler is None else self._resampler.push(samples))

    def _append(self, samples: Tensor) -> None:
        self._samples = torch.cat([self._samples, samples])


class _Resampler:
    """`resample`, piece by piece: each with as much sound around it as its low-pass reaches."""

    def __init__(self, sample_rate: int) -> None:
        common = math.gcd(sample_rate, SAMPLE_RATE)
        self._rate, self._period, self._made = sample_rate, sample_rate // common, SAMPLE_RATE // common
        self._margin = Reach.of(sample_rate).samples // self._period  # in periods
        self._input = torch.zeros(self._margin * self._period)  # silence before the beginning
        self._num_in = self._num_out = 0

    def push(self, samples: Tensor) -> Tensor:
        """All 16 kHz samples that nothing to come can change."""
        self._input = torch.cat([self._input, samples])
        self._num_in += samples.numel()
        periods = self._input.numel() // self._period - 2 * self._margin
        return self._take(periods) if periods > 0 else torch.zeros(0)

    def finish(self) -> Tensor:
        """The rest."""
        wanted = math.ceil(self._num_in * SAMPLE_RATE / self._rate) - self._num_out
        periods = math.ceil(wanted / self._made)
        missing = (periods + 2 * self._margin) * self._period - self._input.numel()
        self._input = fn.pad(self._input, (0, max(0, missing)))
        return self._take(periods)[:wanted] if wanted > 0 else torch.zeros(0)

    def _take(self, periods: int) -> Tensor:
        block = self._input[: (periods + 2 * self._margin) * self._period]
        skip = self._margin * self._made
        found = resample(block, self._rate)[skip : skip + periods * self._made]
        self._input = self._input[periods * self._period :].clone()
        self._num_out += found.numel()
        return found


def _cut(samples: Tensor, start: int, stop: int) -> Tensor:
    """[stop - start], zeros where there is nothing."""
    inside = samples[max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    return fn.pad(inside, (before, stop - start - before - inside.numel()))


def not_ready(wanted: int, ready: int) -> DrivingError:
    """The message if more of a live sound is needed than has arrived; both in samples."""
    return DrivingError(
        f"the stream needs the first {wanted / SAMPLE_RATE:.2f} s of a live sound, of which "
        f"{ready / SAMPLE_RATE:.2f} s have arrived; push more samples, or close it if the speech has ended"
    )
