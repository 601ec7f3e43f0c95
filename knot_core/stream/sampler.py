"""The stream: one chunk after another, for ever if the driving goes on.

Shapes: S denoising steps, B batch (of one), F latent frames, C channels, H W size.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from ..cache import Overwritten
from ..errors import SettingsError
from ..geometry import TEMPORAL, first_pixel_frame
from ..threads import threads_inside
from ..transfer import to_device
from .anchor import Anchor
from .changing import Changeable
from .chunk import generate_chunk
from .chunk_stages import Begun, Chunk, Drawn
from .committing import Window, check_recache, stronger
from .decode import decode
from .filled_cache import filled_cache
from .kept import Kept
from .model import DecoderMemory, StreamDriving, StreamModel, latent_dtype
from .plan import Clock
from .sinks import Sinks
from .snapshot import Snapshot, StreamState, anew, state_anew
from .state_file import save_stream
from .timing import Mark, StageSeconds, mark

Progress = Callable[[int, int], None]  # stages done, stages of a chunk: its steps, then decoding
ShouldStop = Callable[[], bool]
AnyChunk = TypeVar("AnyChunk")
DRAWN_AHEAD = "this stream's chunks are drawn ahead by pipelined(); take them there, or close it first"


class Stopped(Exception):  # noqa: N818 - not an error
    """`should_stop` said so; the chunk under way is dropped, the stream stands where it stood before it."""


class Stream(Changeable, Iterator[Chunk]):
    """One generation. It alone owns and changes its cache; a chunk either happens wholly or not at all.

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
        self._cache = filled_cache(model, snapshot)
        self._sinks = Sinks(self.settings, self._cache, snapshot.sinks)
        self._window = Window(settings=self.settings, cache=self._cache, sinks=self._sinks)
        self.kept = Kept()
        self._flight: Begun | None = None  # the chunk under way
        self._placed: tuple[tuple[Anchor, ...], int] = ((), 0)  # which anchors stand in the cache, and where
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
        """Where the stream stands: behind the last chunk that it gave, or that was written.

        The window is a view: make a stream of it, or a file, before this one goes on. Of a stream whose chunks are
        drawn ahead (`pipelined`) it is a copy, and this waits until no commit is under way.
        """
        if self.ahead is not None:
            return self.ahead.snapshot()
        under_way = "" if self._flight is None else self._flight.state.recache
        now = replace(self.state, driving_origin=self.origin, recache=stronger(self.recache, under_way))
        found = self.snapshot_of(now, self)
        return anew(found) if self.begins_anew else found

    def snapshot_of(self, state: StreamState, under: Changeable | Begun) -> Snapshot:
        """`state` with the window as it is."""
        cache = self._cache
        return Snapshot(
            settings=under.settings,
            anchor=under.anchor,
            conditioning=under.conditioning,
            state=state,
            window_index=cache.index,
            window=tuple(cache.window(layer) for layer in range(cache.shape.num_layers)),
            sinks=self._sinks.layers,
        )

    def keep(self, num_chunks: int) -> None:
        """From now on keep what is needed to take back the last `num_chunks` chunks; 0 keeps nothing, as at first.

        Each takes the memory of a chunk's keys and values and of the decoder's memory, or of the whole window where all
        of it is computed anew.

        Raises:
            SettingsError: the number is negative or above 64.
        """
        self.kept.keep(num_chunks)

    def take_back(self, num_chunks: int = 1) -> None:
        """Stand before the last chunks again, bit for bit, with driving, prompt, anchor and settings as they are now.

        The next chunk is drawn in the first one's place, with its noise. A cut that came behind it is made there.

        Raises:
            SettingsError: fewer chunks are kept (see `keep`), or one is under way, or they are drawn ahead.
        """
        with self.lock:
            if self.ahead is not None:
                raise SettingsError(DRAWN_AHEAD)
            if self._flight is not None:
                raise SettingsError("a chunk is under way; take chunks back between two chunks")
            for before in self.kept.take(num_chunks):
                self.state = before.state
                if before.overwritten is None:
                    self._cut = True
                else:
                    self._cache.put_back(before.overwritten)
                    self._sinks.layers = before.overwritten.sinks
                self._go_back_to(before.state)
            self._changed = True

    @property
    def num_cache_bytes(self) -> int:
        """Bytes of sinks, window, anchor and the current pass; constant as long as no chunk is longer than before."""
        return self._cache.num_bytes + self._sinks.num_bytes

    def __next__(self) -> Chunk:
        chunk = self.happens(self._next_chunk)
        if chunk is None:
            raise StopIteration
        return chunk

    @torch.no_grad()
    def happens(self, draw: Callable[[], AnyChunk]) -> AnyChunk | None:
        """Draw a chunk wholly or not at all; None where the driving has ended, or `should_stop` says so."""
        if self.ahead is not None:
            raise SettingsError(DRAWN_AHEAD)
        if self.finished:
            return None
        try:
            with threads_inside(self.threads):
                return draw()
        except Stopped:
            return None
        finally:
            self.undo(self._flight)
            self._flight = None

    def _next_chunk(self) -> Chunk:
        """The host asks for the whole chunk and waits for the device once: for the pictures, while it commits."""
        drawn = self.draw_next()
        latents, begun = drawn.latents(), drawn.begun
        pixel_frames, memory = decode(
            self.model.codec, latents, begun.state.decoder_memory, begun.plan.is_late_beginning
        )
        decoded = mark(self.model.device)
        committed = self.commit_drawn(drawn, memory)
        decoded.synchronize()
        marks = {"denoise": (begun.mark, drawn.mark), "decode": (drawn.mark, decoded), "commit": (decoded, committed)}
        return drawn.emit(latents[0], pixel_frames, StageSeconds(marks))

    def draw_next(self) -> Drawn:
        """The next chunk, to be committed. Nothing that lasts is written before that."""
        with self.lock:
            self.make_cut()
            begun = self._flight = self.begin(self.state)
        return self.draw(begun, self.before_stage)

    def commit_drawn(self, drawn: Drawn, memory: DecoderMemory | None) -> Mark:
        """Commit what `draw_next` drew, and stand behind it; `memory` is the decoder's."""
        self.before_stage(drawn.begun.num_steps + 1, drawn.begun.num_steps + 1)
        self.run_commit(drawn)
        with self.lock:
            self.kept.add(drawn.begun.state, self.write_window(drawn, keep=self.kept.wanted))
            self.state, self._flight = drawn.after(memory), None
        return mark(self.model.device)

    def make_cut(self) -> None:
        """Drop what a stream that begins anew does not know of."""
        with self.lock:
            if self.begins_anew:
                self.state = state_anew(self.settings, self.anchor, self.state)
                self._cache.drop_window()
                self._sinks.drop()
                self.kept.drop_windows()
                self._cut, self._changed, self.recache = False, False, ""

    def draw(self, begun: Begun, before_stage: Callable[[int, int], None]) -> Drawn:
        """Denoise the chunk's frames and fuse the knot into them; nothing that lasts is written."""
        plan = begun.plan
        assert self._cache.index.num_committed == plan.start - plan.begin, "the cache and the clock disagree"
        with self.lock:
            self._cache.make_room(begun.settings.num_pass_frames)
        self._place_anchor(begun)
        self._run_recache(begun)
        conditions = begun.conditions()
        noise, rng_state = self._draw_noise(begun)

        def before_step(step: int) -> None:
            before_stage(step, begun.num_steps + 1)
            with self.lock:
                self._window.before_step(plan, step)

        x0 = generate_chunk(begun.denoiser, conditions, plan, noise, self._cache, before_step)
        drawn = Drawn(
            begun=begun,
            conditions=conditions,
            x0_BFCHW=x0,
            rng_state=rng_state,
            threads=torch.get_num_threads(),
            mark=mark(self.model.device),
        )
        before_stage(begun.num_steps, begun.num_steps + 1)
        return drawn

    def _draw_noise(self, begun: Begun) -> tuple[Tensor, Tensor]:
        """[S, B, F, C, H, W], all of a chunk's noise at once, and the generator's state for the next chunk's."""
        rng = torch.Generator()
        rng.set_state(begun.state.rng_state)
        _, _, *frame = self.anchor.reference_BFCHW.shape
        noise = torch.randn(begun.plan.num_noises, 1, len(begun.plan.positions), *frame, generator=rng)
        return to_device(noise, self.model.device, latent_dtype(self.model)), rng.get_state()

    def _place_anchor(self, begun: Begun) -> None:
        anchors, position = begun.anchors, begun.plan.anchor_position
        if not begun.settings.use_anchor or (self._placed[0] is anchors and self._placed[1] == position):
            return
        of_branches = chain.from_iterable(anchor.at(position) for anchor in anchors)
        for layer, (keys, values) in enumerate(of_branches):
            self._cache.place_anchor(layer, keys, values)
        self._placed = (anchors, position)

    def _run_recache(self, begun: Begun) -> None:
        """What the chunk sees, again; done twice it is the same, so a chunk that does not happen needs no undoing."""
        state = begun.state
        if state.recache and state.recent_BFCHW is not None:
            with self.lock:
                check_recache(begun.settings, state.recent_BFCHW, state.clock)
                self._window.recache(begun.denoiser, begun.plan, state.recent_BFCHW, begun.conditions_of, state.recache)

    def run_commit(self, drawn: Drawn) -> None:
        """The network's passes over settled latents; the window is written after them."""
        begun = drawn.begun
        self._window.run(begun.denoiser, begun.plan, drawn.conditions, drawn.recent(), begun.conditions_of)

    def write_window(self, drawn: Drawn, *, keep: bool = False) -> Overwritten | None:
        """Write the passes' results into the window; `keep`: return what they overwrote."""
        return self._window.write(drawn.plan, keep=keep)

    def undo(self, begun: Begun | None) -> None:
        """Undo what a chunk that does not happen has written, and ask again for what it was asked."""
        with self.lock:
            self._cache.undo()
            self.recache = self.recache if begun is None else stronger(self.recache, begun.state.recache)

    def stand_at(self, saved: Snapshot) -> None:
        """Take the window back to where it stood."""
        self._cache.load_window(saved.window_index, saved.window)
        self._sinks.layers = saved.sinks
        self._go_back_to(saved.state)

    def _go_back_to(self, state: StreamState) -> None:
        """A driving that was to begin later begins there, and what it asked of its next chunk it asks again."""
        self.origin = min(self.origin, state.clock.start)
        self.recache = stronger(self.recache, state.recache)

    def before_stage(self, done: int, stages: int) -> None:
        """Report, and stop if asked. The last time is before the commit: from there on the chunk happens."""
        if self._progress is not None:
            self._progress(done, stages)
        if self._should_stop is not None and self._should_stop():
            raise Stopped
