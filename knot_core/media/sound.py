"""Sound in: any file PyAV opens becomes float samples, at its own rate, mono or stereo.

Shapes: C channels (1 or 2), S samples.
"""

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from .containers import UNREADABLE, Source, name_of, open_container, reason

logger = logging.getLogger(__name__)

RATES = (1_000, 768_000)  # Hz: below, no speech is left; above, there are no sounds, and resampling takes memory
_MOST_HELD = 2**29  # samples of all channels, 2 GiB: 93 minutes of stereo at 48 kHz, 9 hours of mono at 16 kHz
_MOST_CHANNELS = 8  # 7.1
_LOUDEST = 1e8  # times full scale: files of floats may pass it, but what is louder than this is damage


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """Sound at the rate it came with, for muxing; speech features make their own 16 kHz mono of it."""

    samples: Tensor  # float32 [C, S], full scale -1..1
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        samples, sample_rate = self.samples, self.sample_rate
        if samples.ndim != 2 or samples.shape[0] == 0:
            raise MediaError(f"the sound has shape {list(samples.shape)}; it must be [channels, samples]")
        _check_rate(sample_rate)
        if not samples.isfinite().all():
            raise MediaError("the sound holds values that are no numbers (NaN or infinite); look at what made it")
        if samples.numel() and samples.abs().max() > _LOUDEST:
            raise MediaError("the sound is more than 160 dB above full scale; look at what made it")
        if samples.shape[0] > 2:
            logger.info("the sound has %d channels: their mean is used", samples.shape[0])
            samples = samples.mean(dim=0, keepdim=True)
        object.__setattr__(self, "samples", samples.detach().to("cpu", torch.float32))
        object.__setattr__(self, "sample_rate", int(sample_rate))

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate

    @property
    def num_channels(self) -> int:
        return self.samples.shape[0]

    def read(self, start: int, stop: int) -> Tensor:
        """[C, S] of samples start .. stop-1, fewer where the sound ends."""
        return self.samples[:, start:stop]

    def starting_at(self, seconds: float) -> "Audio":
        """What is left after so many seconds; may be nothing. Below 0: the sound after so much silence."""
        start = round(seconds * self.sample_rate)
        samples = self.samples[:, start:] if start >= 0 else torch.nn.functional.pad(self.samples, (-start, 0))
        return replace(self, samples=samples)


class AudioFile:
    """A file's sound as `open_audio` reads it, but piece by piece and in order, so that hours of it take no memory."""

    def __init__(self, path: str | os.PathLike[str], *, seconds: float = 0.0) -> None:
        """Its sample 0 is the file's at `seconds`."""
        self._name, self._container = str(path), _open(path, str(path))
        stream = self._container.streams.audio[0]
        self.sample_rate, self.num_channels = stream.rate, min(stream.channels, 2)
        self._blocks = _decode(self._container, stream, self._name)
        self._skip = round(seconds * self.sample_rate)
        self._held, self._first = np.zeros((self.num_channels, 0), np.float32), 0  # of the file, and where that begins

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [C, S] of samples start .. stop-1, fewer where the sound ends. What was read is gone."""
        start, stop = start + self._skip, stop + self._skip
        if start < self._first:
            raise MediaError(f"the sound {self._name} was read past sample {start}; open it again to go back")
        while self._first + self._held.shape[1] < stop:
            self._drop_until(start)
            block = next(self._blocks, None)
            if block is None:
                break
            self._held = np.concatenate([self._held, block], axis=1)
        self._drop_until(start)
        return torch.from_numpy(self._held[:, : stop - self._first].copy())

    def close(self) -> None:
        self._container.close()

    def _drop_until(self, sample: int) -> None:
        gone = min(max(0, sample - self._first), self._held.shape[1])
        self._held, self._first = self._held[:, gone:], self._first + gone


def open_audio(source: Source) -> Audio:
    """The first audio stream of a sound or video file; more than two channels are mixed down to stereo."""
    name = name_of(source, "the sound")
    with _open(source, name) as container:
        stream = container.streams.audio[0]
        parts, held = [], 0
        for block in _decode(container, stream, name):
            parts.append(block)
            held += block.size
            if held > _MOST_HELD:
                raise MediaError(f"the sound {name} goes on after {held / len(block) / stream.rate / 60:.0f} minutes, "
                                 "more than is held in memory; cut it, or give it as mono or at 16 kHz")  # fmt: skip
        if not held:
            raise MediaError(f"{name} holds no sound at all (0 samples); give a longer one")
        return Audio(samples=torch.from_numpy(np.concatenate(parts, axis=1)), sample_rate=stream.rate)


def _open(source: Source, name: str) -> av.container.InputContainer:
    try:
        container = open_container(source)
    except UNREADABLE as problem:
        raise MediaError(
            f"the sound {name} cannot be read ({reason(problem)}); give a WAV, MP3, FLAC, M4A or the like"
        ) from problem
    try:
        _check_stream(container, name)
    except MediaError:
        container.close()
        raise
    return container


def _check_stream(container: av.container.InputContainer, name: str) -> None:
    if not container.streams.audio:
        raise MediaError(f"{name} has no audio stream; give a file with sound in it")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{name} holds sound of a kind that is not known here; give a WAV, MP3, FLAC, M4A or the like")
    if not 1 <= stream.channels <= _MOST_CHANNELS:
        raise MediaError(f"{name} has {stream.channels} channels, of which nothing says where they sound from; mix it "
                         "down to stereo or mono")  # fmt: skip
    _check_rate(stream.rate)


def _check_rate(sample_rate: float) -> None:
    low, high = RATES
    if not low <= sample_rate <= high or sample_rate != int(sample_rate):
        raise MediaError(f"the sample rate is {sample_rate}; it must be a whole number of Hz from {low} to {high}")


def _decode(container: av.container.InputContainer, stream: av.AudioStream, name: str) -> Iterator[np.ndarray]:
    """float32 [C, S], block by block, of the whole stream, or of what stands before the first damaged place."""
    layout = "mono" if stream.channels == 1 else "stereo"
    num_samples = 0
    try:
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=stream.rate)
        for frame in itertools.chain(container.decode(stream), [None]):
            for block in resampler.resample(frame):
                num_samples += block.samples
                yield block.to_ndarray()
    except UNREADABLE as problem:
        if not num_samples:
            raise MediaError(f"the sound {name} is damaged ({reason(problem)}); give another file") from problem
        seconds = num_samples / stream.rate
        logger.warning(
            "the sound %s is damaged after %.2f s (%s): what stands before is used", name, seconds, reason(problem)
        )
