"""A stream whose chunks are drawn ahead: decoding and writing of one go on beside the denoising of the next.

    thread 1    draw 0 | commit 0 | draw 1 ...   | commit 1 | ...
    thread 2             decode 0                  decode 1
    thread 3                        write 0                    write 1

The bits are those of the stream by itself. The stream stands behind the last chunk that was written, or that the
caller has got where nothing is written: what is drawn ahead of it is taken back when the iteration ends early, and does
not show in a state that is saved meanwhile. On CUDA, decoding has a CUDA stream of its own.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event

import torch
from torch import Tensor

from ..cache import Overwritten
from ..errors import SettingsError
from ..geometry import first_pixel_frame, num_tokens
from ..threads import num_processors, threads_inside
from .chunk_stages import Begun, Chunk, Drawn
from .device_streams import second_stream
from .pieces import alone
from .sampler import DRAWN_AHEAD, Stopped, Stream
from .snapshot import Snapshot
from .stage_threads import staged
from .stream_model import DecoderMemory
from .thread_choice import beside
from .timing import Mark, StageSeconds, mark

_SECONDS_BETWEEN_LOOKS = 0.02  # whether somebody has broken off


@dataclass(kw_only=True, eq=False)
class _Flight:
    """A chunk that has begun and is not given yet."""

    begun: Begun
    drawn: Drawn | None = None
    latents: Tensor | None = None
    ready: Mark | None = None  # for who reads the latents
    committed: "Future[tuple[Mark, Mark]]" = field(default_factory=Future)  # when that began and ended
    overwritten: Overwritten | None = None  # by its commit
    decoded: Event = field(default_factory=Event)
    memory: DecoderMemory | None = None  # of the decoder, after it
    chunk: Chunk | None = None


def pipelined(
    stream: Stream,
    *,
    write: Callable[[Chunk], object] | None = None,
    wait: Callable[[], None] | None = None,
    threads: int | None = None,
    decode_beside: bool | None = None,
) -> Iterator[Chunk]:
    """The stream's chunks, drawn ahead by at most a few; bit for bit those that the stream gives by itself.

    `write` is called with every chunk, in order, on a thread of its own before the chunk is given; it may be ahead of
    the caller by a chunk or two, and so may a state that is saved meanwhile. `wait` is called again and again in the
    caller's thread while that waits. The stream's own `progress` and `should_stop`, and its driving, are called in the
    drawing thread.

    `threads` inside operations; None: as in the state that was gone on with, else as in the caller's thread.
    `decode_beside` False leaves decoding in the drawing thread; None: where threads inside operations leave no
    processors of a CPU free.

    Between two chunks the stream may be saved, forked, driven by something else, or given another prompt, other
    settings or another anchor, without a cut; these take effect with the next chunk that has not begun, which is up to
    six chunks later. Chunks can be taken back once the iteration has ended. An error in any stage is raised here, after
    the chunks before it. No thread outlives the iteration.
    """
    threads = threads or stream.threads or torch.get_num_threads()
    if decode_beside is None:
        decode_beside = stream.model.device.type == "cuda" or beside(threads, num_processors())
    ahead = _Ahead(stream, decode_beside=decode_beside)
    return ahead.run(write, wait or (lambda: None), _like_here(stream.model.device, threads))


class _Ahead:
    """The chunks of a stream that are drawn and not given yet."""

    def __init__(self, stream: Stream, *, decode_beside: bool) -> None:
        self._stream, self._beside = stream, decode_beside
        self._flights: deque[_Flight] = deque()

    def run(
        self,
        write: Callable[[Chunk], object] | None,
        wait: Callable[[], None],
        around: Callable[[], AbstractContextManager[None]],
    ) -> Iterator[Chunk]:
        """Nothing is computed, and no thread is there, before the first chunk is asked for."""
        stream = self._stream
        if stream.ahead is not None:
            raise SettingsError(DRAWN_AHEAD)
        stream.make_cut()
        self._reached, self._memory, self.next_clock = stream.state, stream.state.decoder_memory, stream.state.clock
        self._side = second_stream(stream.model.device) if self._beside else nullcontext()
        stages = [self._decode] * self._beside + [partial(self._write, write)] * (write is not None)
        stream.ahead = self
        try:
            with closing(staged(self._draw, stages, around=around, wait=wait)) as flights:
                for flight in flights:
                    if write is None:
                        self._given(flight)
                    yield flight.chunk
        except Stopped:
            return
        finally:
            self._take_back()

    def snapshot(self) -> Snapshot:
        """The stream behind the last chunk that was given: its window before anything was committed ahead."""
        stream = self._stream
        with stream.lock:
            flights = tuple(self._flights)
            first = flights[0].begun if flights else None
            origin = stream.origin if first is None else first.state.driving_origin
            recache = stream.recache if first is None else first.state.recache
            now = stream.snapshot_of(replace(stream.state, driving_origin=origin, recache=recache), first or stream)
            window, sinks = tuple(layer.clone() for layer in now.window), tuple(layer.clone() for layer in now.sinks)
            index = now.window_index
            for flight in reversed(flights):
                if flight.overwritten is not None:
                    flight.overwritten.put_back(window)
                    index, sinks = flight.overwritten.index, flight.overwritten.sinks
        stop = index.num_valid * num_tokens(*stream.anchor.latent_size)
        return replace(now, window_index=index, window=tuple(layer[:, :, :stop] for layer in window), sinks=sinks)

    def _draw(self, stopped: Callable[[], bool]) -> Iterator[_Flight]:
        """The drawing thread: chunks, each on its way to the decoder while it is committed."""
        stream = self._stream

        def before_stage(done: int, stages: int) -> None:
            if stopped():
                raise Stopped
            stream.before_stage(done, stages)

        first = True  # nothing is drawn beside the first chunk's decoding: somebody waits for it
        while (flight := self._begin()) is not None:
            try:
                flight.drawn = alone(stream.draw(flight.begun, before_stage))
                flight.latents = flight.drawn.latents()
                flight.ready = mark(stream.model.device)
                if self._beside:
                    yield flight
                before_stage(flight.begun.num_steps + 1, flight.begun.num_steps + 1)
                self._commit(flight)
            except BaseException as error:
                stream.undo(flight.begun)
                flight.committed.set_exception(error)
                raise
            if not self._beside:
                yield self._decode(flight)
            elif first:
                _wait_for(flight.decoded, stopped)
                first = False

    def _begin(self) -> _Flight | None:
        stream = self._stream
        with stream.lock:
            if stream.finished_at(self._reached.clock):
                return None
            flight = _Flight(begun=stream.begin(self._reached))
            self._flights.append(flight)
            self.next_clock = flight.begun.plan.next_clock
            return flight

    def _commit(self, flight: _Flight) -> None:
        stream, began = self._stream, mark(self._stream.model.device)
        alone(stream.run_commit(flight.drawn))
        with stream.lock:
            flight.overwritten = stream.write_window(flight.drawn, keep=True)
            self._reached = flight.drawn.after(None)
        flight.committed.set_result((began, mark(stream.model.device)))

    def _decode(self, flight: _Flight) -> _Flight:
        """The decoding thread; what it hands on is committed as well."""
        drawn, model = flight.drawn, self._stream.model
        with self._side as side:
            if side is not None:
                side.wait_event(flight.ready)
            began = mark(model.device)
            decoding = drawn.begun.decoding(self._stream.references, self._memory)
            pixel_frames, self._memory = decoding(flight.latents), decoding.memory
            ended = mark(model.device)
        ended.synchronize()
        flight.decoded.set()
        flight.memory = self._memory
        marks = {"denoise": (drawn.begun.mark, drawn.mark), "decode": (began, ended),
                 "commit": flight.committed.result()}  # fmt: skip
        end = drawn.begun.end
        if end is not None and end <= first_pixel_frame(drawn.plan.start):
            raise Stopped  # a live driving has ended meanwhile, before this chunk
        flight.chunk = drawn.emit(flight.latents[0], pixel_frames, StageSeconds(marks))
        return flight

    def _write(self, write: Callable[[Chunk], object], flight: _Flight) -> _Flight:
        """The writing thread; what is written cannot be taken back."""
        write(flight.chunk)
        self._given(flight)
        return flight

    def _given(self, flight: _Flight) -> None:
        with self._stream.lock:
            assert self._flights[0] is flight, "chunks are given in their order"
            self._flights.popleft()
            before = replace(flight.begun.state, decoder_memory=self._stream.state.decoder_memory)
            self._stream.undo_log.add(before, flight.overwritten)
            self._stream.state = flight.drawn.after(flight.memory)

    def _take_back(self) -> None:
        """All threads have ended: the stream stands behind the last chunk that was given."""
        if any(flight.overwritten is not None for flight in self._flights):
            with torch.no_grad():
                self._stream.stand_at(self.snapshot())
        for flight in self._flights:
            self._stream.undo(flight.begun)
        self._stream.ahead = None


def _wait_for(event: Event, stopped: Callable[[], bool]) -> None:
    while not (stopped() or event.wait(_SECONDS_BETWEEN_LOOKS)):
        pass


def _like_here(device: torch.device, threads: int) -> Callable[[], AbstractContextManager[None]]:
    """A context that gives other threads the calling thread's modes and CUDA stream."""
    inference = torch.is_inference_mode_enabled()
    cuda_stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    @contextmanager
    def around() -> Iterator[None]:
        with torch.inference_mode(inference), torch.no_grad(), torch.cuda.stream(cuda_stream), threads_inside(threads):
            yield

    return around
