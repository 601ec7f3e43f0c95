"""Chunks whose frames are still being decoded when they are given: the stream draws on meanwhile.

    caller      draw 0 | commit 0 | draw 1           | commit 1 | ...
    decoder              frames 0, 1, 5 ...            frames 9, 13 ...

For who shows frames as they come, latent frame by latent frame. They are decoded so, too: their values differ from
those of whole chunks by rounding.

Shapes: B batch (of one), F latent frames, T pixel frames, C channels, H W size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition, Thread
from types import TracebackType
from typing import overload

import torch
from torch import Tensor

from ..geometry import first_pixel_frame, num_latent_frames
from ..threads import threads_inside
from .chunk_stages import Drawn
from .device_streams import second_stream
from .pieces import Pieces
from .sampler import Stream
from .stream_model import DecoderMemory
from .timing import Mark, StageSeconds, mark


@dataclass(frozen=True, kw_only=True, eq=False)
class LateChunk:
    """A chunk that is committed, and whose frames come as they are decoded."""

    index: int
    start_frame: int  # first latent frame
    first_pixel_frame: int  # of the stream
    num_pixel_frames: int
    latents: Tensor  # as in `Chunk`
    frames: "LateFrames"
    seconds: Mapping[str, float]  # spent on "denoise" and "commit"


class Cancelled(Exception):  # noqa: N818 - a chunk that was taken back, and those behind it
    """Frames that nobody wants were to be gone on from."""


class LateFrames:
    """The frames of one chunk, to be iterated over in any thread: uint8 [T, H, W, 3] on the CPU, by latent frame.

    Iterating waits for them, and raises what made decoding fail. Of cancelled ones those come that are wanted all the
    same, or decoded already.
    """

    def __init__(self, num_pixel_frames: int, num_latents: int) -> None:
        self._wanted, self._changed = num_pixel_frames, Condition()
        self._pieces: list[Tensor] = []
        self._memories: list[DecoderMemory] = []  # behind each latent frame
        self._num_latents = num_latents
        self._error: BaseException | None = None
        self._ended, self._cancelled = False, False
        self.seconds = 0.0  # that decoding took, once it has ended

    def __iter__(self) -> Iterator[Tensor]:
        place = 0
        while (piece := self._piece(place)) is not None:
            yield piece
            place += 1

    def _piece(self, place: int) -> Tensor | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self.cancelled or len(self._pieces) > place)
            if len(self._pieces) > place:
                return self._pieces[place]
            if self._error is not None and not self.cancelled:
                raise self._error
            return None

    @property
    def cancelled(self) -> bool:
        """Whether they were cancelled, and those of them that are wanted all the same are here."""
        with self._changed:
            return self._cancelled and sum(map(len, self._pieces)) >= self._wanted

    @property
    def num_decoded(self) -> int:
        """Latent frames that are decoded."""
        return len(self._memories)

    def cancel(self, num_kept: int = 0) -> None:
        """Nobody wants more than the first `num_kept` that is not decoded yet, nor what the decoder remembers then."""
        with self._changed:
            self._cancelled, self._wanted = True, min(num_kept, self._wanted)
            self._changed.notify_all()

    def add(self, frames_THWC: Tensor, memory: DecoderMemory) -> None:
        """Take the next latent frame's from the decoder, and what it remembers behind them; frames behind the driving's
        end are dropped.
        """
        with self._changed:
            self._memories.append(memory)
            left = self._wanted - sum(map(len, self._pieces))
            if left > 0:
                self._pieces.append(frames_THWC[:left])
            self._changed.notify_all()

    def end(self, error: BaseException | None, seconds: float) -> None:
        """The decoder is done with them."""
        with self._changed:
            self._error, self.seconds, self._ended = error, seconds, True
            self._changed.notify_all()

    def memory(self, num_latents: int | None = None) -> DecoderMemory:
        """The decoder's memory behind the first `num_latents` latent frames, or all; waits until they are decoded."""
        count = self._num_latents if num_latents is None else num_latents
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._memories) >= count)
            if len(self._memories) >= count:
                return self._memories[count - 1]
            if self._error is not None:
                raise self._error
            raise Cancelled("these frames were cancelled, so nothing can go on behind them")


