"""The stream: one chunk after another, for ever if the driving goes on.

Shapes: S denoising steps, B batch (of one), F latent frames, C channels, H W size.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from threading import RLock

import torch
from torch import Tensor

from ..cache import Overwritten
from ..errors import SettingsError
from ..geometry import TEMPORAL, first_pixel_frame
from ..threads import threads_inside
from ..transfer import to_device
from .anchor import denoiser_of
from .chunk import generate_chunk
from .chunk_stages import Ahead, Begun, Chunk, Drawn
from .committing import KEEP_SINKS, RENEW_SINKS, Window
from .conditioning import Conditioning
from .decode import decode
from .denoise import Denoiser
from .filled_cache import filled_cache
from .guidance import check_steps
from .model import StreamDriving, StreamModel, driven, latent_dtype
from .plan import ChunkPlan, Clock, plan_chunk
from .sinks import Sinks
from .snapshot import Snapshot, StreamState
from .state_file import save_stream
from .timing import StageSeconds, mark

Progress = Callable[[int, int], None]  # stages done, stages of a chunk: its steps, then decoding
ShouldStop = Callable[[], bool]
DRAWN_AHEAD = "this stream's chunks are drawn ahead by pipelined(); take them there, or close it first"


class Stopped(Exception):  # noqa: N818 - not an error
    """`should_stop` said so; the chunk under way is dropped, the stream stands where it stood before it."""


class Stream(Iterator[Chunk]):
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
        check_steps(snapshot.settings, model)
        self.model, self.anchor, self.settings = model, snapshot.anchor, snapshot.settings
        self.conditioning = snapshot.conditioning
        self.state, self._driving, self.origin = snapshot.state, driven(model, driving), snapshot.state.driving_origin
        self.ahead: Ahead | None = None  # who draws its chunks ahead (stream/drawn_ahead.py), as long as somebody does
        self.lock = RLock()  # of what the next chunk begins with, and of the window
        self._progress, self._should_stop = progress, should_stop
        self._cache = filled_cache(model, snapshot)
        self._sinks = Sinks(self.settings, self._cache, snapshot.sinks)
        self._window = Window(settings=self.settings, cache=self._cache, sinks=self._sinks)
        self.recache = snapshot.state.recache  # of the next chunk that has not begun
        self._denoiser, self._anchors = denoiser_of(model, self.anchor, self.conditioning, self.settings)
        self._anchor_placed_at: int | None = None
        # bfloat16 gives the same bits with any number of threads, other dtypes do not
        self.threads = None if model.dtype == torch.bfloat16 else snapshot.state.threads

    @property
    def plan(self) -> ChunkPlan:
        """The chunk that comes next."""
        return self._plan_at(self.state.clock)

    def _plan_at(self, clock: Clock) -> ChunkPlan:
        return plan_chunk(self.settings, clock)

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

    def set_driving(self, driving: StreamDriving, *, origin: int | None = None) -> None:
        """Drive by something else from the next chunk on that has not begun; for between two chunks.

        It starts to play there, unless `origin` names another latent frame of the stream as its beginning: 0 for a
        driving that shares the stream's own time.

        Raises:
            SettingsError: `origin` is negative or lies behind the next chunk's first frame.
        """
        driving = driven(self.model, driving)
        with self.lock:
            start = self.state.clock.start if self.ahead is None else self.ahead.next_clock.start
            origin = start if origin is None else origin
            if not 0 <= origin <= start:
                raise SettingsError(
                    f"origin is {origin}; it must be between 0 and the next chunk's first frame, {start}"
                )
            self._driving, self.origin = driving, origin

    @torch.no_grad()
    def set_text(self, text_BTD: Tensor, *, recache: bool = False, keep_sinks: bool = True) -> None:
        """Another prompt from the next chunk on that has not begun, saved with the stream.

        `recache`: what that chunk sees of those before it is computed again under the new prompt, which so takes hold
        sooner (LongLive); sinks of a stream that has gone on stay as they were, unless `keep_sinks` is off.
        """
        if recache:
            self._window.check_recache(self.state.recent_BFCHW, self.state.clock)
        conditioning = self.conditioning.with_text(self.model, text_BTD)
        renewed = Denoiser.of(self.model, conditioning.text_BTD, image_BTE=conditioning.image_BTE)
        with self.lock:
            self.conditioning, self._denoiser = conditioning, self._denoiser.under(renewed.context)
            self.recache = (KEEP_SINKS if keep_sinks else RENEW_SINKS) if recache else self.recache

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
        now = replace(self.state, driving_origin=self.origin, recache=self.recache)
        return self.snapshot_of(now, self.conditioning)

    def snapshot_of(self, state: StreamState, conditioning: Conditioning) -> Snapshot:
        """`state` with the window as it is."""
        cache = self._cache
        return Snapshot(
            settings=self.settings,
            anchor=self.anchor,
            conditioning=conditioning,
            state=state,
            window_index=cache.index,
            window=tuple(cache.window(layer) for layer in range(cache.shape.num_layers)),
            sinks=self._sinks.layers,
        )

    @property
    def num_cache_bytes(self) -> int:
        """Bytes of sinks, window, anchor and the current pass; constant from the first chunk on."""
        return self._cache.num_bytes + self._sinks.num_bytes

    @torch.no_grad()
    def __next__(self) -> Chunk:
        if self.ahead is not None:
            raise SettingsError(DRAWN_AHEAD)
        if self.finished:
            raise StopIteration
        try:
            with threads_inside(self.threads):
                return self._next_chunk()
        except Stopped:
            raise StopIteration from None
        finally:
            self.undo()

    def _next_chunk(self) -> Chunk:
        """Nothing that lasts is written before the commit; the new state is put in place after it.

        The host asks for the whole chunk and waits for the device once: for the pictures, while it commits.
        """
        begun = self.begin(self.state)
        drawn = self.draw(begun, self.before_stage)
        latents = drawn.latents()
        pixel_frames, memory = decode(self.model.codec, latents, self.state.decoder_memory)
        decoded = mark(self.model.device)
        self.before_stage(begun.num_steps + 1, begun.num_steps + 1)
        self.run_commit(drawn)
        self.write_window(drawn)
        self.state = drawn.after(memory)
        committed = mark(self.model.device)
        decoded.synchronize()
        marks = {"denoise": (begun.mark, drawn.mark), "decode": (drawn.mark, decoded), "commit": (decoded, committed)}
        return drawn.emit(latents[0], pixel_frames, StageSeconds(marks))

    def begin(self, state: StreamState) -> Begun:
        """The chunk after `state`, as the stream is driven now."""
        plan = self._plan_at(state.clock)
        return Begun(
            plan=plan,
            state=replace(state, driving_origin=self.origin, recache=self.recache),
            settings=self.settings,
            anchor=self.anchor,
            conditioning=self.conditioning,
            denoiser=self._denoiser,
            driving=self._driving,
            mark=mark(self.model.device),
        )

    def draw(self, begun: Begun, before_stage: Callable[[int, int], None]) -> Drawn:
        """Denoise the chunk's frames and fuse the knot into them; nothing that lasts is written."""
        plan = begun.plan
        assert self._cache.index.num_committed == plan.chunk * plan.num_frames, "the cache and the clock disagree"
        self._place_anchor(plan.anchor_position)
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

    def _place_anchor(self, position: int) -> None:
        if not self.settings.use_anchor or position == self._anchor_placed_at:
            return
        of_branches = chain.from_iterable(anchor.at(position) for anchor in self._anchors)
        for layer, (keys, values) in enumerate(of_branches):
            self._cache.place_anchor(layer, keys, values)
        self._anchor_placed_at = position

    def _run_recache(self, begun: Begun) -> None:
        """What the chunk sees, again; done twice it is the same, so a chunk that does not happen needs no undoing."""
        with self.lock:
            if begun.state.recache and begun.state.recent_BFCHW is not None:
                self._window.check_recache(begun.state.recent_BFCHW, begun.state.clock)
                self._window.recache(
                    begun.denoiser, begun.plan, begun.state.recent_BFCHW, begun.conditions_of, begun.state.recache
                )
            self.recache = "" if self.recache == begun.state.recache else self.recache

    def run_commit(self, drawn: Drawn) -> None:
        """The network's passes over settled latents; the window is written after them."""
        begun = drawn.begun
        self._window.run(begun.denoiser, begun.plan, drawn.conditions, drawn.recent(), begun.conditions_of)

    def write_window(self, drawn: Drawn, *, keep: bool = False) -> Overwritten | None:
        """Write the passes' results into the window; `keep`: return what they overwrote."""
        return self._window.write(drawn.plan, keep=keep)

    def undo(self) -> None:
        """Undo what an abandoned chunk has written."""
        with self.lock:
            self._cache.undo()

    def stand_at(self, saved: Snapshot) -> None:
        """Take the window back to where it stood; a driving that was to begin later begins there."""
        self._cache.load_window(saved.window_index, saved.window)
        self._sinks.layers = saved.sinks
        self.origin = min(self.origin, saved.state.clock.start)
        self.recache = saved.state.recache or self.recache

    def before_stage(self, done: int, stages: int) -> None:
        """Report, and stop if asked. The last time is before the commit: from there on the chunk happens."""
        if self._progress is not None:
            self._progress(done, stages)
        if self._should_stop is not None and self._should_stop():
            raise Stopped
