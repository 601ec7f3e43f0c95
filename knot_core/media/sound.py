"""Sound in: any file PyAV opens becomes float samples, at its own rate, mono or stereo.

Shapes: C channels (1 or 2), S samples.
"""

import logging
import os
from dataclasses import dataclass, replace
from typing import BinaryIO

import av
import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """Sound at the rate it came with, for muxing; speech features make their own 16 kHz mono of it."""

    samples: Tensor  # float32 [C, S], full scale -1..1
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        samples, sample_rate = self.samples, self.sample_rate
        if samples.ndim != 2 or samples.shape[0] == 0:
            raise MediaError(f"the sound has shape {list(samples.shape)}; it must be [channels, samples]")
        if sample_rate != int(sample_rate) or sample_rate <= 0:
            raise MediaError(f"the sample rate is {sample_rate}; it must be a whole number of Hz above 0")
        if not samples.isfinite().all():
            raise MediaError("the sound holds values that are no numbers (NaN or infinite); look at what made it")
        if samples.shape[0] > 2:
            logger.info("the sound has %d channels: their mean is used", samples.shape[0])
            samples = samples.mean(dim=0, keepdim=True)
        object.__setattr__(self, "samples", samples.detach().to("cpu", torch.float32))
        object.__setattr__(self, "sample_rate", int(sample_rate))

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate

    def starting_at(self, seconds: float) -> "Audio":
        """What is left after so many seconds; may be nothing."""
        return replace(self, samples=self.samples[:, round(seconds * self.sample_rate) :])


def open_audio(source: str | os.PathLike[str] | BinaryIO) -> Audio:
    """The first audio stream of a sound or video file; more than two channels are mixed down to stereo."""
    name = getattr(source, "name", None) or (source if isinstance(source, str | os.PathLike) else "the sound")
    try:
        container = av.open(os.fspath(source) if isinstance(source, os.PathLike) else source)
    except (av.error.FFmpegError, OSError, ValueError) as problem:
        raise MediaError(
            f"the sound {name} cannot be read ({_reason(problem)}); give a WAV, MP3, FLAC, M4A or the like"
        ) from problem
    with container:
        if not container.streams.audio:
            raise MediaError(f"{name} has no audio stream; give a file with sound in it")
        stream = container.streams.audio[0]
        samples = _decode(container, stream, str(name))
        if samples.shape[1] == 0:
            raise MediaError(f"{name} holds no sound at all (0 samples); give a longer one")
        return Audio(samples=torch.from_numpy(samples), sample_rate=stream.rate)


def _decode(container: av.container.InputContainer, stream: av.AudioStream, name: str) -> np.ndarray:
    """float32 [C, S] of the whole stream, or of what stands before the first damaged place."""
    layout = "mono" if stream.channels == 1 else "stereo"
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=stream.rate)
    parts: list[np.ndarray] = []
    try:
        for frame in container.decode(stream):
            parts += [block.to_ndarray() for block in resampler.resample(frame)]
        parts += [block.to_ndarray() for block in resampler.resample(None)]
    except (av.error.FFmpegError, ValueError) as problem:
        if not parts:
            raise MediaError(f"the sound {name} is damaged ({_reason(problem)}); give another file") from problem
        seconds = sum(part.shape[1] for part in parts) / stream.rate
        logger.warning(
            "the sound %s is damaged after %.2f s (%s): what stands before is used", name, seconds, _reason(problem)
        )
    return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), dtype=np.float32)


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)
