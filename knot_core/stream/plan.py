"""A chunk as integers: its frames, the anchor's position, the known frames, and the noise levels of its steps.

All frames and positions are latent frames counted from the stream's beginning, without bound.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from ..cache_index import Place
from ..config import StreamSettings
from ..flow import noise_levels, own_timesteps


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The position of a stream between two chunks."""

    chunk: int  # number of the next chunk
    start: int  # i: the next chunk's first frame
    anchor_position: int  # n: where the anchor stood for the last chunk
    begin: int = 0  # the first frame that later chunks may still know of: of the stream, or behind its last cut

    @property
    def num_committed(self) -> int:
        """How many frames the stream has committed since it began, or began anew."""
        return self.start - self.begin


@dataclass(frozen=True, kw_only=True)
class ChunkPlan:
    """One chunk: `num_frames` frames that it commits, then `num_knot_frames` that it holds back as the next knot."""

    chunk: int
    begin: int  # as in `Clock`
    start: int
    num_frames: int
    num_knot_frames: int
    num_known_frames: int  # the first of its frames that the last knot, or the reference, already draws
    anchor_position: int
    sinks: range  # the first committed frames, which it may attend to wherever it is
    window: range  # the last ones, which it may attend to as well
    sigmas: tuple[float | Tensor, ...]  # noise levels, step by step; in training also [B, F], one per latent frame
    timesteps: tuple[float, ...] | None = None  # what the network is fed at each, if not 1000 * sigma
    sampler: str = "renoise"  # how it goes from step to step: see solvers.py
    fusion: float = 0.5  # the knot's weight in the fused prediction

    @property
    def positions(self) -> range:
        """Positions in time of the frames that the chunk denoises."""
        return range(self.start, self.start + self.num_frames + self.num_knot_frames)

    @property
    def committed(self) -> range:
        """The frames that it emits and commits."""
        return range(self.start, self.start + self.num_frames)

    @property
    def num_noises(self) -> int:
        """How often it draws noise."""
        return len(self.sigmas) if self.sampler == "renoise" else 1

    @property
    def from_reference(self) -> bool:
        """Whether it begins a stream, or begins it anew, whose first frame is the reference."""
        return self.start == self.begin and self.num_known_frames > 0

    @property
    def is_late_beginning(self) -> bool:
        """Whether it begins anew what was a stream before."""
        return self.start == self.begin and self.chunk > 0

    @property
    def next_clock(self) -> Clock:
        """The clock once this chunk is committed."""
        stop = self.committed.stop
        return Clock(chunk=self.chunk + 1, start=stop, anchor_position=self.anchor_position, begin=self.begin)


def first_clock(settings: StreamSettings, start: int = 0) -> Clock:
    """A stream's beginning; with another `start`, the same stream moved in time."""
    ahead = settings.run_ahead_start if settings.run_ahead_stride else 0
    return Clock(chunk=0, start=start, anchor_position=start + ahead, begin=start)


def clock_anew(settings: StreamSettings, clock: Clock) -> Clock:
    """The clock of a stream that begins anew where it stands; chunks and frames are counted on."""
    return replace(first_clock(settings, clock.start), chunk=clock.chunk)


def run_ahead(position: int, stop: int, stride: int) -> int:
    """while stop > n: n += stride (Knot Forcing, algorithm 1); stride 0 leaves the anchor where it is."""
    if stride == 0 or stop <= position:
        return position
    return position + stride * -((position - stop) // stride)


def plan_chunk(settings: StreamSettings, clock: Clock) -> ChunkPlan:
    """The chunk that comes next."""
    chunk_frames, knot_frames = settings.num_chunk_frames, settings.num_knot_frames
    num_committed, begins = clock.num_committed, clock.num_committed == 0
    num_known = int(settings.start_from_reference) if begins else knot_frames
    num_sinks = min(num_committed, settings.num_sink_frames)
    stop = clock.start + chunk_frames + knot_frames
    return ChunkPlan(
        chunk=clock.chunk,
        begin=clock.begin,
        start=clock.start,
        num_frames=chunk_frames,
        num_knot_frames=knot_frames,
        num_known_frames=num_known,
        anchor_position=run_ahead(clock.anchor_position, stop, settings.run_ahead_stride),
        sinks=range(clock.begin, clock.begin + num_sinks),
        window=range(clock.start - min(num_committed - num_sinks, settings.num_window_frames), clock.start),
        sigmas=noise_levels(settings, first_chunk=begins),
        timesteps=own_timesteps(settings, first_chunk=begins),
        sampler=settings.sampler,
        fusion=settings.fusion,
    )


def place_in_ring(settings: StreamSettings, chunk: int, step: int) -> Place:
    """The slots that a chunk's pass writes, if passes write in place (StreamDiffusionV2); `chunk` counts from 0.

    The first chunks fill sinks and ring. Once the ring is full, what a chunk's first pass wrote stays in it, and its
    later passes write one chunk further on: over the oldest, and where the next chunk's first pass will write.
    """
    chunk_frames, sinks = settings.num_chunk_frames, settings.num_sink_frames
    in_ring = settings.num_ring_frames // chunk_frames
    last = sinks // chunk_frames + in_ring - 1  # the chunk that fills it
    begun = chunk < last or (chunk == last and step == 0)
    slot = chunk if begun else sinks // chunk_frames + (chunk - last - (step == 0)) % in_ring
    return Place(slot * chunk_frames, chunk_frames, chunk_frames * min(chunk + 1, last + 1))
