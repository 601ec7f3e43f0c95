"""A stream into a file, until its end."""

import math
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from .bench import Meter
from .geometry import SPATIAL, first_pixel_frame
from .media import AudioFile, SoundTrack, open_writer
from .stream import Chunk, Stream, pipelined


def unwatched(_chunk: Chunk) -> None:
    """Nobody gathers pictures."""


def run(
    stream: Stream,
    path: Path,
    audio: SoundTrack | None,
    meter: Meter,
    watch: Callable[[Chunk], None] = unwatched,
    video_format: str | None = None,
) -> None:
    """Stream into a file, chunk by chunk, with a progress bar; written on a thread of its own.

    `video_format` None: the one that the suffix names.
    """
    end, start = _expected_end(stream, audio), first_pixel_frame(stream.plan.start)
    bar = tqdm(total=None if end is None else end - start, unit=" frames", desc=path.name, dynamic_ncols=True)
    file, meter.threads = _LateFile(path, stream, audio, meter, video_format), stream.threads
    try:
        with closing(pipelined(stream, write=file.write)) as chunks:
            for chunk in chunks:
                meter.chunk(chunk)
                watch(chunk)
                bar.update(len(chunk.pixel_frames))
    finally:
        file.close()
        meter.end()
        bar.close()


def _expected_end(stream: Stream, audio: SoundTrack | None) -> int | None:
    """For the bar alone: how long a file's sound truly is turns out where it ends."""
    end = stream.num_pixel_frames
    expected = audio.expected_seconds if isinstance(audio, AudioFile) else None
    return math.ceil(expected * stream.model.fps) if end is None and expected is not None else end


class _LateFile:
    """A video that is not there before there is something to write: a file of that name is not lost to a mistake."""

    def __init__(self, path: Path, stream: Stream, audio: SoundTrack | None, meter: Meter,
                 video_format: str | None) -> None:  # fmt: skip
        height, width = (SPATIAL * size for size in stream.anchor.latent_size)
        self._open = partial(open_writer, path, width=width, height=height, fps=meter.model.fps, audio=audio,
                             video_format=video_format)  # fmt: skip
        self._meter, self._writer = meter, None

    def write(self, chunk: Chunk) -> None:
        since = perf_counter()
        self._writer = self._writer or self._open()
        self._writer.write(chunk.pixel_frames)
        self._meter.stage("write", since)

    def close(self) -> None:
        since = perf_counter()
        if self._writer is not None:
            self._writer.close()
        self._meter.stage("write", since)
