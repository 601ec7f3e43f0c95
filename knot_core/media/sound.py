"""Sound in: any file PyAV opens becomes float samples, at its own rate, mono or stereo.

Shapes: C channels (1 or 2), S samples.
"""

import hashlib
import logging
import os
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import av
import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from .containers import UNREADABLE, Source, name_of, open_container, reason
from .decoding import SoundDecoder, expected_seconds
from .downmix import downmix
from .samples import check_rate, to_samples
from .sound_report import say

logger = logging.getLogger(__name__)

_MOST_HELD = 2**29  # samples of all channels, 2 GiB: 93 minutes of stereo at 48 kHz, 9 hours of mono at 16 kHz
_MOST_CHANNELS = 8  # 7.1
_HASHED_AT_ONCE = 2**20  # samples, or bytes


class Sound(Protocol):
    """A sound: an `Audio` or an `AudioFile`."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""

    @property
    def num_channels(self) -> int:
        """1 or 2."""

    @property
    def num_samples(self) -> int | None:
        """The number of samples; None while it is unknown."""

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [C, S] of samples start .. stop-1, fewer where the sound ends; later calls do not go back."""

    def again(self) -> "Sound":
        """The same sound, to be read from its beginning."""

    def content(self) -> bytes:
        """A digest that identifies the sound."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """Sound at its own sample rate, for muxing; speech features resample it to 16 kHz mono themselves.

    `samples` may be an array of any library, or lists, [channels, samples] or [samples]; integers are scaled by their
    type. More than two channels become one. Memory is shared where it can be: do not change the array afterwards.
    """

    samples: Tensor  # float32 [C, S], full scale -1..1
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        rate, samples = check_rate(self.sample_rate), to_samples(self.samples)
        if samples.shape[0] > 2:
            logger.info("the sound has %d channels: they are mixed into one", samples.shape[0])
            samples = downmix(samples, rate)[None]
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", rate)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.samples.shape[1] / self.sample_rate

    @property
    def num_channels(self) -> int:
        """The number of channels."""
        return self.samples.shape[0]

    @property
    def num_samples(self) -> int:
        """The number of samples per channel."""
        return self.samples.shape[1]

    def read(self, start: int, stop: int) -> Tensor:
        """[C, S] of samples start .. stop-1, fewer where the sound ends."""
        return self.samples[:, start:stop]

    def again(self) -> "Audio":
        """The same object: it can be read in any order."""
        return self

    def content(self) -> bytes:
        """A digest of rate and samples."""
        found = hashlib.sha256(f"{self.sample_rate} {list(self.samples.shape)} ".encode())
        for part in self.samples.split(_HASHED_AT_ONCE, dim=1):
            found.update(part.contiguous().numpy().tobytes())
        return found.digest()

    def starting_at(self, seconds: float) -> "Audio":
        """The sound from `seconds` on, possibly empty; a negative value puts silence before it."""
        start = round(seconds * self.sample_rate)
        samples = self.samples[:, start:] if start >= 0 else torch.nn.functional.pad(self.samples, (-start, 0))
        return replace(self, samples=samples)


class AudioFile:
    """The sound of a file, read as by `open_audio`, but piece by piece and in order: memory does not grow with its
    length.
    """

    def __init__(self, path: str | os.PathLike[str], *, seconds: float = 0.0) -> None:
        """Open the file; sample 0 is the sound at `seconds` (from 0 on) in the file.

        Raises:
            MediaError: the file cannot be read, or holds no audio stream that can be decoded.
        """
        self._path, self._name, self._seconds = path, str(path), seconds
        self._container = _open(path, self._name)
        self._decoder = SoundDecoder(self._container, path)
        self._blocks, self._silent = self._decoder.blocks(), False
        self.sample_rate, self.num_channels = self._decoder.sample_rate, self._decoder.num_channels
        self.expected_seconds = expected_seconds(self._container)  # of all of it, by its own word; None: it says none
        self._skip = round(seconds * self.sample_rate)
        self._held, self._first = np.zeros((self.num_channels, 0), np.float32), 0  # of the file, and where that begins
        self._ended = False

    @property
    def path(self) -> str | os.PathLike[str]:
        """The path as it was given."""
        return self._path

    @property
    def num_samples(self) -> int | None:
        """The number of samples; None until the file was read to its end."""
        return max(0, self._first + self._held.shape[1] - self._skip) if self._ended else None

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [C, S] of samples start .. stop-1, fewer where the sound ends; samples that were read are freed.

        Raises:
            MediaError: `start` lies before what was read already, or the file holds no sound.
        """
        start, stop = start + self._skip, stop + self._skip
        if start < self._first:
            raise MediaError(f"the sound {self._name} was read past sample {start}; open it again to go back")
        while self._first + self._held.shape[1] < stop and not self._ended:
            self._drop_until(start)
            block = next(self._blocks, None)
            if block is None:
                self._end()
                break
            self._held = np.concatenate([self._held, block], axis=1)
        self._drop_until(start)
        return torch.from_numpy(self._held[:, : max(0, stop - self._first)].copy())

    def again(self, *, seconds: float | None = None) -> "AudioFile":
        """Another reader of the file, from its beginning or from `seconds` on; warnings about it are not repeated."""
        twin = AudioFile(self._path, seconds=self._seconds if seconds is None else seconds)
        twin._silent = True
        return twin

    def content(self) -> bytes:
        """A digest of the file."""
        found = hashlib.sha256(f"{self._seconds} ".encode())
        with open(self._path, "rb") as file:
            while part := file.read(_HASHED_AT_ONCE):
                found.update(part)
        return found.digest()

    def close(self) -> None:
        """Log damage that was found, and close the file. Calling it again has no effect."""
        self._say()
        self._decoder.close()
        self._container.close()

    def _end(self) -> None:
        self._ended = True
        if not self._decoder.report.num_heard:
            self._silent = True
            raise _nothing_in(self._name, self._decoder)
        self._say()

    def _say(self) -> None:
        if not self._silent:
            self._silent = True
            say(self._decoder.report, self._name)

    def _drop_until(self, sample: int) -> None:
        gone = min(max(0, sample - self._first), self._held.shape[1])
        self._held, self._first = self._held[:, gone:], self._first + gone