class LateMemory(Sequence[Tensor]):
    """A decoder's memory that is waited for once somebody looks at it: behind the first `num_latents` latent frames of
    a chunk, or behind all.
    """

    def __init__(self, frames: LateFrames, num_latents: int | None = None) -> None:
        self._frames: LateFrames | None = frames
        self._num_latents = num_latents
        self._found: DecoderMemory = ()

    def _there(self) -> DecoderMemory:
        if self._frames is not None:
            self._found, self._frames = self._frames.memory(self._num_latents), None
        return self._found

    def __len__(self) -> int:
        return len(self._there())

    @overload
    def __getitem__(self, place: int) -> Tensor: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, place: int | slice) -> Tensor | Sequence[Tensor]:
        return self._there()[place]


@dataclass(frozen=True)
class _Job:
    frames: LateFrames
    drawn: Drawn
    latents_BFCHW: Tensor
    ready: Mark


class LateDecoder:
    """Draws a stream's chunks and decodes them on a thread of its own, in order; the thread ends with the `with` block.

    Between two chunks the stream may be changed, saved and taken back as ever: saving waits for what the decoder must
    remember. Frames of a chunk that is taken back are for the caller to cancel.
    """

    def __init__(self, stream: Stream, *, threads: int | None = None) -> None:
        """`threads` inside the decoder's operations; None: as many as they use."""
        self._stream, self._model, self._threads = stream, stream.model, threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="knot-decoder", daemon=True)

    def __enter__(self) -> "LateDecoder":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._jobs.put(None)
        self._thread.join()

    def next_chunk(self) -> LateChunk | None:
        """The next chunk, once it is committed; None where `next(stream)` would end.

        Raises:
            Exception: what made decoding an earlier chunk fail, or drawing this one.
        """
        if self._error is not None:
            raise self._error
        return self._stream.happens(self._next_chunk)

    @property
    def threads(self) -> int | None:
        """Inside the operations that draw: as in `Stream`."""
        return self._stream.threads

    def pieces(self) -> Pieces[LateChunk | None]:
        """The next chunk as `next_chunk` gives it, in pieces: for together.py."""
        if self._error is not None:
            raise self._error
        return (yield from self._stream.wholly(self._next_chunk))

    def _next_chunk(self) -> Pieces[LateChunk]:
        drawn = yield from self._stream.draw_next()
        plan, end = drawn.plan, drawn.begun.end
        stop = first_pixel_frame(plan.committed.stop)
        first, stop = first_pixel_frame(plan.start), stop if end is None else min(stop, end)
        frames, latents = LateFrames(stop - first, plan.num_frames), drawn.latents()
        began = mark(self._model.device)
        self._jobs.put(_Job(frames, drawn, latents, began))
        try:
            committed = yield from self._stream.commit_drawn(drawn, LateMemory(frames))
        except BaseException:
            frames.cancel()
            raise
        return LateChunk(
            index=plan.chunk,
            start_frame=plan.start,
            first_pixel_frame=first,
            num_pixel_frames=stop - first,
            latents=latents[0, : num_latent_frames(stop) - plan.start],
            frames=frames,
            seconds=StageSeconds({"denoise": (drawn.begun.mark, drawn.mark), "commit": (began, committed)}),
        )

    def _run(self) -> None:
        side = second_stream(self._model.device)
        with torch.no_grad(), threads_inside(self._threads):
            while (job := self._jobs.get()) is not None:
                error, began = None, mark(self._model.device)
                try:
                    with side as stream:
                        if stream is not None:
                            stream.wait_event(job.ready)
                        self._decode(job)
                except Cancelled:  # the chunk before it, and so this one
                    job.frames.cancel()
                except BaseException as problem:
                    error = self._error = problem
                ended = mark(self._model.device)
                ended.synchronize()
                job.frames.end(error, began.elapsed_time(ended) / 1000)

    def _decode(self, job: _Job) -> None:
        """Latent frame by latent frame, as long as somebody wants them."""
        begun = job.drawn.begun
        memory = begun.state.decoder_memory
        decoding = begun.decoding(self._stream.references, None if memory is None else tuple(memory))
        for latent in job.latents_BFCHW.split(1, dim=1):
            if job.frames.cancelled:
                return
            frames = decoding(latent)
            mark(self._model.device).synchronize()  # from CUDA they are on their way until here
            assert decoding.memory is not None, "a decoder remembers what it has decoded"
            job.frames.add(frames, decoding.memory)
