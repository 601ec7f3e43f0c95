"""The stream: one chunk after another, for ever if the driving goes on.

Shapes: S denoising steps, B batch (of one), F latent frames, M known latent frames, T pixel frames,
C channels, H W size.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cache import CacheShape, KVCache
from ..config import StreamSettings
from ..errors import SettingsError
from ..flow import fuse, noise_levels
from ..geometry import TEMPORAL, first_pixel_frame, num_latent_frames, num_tokens
from ..transfer import to_device
from .anchor import Anchor, with_text
from .decode import decode
from .denoise import Conditions, Denoiser, commit, denoise
from .driven import check_driving
from .model import StreamDriving, StreamModel, latent_dtype
from .plan import ChunkPlan, plan_chunk
from .sinks import Sinks
from .state import Snapshot, check_beginning, first_snapshot, load_stream, save_stream
from .timing import StageSeconds, mark


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """What a stream gives, piece by piece."""

    index: int
    start_frame: int  # first latent frame
    latents: Tensor  # float32 [F, C, h, w]; float64 of a float64 model
    pixel_frames: Tensor  # uint8 [T, H, W, 3], on the CPU
    seconds: Mapping[str, float]  # spent on "denoise", "decode" and "commit"; reading it waits for the commit

    @property
    def first_pixel_frame(self) -> int:
        """Of the stream."""
        return first_pixel_frame(self.start_frame)


Progress = Callable[[int, int], None]  # stages done, stages of a chunk: its steps, then decoding
ShouldStop = Callable[[], bool]


class _Stopped(Exception):  # noqa: N818 - not an error
    """`should_stop` said so; the chunk under way is dropped, the stream stands where it stood before it."""


def open_stream(  # noqa: PLR0913 - the public door; a host's callables may be left out
    model: StreamModel,
    anchor: Anchor,
    settings: StreamSettings,
    driving: StreamDriving,
    seed: int = 0,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> "Stream":
    """Begin a stream; nothing is computed before its first chunk is asked for."""
    check_beginning(model, anchor, seed)
    return Stream(model, first_snapshot(settings, anchor, seed), driving, progress=progress, should_stop=should_stop)


def resume_stream(
    model: StreamModel,
    path: str | os.PathLike[str],
    driving: StreamDriving,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> "Stream":
    """Go on, bit for bit, from what `Stream.save` wrote, with the driving that was playing."""
    return Stream(model, load_stream(path, model), driving, progress=progress, should_stop=should_stop)


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
        check_driving(model, driving)
        self.model, self.anchor, self.settings = model, snapshot.anchor, snapshot.settings
        self._state, self._driving = snapshot.state, driving
        self._progress, self._should_stop = progress, should_stop
        self._cache = _filled_cache(model, snapshot)
        self._sinks = Sinks(self.settings, self._cache, snapshot.sinks)
        self._denoiser = Denoiser.of(
            model,
            self.anchor.text_BTD,
            reference_B1CHW=self.anchor.reference_BFCHW,
            image_BTE=self.anchor.image_BTE,
        )
        self._anchor_placed_at: int | None = None

    @property
    def plan(self) -> ChunkPlan:
        """The chunk that comes next."""
        return plan_chunk(self.settings, self._state.clock)

    @property
    def _sigmas(self) -> tuple[float, ...]:
        """Noise levels of the chunk that comes next, or is under way."""
        return noise_levels(self.settings, first_chunk=self._state.clock.chunk == 0)

    @property
    def num_pixel_frames(self) -> int | None:
        """How many pixel frames the stream has when its driving ends; None if that never ends."""
        length = self._driving.num_pixel_frames
        return None if length is None else TEMPORAL * self._state.driving_origin + length

    @property
    def finished(self) -> bool:
        """Whether the driving has been played out."""
        end = self.num_pixel_frames
        return end is not None and first_pixel_frame(self._state.clock.start) >= end

    def set_driving(self, driving: StreamDriving, *, origin: int | None = None) -> None:
        """Drive by something else from the next chunk on; for between two chunks.

        It starts to play there, unless `origin` names another latent frame of the stream as its beginning: 0 for a
        driving that shares the stream's own time.
        """
        check_driving(self.model, driving)
        start = self._state.clock.start
        origin = start if origin is None else origin
        if not 0 <= origin <= start:
            raise SettingsError(f"origin is {origin}; it must be between 0 and the next chunk's first frame, {start}")
        self._driving, self._state = driving, replace(self._state, driving_origin=origin)

    @torch.no_grad()
    def set_text(self, text_BTD: Tensor) -> None:
        """Another prompt from the next chunk on, saved with the stream."""
        self.anchor = with_text(self.anchor, self.model, text_BTD)
        renewed = Denoiser.of(self.model, self.anchor.text_BTD, image_BTE=self.anchor.image_BTE)
        self._denoiser = replace(self._denoiser, context=renewed.context)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that `resume_stream` needs."""
        save_stream(path, self.snapshot())

    def fork(self) -> "Stream":
        """A second stream that goes on from here on its own."""
        return Stream(
            self.model, self.snapshot(), self._driving, progress=self._progress, should_stop=self._should_stop
        )

    def snapshot(self) -> Snapshot:
        """Where the stream stands. The window is a view: make a stream of it, or a file, before this one goes on."""
        cache = self._cache
        return Snapshot(
            settings=self.settings,
            anchor=self.anchor,
            state=self._state,
            window_index=cache.index,
            window=tuple(cache.window(layer) for layer in range(cache.shape.num_layers)),
            sinks=self._sinks.layers,
        )

    @property
    def num_cache_bytes(self) -> int:
        """Of sinks, window, anchor and the pass at hand; the same from the first chunk on."""
        return self._cache.num_bytes + self._sinks.num_bytes

    @torch.no_grad()
    def __next__(self) -> Chunk:
        if self.finished:
            raise StopIteration
        try:
            return self._next_chunk(self.plan)
        except _Stopped:
            raise StopIteration from None

    def _next_chunk(self, plan: ChunkPlan) -> Chunk:
        """Nothing that lasts is written before the commit; the new state is put in place after it.

        The host asks for the whole chunk and waits for the device once: for the pictures, while it commits.
        """
        assert self._cache.index.num_committed == plan.chunk * plan.num_frames, "the cache and the clock disagree"
        device = self.model.device
        began, ended = mark(device), {}
        conditions = self._conditions(plan)
        noise, rng_state = self._draw_noise(plan)
        x0 = self._settle(plan, conditions, noise)
        ended["denoise"] = mark(device)
        self._before_stage(len(self._sigmas))
        latents = x0[:, : plan.num_frames].clone()
        pixel_frames, memory = decode(self.model.codec, latents, self._state.decoder_memory)
        ended["decode"] = mark(device)
        self._before_stage(len(self._sigmas) + 1)
        self._commit(plan, conditions, latents)
        self._state = replace(
            self._state,
            clock=plan.next_clock,
            rng_state=rng_state,
            knot_BMCHW=x0[:, plan.num_frames :].clone() if plan.num_knot_frames else None,
            decoder_memory=memory,
        )
        ended["commit"] = mark(device)
        ended["decode"].synchronize()
        return self._emit(plan, latents[0], pixel_frames, StageSeconds(began, ended))

    def _conditions(self, plan: ChunkPlan) -> Conditions:
        positions = plan.positions
        first = plan.start - self._state.driving_origin
        signal = torch.as_tensor(self._driving.signal(first, len(positions)))
        return Conditions(
            knot_BMCHW=self._state.knot_BMCHW,
            rope=self._denoiser.rope(positions, self.anchor.latent_size),
            driving=self._denoiser.driving(signal, len(positions), starts=first == 0),
        )

    def _draw_noise(self, plan: ChunkPlan) -> tuple[Tensor, Tensor]:
        """[S, B, F, C, H, W], all of a chunk's noise at once, and the generator's state for the next chunk's."""
        rng = torch.Generator()
        rng.set_state(self._state.rng_state)
        _, _, *frame = self.anchor.reference_BFCHW.shape
        noise = torch.randn(len(self._sigmas), 1, len(plan.positions), *frame, generator=rng)
        return to_device(noise, self.model.device, latent_dtype(self.model)), rng.get_state()

    def _settle(self, plan: ChunkPlan, conditions: Conditions, noise: Tensor) -> Tensor:
        """Denoise the chunk's frames and fuse the knot into them."""
        self._place_anchor(plan.anchor_position)
        x0 = denoise(self._denoiser, conditions, noise, self._sigmas, self._cache, self._before_stage)
        knot = conditions.knot_BMCHW
        return x0 if knot is None else fuse(knot, x0, self.settings.fusion)

    def _place_anchor(self, position: int) -> None:
        if not self.settings.use_anchor or position == self._anchor_placed_at:
            return
        for layer, (keys, values) in enumerate(self.anchor.at(position)):
            self._cache.place_anchor(layer, keys, values)
        self._anchor_placed_at = position

    def _commit(self, plan: ChunkPlan, conditions: Conditions, latents_BFCHW: Tensor) -> None:
        if self.settings.num_window_frames + self.settings.num_sink_frames > 0:
            from_reference = plan.chunk == 0 and self.settings.start_from_reference
            known = self._denoiser.layout.known_at_commit(conditions.knot_BMCHW, from_reference=from_reference)
            settled = conditions.first(plan.num_frames, self._cache.shape.num_tokens, known)
            commit(self._denoiser, settled, latents_BFCHW, self._cache)
        self._sinks.commit(self._cache, plan.num_frames)

    def _emit(self, plan: ChunkPlan, latents: Tensor, pixel_frames: Tensor, seconds: StageSeconds) -> Chunk:
        end = self.num_pixel_frames
        if end is not None:
            latents = latents[: num_latent_frames(end) - plan.start]
            pixel_frames = pixel_frames[: end - first_pixel_frame(plan.start)]
        return Chunk(
            index=plan.chunk,
            start_frame=plan.start,
            latents=latents,
            pixel_frames=pixel_frames,
            seconds=seconds,
        )

    def _before_stage(self, done: int) -> None:
        """Report, and stop if asked. The last time is before the commit: from there on the chunk happens."""
        if self._progress is not None:
            self._progress(done, len(self._sigmas) + 1)
        if self._should_stop is not None and self._should_stop():
            raise _Stopped


def _filled_cache(model: StreamModel, snapshot: Snapshot) -> KVCache:
    config, settings, anchor = model.config, snapshot.settings, snapshot.anchor
    shape = CacheShape(
        num_layers=config.num_layers,
        batch=1,
        num_tokens=num_tokens(*anchor.latent_size),
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        num_window_frames=settings.num_window_frames,
        num_anchor_frames=int(settings.use_anchor),
        num_pass_frames=settings.num_chunk_frames + settings.num_knot_frames,
        num_sink_frames=settings.num_sink_frames,
    )
    cache = KVCache(shape, dtype=model.dtype, device=model.device)
    if snapshot.window_index.num_committed:
        cache.load_window(snapshot.window_index, snapshot.window)
    return cache
