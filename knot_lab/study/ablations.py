"""Streams that the study compares with and that no setting makes: each a small change of the stream itself.

All of them draw with the sampler's own passes. A way to open one takes (model, anchor, settings, driving, seed).

Shapes: B batch, F latent frames, M known latent frames, C channels, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from knot_core.cache_index import CacheIndex, SlotRun
from knot_core.config import StreamSettings
from knot_core.errors import SettingsError
from knot_core.stream import Anchor, Chunk, ChunkPlan, Snapshot, StreamDriving, StreamModel, open_stream
from knot_core.stream.plan import Clock
from knot_core.stream.sampler import Stream
from knot_core.stream.snapshot import first_snapshot
from knot_core.wan.layouts import Inpaint36, get_layout

Open = Callable[[StreamModel, Anchor, StreamSettings, StreamDriving, int], Iterator[Chunk]]

RESTART_CHUNKS = 5  # knot-tiny's training length (`StudentRecipe.chunks`)


def as_set(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """The settings say it all."""
    return open_stream(model, anchor, settings, driving, seed)


class KnotInX(Inpaint36):
    """Inpaint36 that also pins the knot into x, at every step and at the chunk's own noise level."""

    def pin(self, x_BFCHW: Tensor, known: Tensor | None) -> Tensor:
        return get_layout("t2v16").pin(x_BFCHW, known)


class KnotInXAlone(KnotInX):
    """Inpaint36 whose knot enters as in t2v16: clean in x at timestep 0, and unknown to the condition channels."""

    def frame_sigmas(self, sigma_BF: Tensor, num_known: int) -> Tensor:
        return get_layout("t2v16").frame_sigmas(sigma_BF, num_known)

    def channels(
        self,
        x_BFCHW: Tensor,
        known: Tensor | None,  # noqa: ARG002
        reference_B1CHW: Tensor | None = None,
        unknown_BFCHW: Tensor | None = None,
    ) -> Tensor:
        return super().channels(x_BFCHW, None, reference_B1CHW, unknown_BFCHW)


class _OtherLayoutStream(Stream):
    def __init__(self, model: StreamModel, snapshot: Snapshot, driving: StreamDriving, layout: type[Inpaint36]) -> None:
        super().__init__(model, snapshot, driving)
        self._denoiser = replace(self._denoiser, layout=layout(self._denoiser.layout.name))


def knot_in_x(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """The knot by two ways at once: in the condition channels, and in x."""
    _require_inpaint36(model, "knotinx")
    return _OtherLayoutStream(model, first_snapshot(settings, anchor, seed), driving, KnotInX)


def knot_in_x_alone(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """The knot in x alone, as networks without condition channels get it."""
    _require_inpaint36(model, "knotclean")
    return _OtherLayoutStream(model, first_snapshot(settings, anchor, seed), driving, KnotInXAlone)


def _require_inpaint36(model: StreamModel, name: str) -> None:
    if model.config.layout != "inpaint36":
        raise SettingsError(
            f"layout {model.config.layout} has the knot in x as it is; choose --variants without {name}"
        )


@dataclass(frozen=True, kw_only=True)
class WithoutOverlap(CacheIndex):
    """A window that passes over the frames in which chunks overlap: the first `num_overlap_frames` of each.

    `capacity` counts what is kept, `num_committed` all frames, as ever.
    """

    num_chunk_frames: int
    num_overlap_frames: int

    def __post_init__(self) -> None:
        assert self.num_sinks == 0, "sinks would be other frames than these"

    @property
    def _kept(self) -> CacheIndex:
        """The same window, counted in the frames that it keeps."""
        chunks, rest = divmod(self.num_committed, self.num_chunk_frames)
        assert rest == 0, "chunks are committed whole"
        kept = chunks * (self.num_chunk_frames - self.num_overlap_frames)
        return CacheIndex(capacity=self.capacity, num_committed=kept)

    @property
    def num_valid(self) -> int:
        return self._kept.num_valid

    def frames(self) -> tuple[int, ...]:
        kept_of_chunk = self.num_chunk_frames - self.num_overlap_frames
        chunks_and_rests = (divmod(frame, kept_of_chunk) for frame in self._kept.frames())
        return tuple(c * self.num_chunk_frames + self.num_overlap_frames + rest for c, rest in chunks_and_rests)

    def runs(self, num_frames: int) -> tuple[SlotRun, ...]:
        assert num_frames == self.num_chunk_frames, "chunks are committed whole"
        runs = self._kept.runs(num_frames - self.num_overlap_frames)
        return tuple(replace(run, source=run.source + self.num_overlap_frames) for run in runs)


class _WithoutOverlapStream(Stream):
    def __init__(self, model: StreamModel, snapshot: Snapshot, driving: StreamDriving) -> None:
        super().__init__(model, snapshot, driving)
        self._cache.index = WithoutOverlap(
            capacity=self._cache.index.capacity,
            num_chunk_frames=self.settings.num_chunk_frames,
            num_overlap_frames=self.settings.num_knot_frames,
        )


def without_overlap(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """A chunk's first frames, settled by two chunks, are committed but never seen again (the paper's figure)."""
    return _WithoutOverlapStream(model, first_snapshot(settings, anchor, seed), driving)


def anchor_left_behind(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """The anchor stays at its first position, and the stream passes it by; for settings with stride 0."""
    assert settings.run_ahead_stride == 0, "it would run ahead"
    begun = first_snapshot(settings, anchor, seed)
    clock = replace(begun.state.clock, anchor_position=settings.run_ahead_start)
    return Stream(model, replace(begun, state=replace(begun.state, clock=clock)), driving)


def restarting(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """After every `RESTART_CHUNKS` the network forgets, and begins anew; the decoder and the noise go on."""
    begun = first_snapshot(settings, anchor, seed)
    while True:
        stream = Stream(model, begun, driving)
        yield from islice(stream, RESTART_CHUNKS)
        if stream.finished:
            return
        reached = stream.snapshot().state
        anew = first_snapshot(settings, anchor, seed, start=reached.clock.start)
        begun = replace(
            anew,
            state=replace(
                anew.state,
                rng_state=reached.rng_state,
                decoder_memory=reached.decoder_memory,
                driving_origin=reached.driving_origin,
            ),
        )


class _ReferenceFirst(Stream):
    def _plan_at(self, clock: Clock) -> ChunkPlan:
        plan = super()._plan_at(clock)
        return replace(plan, anchor_position=plan.window.start - len(plan.sinks) - 1)


def reference_first(
    model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int
) -> Iterator[Chunk]:
    """The reference stands before the sinks and follows the window with them, as the first sink of an I2V network."""
    return _ReferenceFirst(model, first_snapshot(settings, anchor, seed), driving)
