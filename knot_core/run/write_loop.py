"""A stream until its end, and into a file."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from time import perf_counter

from torch import Tensor

from ..geometry import first_pixel_frame
from ..media import Writer
from ..stream import Chunk, Stream, pipelined
from .stream_stats import StreamLog


class Run:
    """The chunks of one stream until its end, its length, and its figures.

    `num_pixel_frames` is the number that the run makes; None: unknown before it ends. A host that generates chunks in
    its own way overrides `generated`.
    """

    def __init__(self, stream: Stream, num_pixel_frames: int | None, log: StreamLog | None = None) -> None:
        self.stream, self.model, self.num_pixel_frames = stream, stream.model, num_pixel_frames
        self.log = log or StreamLog(fps=self.model.fps, device=self.model.device, dtype=self.model.dtype)
        self.log.threads = stream.threads
        self.num_made = 0  # pixel frames
        self._begins = first_pixel_frame(stream.plan.start)

    def written(self, write: Callable[[Chunk], object]) -> Iterator[Chunk]:
        """Every chunk, after `write` was called with it on a thread of its own."""
        with closing(self.generated(partial(self._made, write))) as chunks:
            yield from chunks

    def generated(self, made: Callable[[Chunk], object]) -> Iterator[Chunk]:
        """Every chunk, after `made` was called with it."""
        return pipelined(self.stream, write=made)

    def end_of(self, chunk: Chunk) -> int:
        """The end of a chunk, in pixel frames from the beginning of the run."""
        return chunk.first_pixel_frame + len(chunk.pixel_frames) - self._begins

    def _made(self, write: Callable[[Chunk], object], chunk: Chunk) -> None:
        write(chunk)
        self.num_made += len(chunk.pixel_frames)


class LateFile:
    """A video file that is opened for its first chunk: a run that cannot start leaves no file, and replaces none.

    `opened` is called with width, height and fps. The time of writing is in the run's figures. `shown` makes of a
    chunk's frames, uint8 [T, h, w, 3], those that are written.
    """

    def __init__(
        self, run: Run, opened: Callable[..., Writer], shown: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._run, self._opened, self._shown = run, opened, shown
        self.writer: Writer | None = None

    def write(self, chunk: Chunk) -> None:
        """Append a chunk; called on the thread that writes."""
        since = perf_counter()
        frames = chunk.pixel_frames if self._shown is None else self._shown(chunk.pixel_frames)
        if self.writer is None:
            height, width = frames.shape[1:3]
            self.writer = self._opened(width=width, height=height, fps=self._run.log.fps)
        self.writer.write(frames)
        self._run.log.add(chunk, write=perf_counter() - since)

    def close(self) -> None:
        """End the file properly."""
        since = perf_counter()
        if self.writer is not None:
            self.writer.close()
        self._run.log.book("write", since)
        self._run.log.end()


def write_chunks(run: Run, file: LateFile, after: Callable[[Chunk], bool]) -> None:
    """Append the run's chunks to a file until the run ends, or `after`, called after each write, returns False."""
    with closing(run.written(file.write)) as chunks:
        for chunk in chunks:
            if not after(chunk):
                break
