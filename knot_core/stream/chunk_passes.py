"""The passes of a stream's chunks, and the cache that they read and write.

Shapes: S denoising steps, B batch (of one), F latent frames, C channels, H W size.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from ..cache import Overwritten
from ..errors import SettingsError
from ..transfer import to_device
from .anchor import Anchor
from .changing import Changeable
from .chunk import generate_pieces
from .chunk_stages import Begun, Drawn
from .committing import Window, check_recache, kept_latents, num_kept_latents, stronger
from .filled_cache import filled_cache
from .pieces import Pieces
from .reference_pictures import ChunkDecoding
from .sinks import Sinks
from .snapshot import Snapshot, StreamState, state_anew
from .stream_model import DecoderMemory, StreamDriving, StreamModel, latent_dtype
from .timing import mark
from .undo_log import Before, UndoLog


class ChunkPasses(Changeable):
    """Draws, commits and takes back chunks. It alone owns and changes its cache."""

    def __init__(self, model: StreamModel, snapshot: Snapshot, driving: StreamDriving) -> None:
        super().__init__(model, snapshot, driving)
        self._cache = filled_cache(model, snapshot)
        self._sinks = Sinks(self.settings, self._cache, snapshot.sinks)
        self._window = Window(settings=self.settings, cache=self._cache, sinks=self._sinks)
        self.undo_log = UndoLog()
        self._placed: tuple[tuple[Anchor, ...], int] = ((), 0)  # which anchors stand in the cache, and where

    @property
    def num_cache_bytes(self) -> int:
        """Bytes of sinks, window, anchor and the current pass; constant as long as no chunk is longer than before."""
        return self._cache.num_bytes + self._sinks.num_bytes

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

    def make_cut(self) -> None:
        """Drop what a stream that begins anew does not know of."""
        with self.lock:
            if self.begins_anew:
                self.state = state_anew(self.settings, self.anchor, self.state)
                self._cache.drop_window()
                self._sinks.drop()
                self.undo_log.drop_windows()
                self._cut, self._changed, self.recache = False, False, ""

    def draw(self, begun: Begun, before_stage: Callable[[int, int], None]) -> Pieces[Drawn]:
        """Denoise the chunk's frames and fuse the knot into them; nothing that lasts is written."""
        plan = begun.plan
        assert self._cache.index.num_committed == plan.start - plan.begin, "the cache and the clock disagree"
        with self.lock:
            self._cache.make_room(begun.settings.num_pass_frames)
        self._place_anchor(begun)
        yield from self._run_recache(begun)
        conditions = begun.conditions()
        noise, rng_state = self._draw_noise(begun)

        def before_step(step: int) -> None:
            before_stage(step, begun.num_steps + 1)
            with self.lock:
                self._window.before_step(plan, step)

        x0 = yield from generate_pieces(begun.denoiser, conditions, plan, noise, self._cache, before_step)
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

    def _run_recache(self, begun: Begun) -> Pieces[None]:
        """Compute the window anew where that was asked for.

        Doing it twice gives the same, so a chunk that does not happen needs no undoing.
        """
        state = begun.state
        if state.recache and state.recent_BFCHW is not None:
            with self.lock:
                check_recache(begun.settings, state.recent_BFCHW, state.clock)
                yield from self._window.recache(
                    begun.denoiser, begun.plan, state.recent_BFCHW, begun.conditions_of, state.recache
                )

    def run_commit(self, drawn: Drawn) -> Pieces[None]:
        """The network's passes over settled latents; the window is written after them."""
        begun = drawn.begun
        return self._window.run(begun.denoiser, begun.plan, drawn.conditions, drawn.recent(), begun.conditions_of)

    def write_window(self, drawn: Drawn, *, keep: bool = False) -> Overwritten | None:
        """Write the passes' results into the window; `keep`: return what they overwrote."""
        return self._window.write(drawn.plan, keep=keep)

    def undo(self, begun: Begun | None) -> None:
        """Undo what a chunk that does not happen has written, and ask again for what it was asked."""
        with self.lock:
            self._cache.undo()
            self.recache = self.recache if begun is None else stronger(self.recache, begun.state.recache)

    def stand_before(self, before: Before) -> None:
        """Take back the chunk after it; where the window was dropped since, the stream begins anew."""
        self.state, self._changed = before.state, True
        if before.overwritten is None:
            self._cut = True
        else:
            self._cache.put_back(before.overwritten)
            self._sinks.layers = before.overwritten.sinks
        self._go_back_to(before.state)

    @property
    def cuts_short(self) -> bool:
        """Whether a chunk's commit changes nothing but the slots of its own frames, so that some of them can go."""
        settings, longest = self.settings, self._cache.shape.num_pass_frames - self.settings.num_knot_frames
        return settings.commit == "clean" and not self._sinks.layers and settings.num_window_frames >= longest

    @torch.no_grad()
    def stand_inside(self, before: Before, num_frames: int, memory: DecoderMemory | None) -> None:
        """Keep the first `num_frames` latent frames of the chunk after `before`, and stand behind them."""
        if before.overwritten is None:
            raise SettingsError("the stream began anew behind the last chunk; take back the whole chunk")
        stood, first = self.state, before.state.clock.start
        drawn = stood.recent_BFCHW[:, first - stood.clock.start :]
        stay = drawn[:, :num_frames]
        if memory is None:
            memory = self._decoded_behind(before.state, stay, drawn.shape[1])
        self._cache.cut_short(before.overwritten, num_frames)
        self.state = replace(
            stood,
            clock=replace(stood.clock, start=first + num_frames),
            recent_BFCHW=kept_latents(num_kept_latents(self.settings), before.state.recent_BFCHW, stay),
            knot_BMCHW=None,
            decoder_memory=memory,
        )
        self._go_back_to(self.state)

    def _decoded_behind(self, before: StreamState, stay_BFCHW: Tensor, num_drawn: int) -> DecoderMemory | None:
        """The decoder's memory behind the first frames of a chunk, all `num_drawn` of which were decoded at once."""
        memory, begins = before.decoder_memory, not before.clock.num_committed
        decoding = ChunkDecoding(
            self.references,
            None if memory is None else tuple(memory),
            (before.shown, self.state.shown),
            num_drawn,
            is_late_beginning=begins and before.clock.chunk > 0,
        )
        decoding(stay_BFCHW)
        return decoding.memory

    def stand_at(self, saved: Snapshot) -> None:
        """Take the window back to where it stood."""
        self._cache.load_window(saved.window_index, saved.window)
        self._sinks.layers = saved.sinks
        self._go_back_to(saved.state)

    def _go_back_to(self, state: StreamState) -> None:
        """A driving that was to begin later begins there, and what it asked of its next chunk it asks again."""
        self.origin = min(self.origin, state.clock.start)
        self.recache = stronger(self.recache, state.recache)
