"""The stream: one chunk after another, for ever if the driving goes on."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch

from ..errors import SettingsError
from ..geometry import TEMPORAL, first_pixel_frame
from ..threads import threads_inside
from .chunk_passes import ChunkPasses
from .chunk_stages import Begun, Chunk, Drawn
from .committing import stronger
from .pieces import Pieces, alone
from .plan import Clock
from .snapshot import Snapshot, anew
from .state_file import save_stream
from .stream_model import DecoderMemory, StreamDriving, StreamModel
from .timing import Mark, StageSeconds, mark

Progress = Callable[[int, int], None]  # stages done, stages of a chunk: its steps, then decoding
ShouldStop = Callable[[], bool]
AnyChunk = TypeVar("AnyChunk")
DRAWN_AHEAD = "this stream's chunks are drawn ahead by pipelined(); take them there, or close it first"


class Stopped(Exception):  # noqa: N818 - not an error
    """`should_stop` said so; the chunk under way is dropped, the stream stands where it stood before it."""


class Stream(ChunkPasses, Iterator[Chunk]):
    """One generation, which may be changed while it runs; a chunk either happens wholly or not at all.

    `progress` and `should_stop` are called before every stage of a chunk. Stopping ends the iteration and drops the
    chunk under way; the stream may be saved, or asked for that chunk again.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: StreamModel,
        snapshot: Snapshot,
        driving: StreamDriving,
        *,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> None:
        super().__init__(model, snapshot, driving)
        self._progress, self._should_stop = progress, should_stop
        self._flight: Begun | None = None  # the chunk under way
        # bfloat16 gives the same bits with any number of threads, other dtypes do not
        self.threads = None if model.dtype == torch.bfloat16 else snapshot.state.threads

    @property
    def num_pixel_frames(self) -> int | None:
        """How many pixel frames the stream has when its driving ends; None if that never ends."""
        length = self._driving.num_pixel_frames
        return None if length is None else TEMPORAL * self.origin + length

    @property
    def finished(self) -> bool:
        """Whether the driving has been played out."""
        return self.finished_at(self.state.clock)

    def finished_at(self, clock: Clock) -> bool:
        """Whether the driving has been played out before the chunk that `clock` names."""
        end = self.num_pixel_frames
        return end is not None and first_pixel_frame(clock.start) >= end

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that `resume_stream` needs."""
        save_stream(path, self.snapshot())

    def fork(self) -> "Stream":
        """A second stream that goes on from here on its own."""
        return Stream(
            self.model, self.snapshot(), self._driving, progress=self._progress, should_stop=self._should_stop
        )

    def snapshot(self) -> Snapshot:
        """The stream's state behind the last chunk that it gave, or that was written.

        The window is a view: make a stream of it, or a file, before this one goes on. Of a stream whose chunks are
        drawn ahead (`pipelined`) it is a copy, and this waits until no commit is under way.
        """
        if self.ahead is not None:
            return self.ahead.snapshot()
        under_way = "" if self._flight is None else self._flight.state.recache
        now = replace(self.state, driving_origin=self.origin, recache=stronger(self.recache, under_way))
        found = self.snapshot_of(now, self)
        return anew(found) if self.begins_anew else found

    def keep(self, num_chunks: int) -> None:
        """From now on keep what is needed to take back the last `num_chunks` chunks; 0 keeps nothing, as at first.

        Each takes the memory of a chunk's keys and values and of the decoder's memory, or of the whole window where all
        of it is computed anew.

        Raises:
            SettingsError: the number is negative or above 64.
        """
        self.undo_log.keep(num_chunks)

    def take_back(self, num_chunks: int = 1) -> None:
        """Stand before the last chunks again, bit for bit, with driving, prompt, anchor and settings as they are now.

        The next chunk is drawn in the first one's place, with its noise. A cut that came behind it is made there.

        Raises:
            SettingsError: fewer chunks are kept (see `keep`), or one is under way, or they are drawn ahead.
        """
        with self.lock:
            self._check_between_chunks()
            for before in self.undo_log.take(num_chunks):
                self.stand_before(before)

    def cut_short(self, num_frames: int, memory: DecoderMemory | None = None) -> None:
        """Take back the last chunk but for its first `num_frames` latent frames; stand behind these, without a knot.

        The frames behind them were drawn under a driving that holds no longer; the next chunk is drawn in their place.
        `memory` is the decoder's behind those that stay; None: they are decoded again for it. What takes back the whole
        chunk is still kept.

        Raises:
            SettingsError: as for `take_back`; or the chunk has no more frames than that, or is not the only thing that
                its commit has changed: see `cuts_short`.
        """
        with self.lock:
            self._check_between_chunks()
            if not self.cuts_short:
                raise SettingsError(
                    "a chunk can be cut short where its frames alone are committed, into a window that holds all of "
                    "them, and no sink moves; take back the whole chunk"
                )
            before = self.undo_log.last
            drawn = self.state.clock.start - before.state.clock.start
            if not 0 < num_frames < drawn:
                raise SettingsError(
                    f"{num_frames} latent frames of the last chunk are to stay; it must be between 1 and {drawn - 1}"
                )
            with threads_inside(self.threads):
                self.stand_inside(before, num_frames, memory)

    def drop_knot(self) -> None:
        """Draw the next chunk without the knot, which was drawn under a driving that holds no longer.

        So what the new driving says shows from the chunk's first frame on. Where the stream begins, it changes nothing.
        """
        with self.lock:
            if self.state.clock.num_committed:
                self.state = replace(self.state, knot_BMCHW=None)

    def _check_between_chunks(self) -> None:
        if self.ahead is not None:
            raise SettingsError(DRAWN_AHEAD)
        if self._flight is not None:
            raise SettingsError("a chunk is under way; take chunks back between two chunks")

    def __next__(self) -> Chunk:
        chunk = self.happens(self.chunk_pieces)
        if chunk is None:
            raise StopIteration
        return chunk

    @torch.no_grad()
    def happens(self, draw: Callable[[], Pieces[AnyChunk]]) -> AnyChunk | None:
        """Draw a chunk wholly or not at all; None where the driving has ended, or `should_stop` says so.

        Raises:
            SettingsError: the stream's chunks are drawn ahead, or one is under way.
        """
        with threads_inside(self.threads):
            return alone(self.wholly(draw))

    def wholly(self, draw: Callable[[], Pieces[AnyChunk]]) -> Pieces[AnyChunk | None]:
        """The same in pieces. Where they are no longer asked for, the chunk does not happen.

        Raises:
            SettingsError: the stream's chunks are drawn ahead, or one is under way.
        """
        if self.ahead is not None:
            raise SettingsError(DRAWN_AHEAD)
        if self._flight is not None:
            raise SettingsError("a chunk of this stream is under way; wait for it before the next is asked for")
        if self.finished:
            return None
        try:
            return (yield from draw())
        except Stopped:
            return None
        finally:
            self.undo(self._flight)
            self._flight = None

    def pieces(self) -> Pieces[Chunk | None]:
        """The next chunk as `next` gives it, in pieces: for together.py."""
        return self.wholly(self.chunk_pieces)

    def chunk_pieces(self) -> Pieces[Chunk]:
        """The host asks for the whole chunk and waits for the device once: for the pictures, while it commits."""
        drawn = yield from self.draw_next()
        latents, begun = drawn.latents(), drawn.begun
        to_decode = begun.decoding(self.references, begun.state.decoder_memory)
        ((pixel_frames, memory),) = yield [to_decode.piece(latents)]
        decoded = mark(self.model.device)
        committed = yield from self.commit_drawn(drawn, memory)
        decoded.synchronize()
        marks = {"denoise": (begun.mark, drawn.mark), "decode": (drawn.mark, decoded), "commit": (decoded, committed)}
        return drawn.emit(latents[0], pixel_frames, StageSeconds(marks))

    def draw_next(self) -> Pieces[Drawn]:
        """The next chunk, to be committed. Nothing that lasts is written before that."""
        with self.lock:
            self.make_cut()
            begun = self._flight = self.begin(self.state)
        return (yield from self.draw(begun, self.before_stage))

    def commit_drawn(self, drawn: Drawn, memory: DecoderMemory | None) -> Pieces[Mark]:
        """Commit what `draw_next` drew, and stand behind it; `memory` is the decoder's."""
        self.before_stage(drawn.begun.num_steps + 1, drawn.begun.num_steps + 1)
        yield from self.run_commit(drawn)
        with self.lock:
            self.undo_log.add(drawn.begun.state, self.write_window(drawn, keep=self.undo_log.wanted))
            self.state, self._flight = drawn.after(memory), None
        return mark(self.model.device)

    def before_stage(self, done: int, stages: int) -> None:
        """Report, and stop if asked. The last time is before the commit: from there on the chunk happens."""
        if self._progress is not None:
            self._progress(done, stages)
        if self._should_stop is not None and self._should_stop():
            raise Stopped