def open_audio(source: Source) -> Audio:
    """The first audio stream of a sound or video file; more than two channels are mixed down to stereo.

    Damaged parts are skipped, and the sound follows its time stamps: second 0 is that of the clip, and gaps are silent.

    Raises:
        MediaError: the source cannot be read, holds no decodable sound, or more than fits in memory.
    """
    name = name_of(source, "the sound")
    with _open(source, name) as container:
        parts, held = [], 0
        with closing(SoundDecoder(container, source)) as decoder:
            for block in decoder.blocks():
                parts.append(block)
                held += block.size
                if held > _MOST_HELD:
                    minutes = held / len(block) / decoder.sample_rate / 60
                    raise MediaError(f"the sound {name} goes on after {minutes:.0f} minutes, more than is held in "
                                     "memory; cut it, or give it as mono or at 16 kHz")  # fmt: skip
        if not decoder.report.num_heard:
            raise _nothing_in(name, decoder)
        say(decoder.report, name)
        return Audio(samples=_joined(parts), sample_rate=decoder.sample_rate)


def _joined(parts: list[np.ndarray]) -> Tensor:
    """[C, S] of blocks, which are let go one by one."""
    joined = torch.empty(parts[0].shape[0], sum(part.shape[1] for part in parts))
    at = 0
    for place, part in enumerate(parts):
        joined[:, at : at + part.shape[1]] = torch.from_numpy(part)
        at, parts[place] = at + part.shape[1], None
    return joined


def _nothing_in(name: str, decoder: SoundDecoder) -> MediaError:
    why = decoder.report.first_error
    if why is not None:
        return MediaError(f"the sound {name} is damaged ({why}); give another file")
    return MediaError(f"{name} holds no sound at all (0 samples); give a longer one")


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
        raise MediaError(f"{name} has {stream.channels} channels, whose layout is unknown; mix it "
                         "down to stereo or mono")  # fmt: skip
    check_rate(stream.rate)
