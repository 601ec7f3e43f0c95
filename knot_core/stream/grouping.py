"""How several streams of one model are drawn fastest on this machine: chosen by drawing some, before anybody waits.

On a CPU a joint pass (together.py) gains little over one stream after the other, and a process per core, with one
thread inside operations, often more; on a GPU a joint pass fills what one stream leaves idle. Nothing of it is known in
advance, so it is measured.

Shapes: B batch (of one), C channels, H W latent size.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from ..config import StreamSettings
from ..errors import SettingsError
from ..threads import num_processors, threads_inside
from .anchor import Anchor, encode_latent_anchor
from .continuing import open_stream
from .sampler import Stream
from .snapshot import Snapshot
from .stream_model import StreamModel, latent_dtype
from .thread_choice import candidates
from .together import next_chunks

_GAIN = 1.05  # by so much more a larger group, or more processes, must draw
COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Rate:
    """The speed of one way, as measured."""

    workers: int  # at once; each of them draws
    threads: int  # inside operations of each
    streams: int  # in one pass of each
    chunks_a_second: float  # of all of them

    @property
    def seconds(self) -> float:
        """Seconds until each stream's next chunk is there."""
        return self.workers * self.streams / self.chunks_a_second

    def __str__(self) -> str:
        way = "one stream after the other" if self.streams == 1 else f"{self.streams} streams in one pass"
        workers = f"{self.workers} worker{'s' * (self.workers > 1)} of {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{workers}, {way}: {self.chunks_a_second:.4g} chunks a second"


@dataclass(frozen=True)
class Grouping:
    """The way that was chosen, and all that were measured."""

    chosen: Rate
    measured: tuple[Rate, ...]

    @property
    def workers(self) -> int:
        """Processes that draw beside each other on this machine."""
        return self.chosen.workers

    @property
    def threads(self) -> int:
        """Inside the operations of each."""
        return self.chosen.threads

    @property
    def streams(self) -> int:
        """The most streams that each draws in one pass: `most` of `Together`; 1: one after the other."""
        return self.chosen.streams

    def __str__(self) -> str:
        others = "; ".join(str(rate) for rate in self.measured if rate is not self.chosen)
        return f"chosen: {self.chosen}" + (f" (measured beside it: {others})" if others else "")


@dataclass(frozen=True, eq=False)
class StillDriving:
    """A driving that is the same in every latent frame, for ever."""

    signal_FTS: Tensor

    @property
    def num_pixel_frames(self) -> None:
        """None: it never ends."""

    def signal(self, first_latent: int, num_latents: int) -> Tensor:  # noqa: ARG002
        """[F, packed pixel frames, signal dim]"""
        return self.signal_FTS.expand(num_latents, -1, -1)


def some_anchor(model: StreamModel, latent_size: tuple[int, int]) -> Anchor:
    """The anchor of noise, for streams that nobody looks at."""
    rng = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 1, model.config.out_channels, *latent_size, generator=rng, dtype=latent_dtype(model))
    return encode_latent_anchor(model, latent)


@torch.no_grad()
def warm_snapshot(model: StreamModel, settings: StreamSettings, anchor: Anchor) -> tuple[Snapshot, StillDriving]:
    """A stream whose window is full, and the driving to go on with."""
    adapter = model.config.adapter
    shape = (1, 1, 1) if adapter is None else (1, adapter.num_packed, adapter.signal_dim)
    driving = StillDriving(torch.zeros(shape))
    stream = open_stream(model, anchor, settings, driving)
    while stream.state.clock.num_committed <= settings.num_window_frames + settings.num_sink_frames:
        next(stream)
    return stream.snapshot(), driving


def choose_grouping(  # noqa: PLR0913 - what is measured, and how long
    model: StreamModel,
    settings: StreamSettings,
    anchor: Anchor,
    *,
    counts: Sequence[int] = COUNTS,
    processors: int | None = None,
    num_rounds: int = 3,
    seconds: float = 20.0,
) -> Grouping:
    """Draw chunks of `counts` streams in each way, and choose the one that gives most chunks a second.

    `anchor`: of the size, and with the prompt, that streams will have; `some_anchor` where none is at hand. On a CPU
    the ways are workers of 1, 2, 4 ... threads each, as many as use all `processors` (None: those of this process);
    workers are measured as threads of this process, which is slower than processes are. A larger group is not tried
    where the one before it gained nothing, where there is no memory for its caches, nor after so many `seconds`.

    Raises:
        SettingsError: there is no memory for one stream more than a stream that was drawn to begin with.
    """
    stop = time.perf_counter() + seconds
    processors = num_processors() if processors is None else processors
    on_cpu = model.device.type == "cpu"
    warm = warm_snapshot(model, settings, anchor)
    measured: list[Rate] = []
    for threads in candidates(processors) if on_cpu else (torch.get_num_threads(),):
        ways = ((processors // threads if on_cpu else 1, threads, count) for count in counts)
        for rate, _ in _growing(model, warm, ways, num_rounds):
            measured.append(rate)
            if time.perf_counter() > stop:
                break
    return Grouping(chosen=best_rate(measured), measured=tuple(measured))


def larger_groups(
    model: StreamModel,
    settings: StreamSettings,
    anchor: Anchor,
    *,
    counts: Sequence[int],
    before: float,
    num_rounds: int = 3,
) -> list[Rate]:
    """The rates of `counts` streams in one pass of this process, as long as each group draws more than the one before
    and there is memory for its caches.

    `before`: chunks a second of one stream by itself.
    """
    ways = ((1, torch.get_num_threads(), count) for count in counts)
    tried = _growing(model, warm_snapshot(model, settings, anchor), ways, num_rounds, before)
    return [rate for rate, gains in tried if gains]


def _growing(
    model: StreamModel,
    warm: tuple[Snapshot, StillDriving],
    ways: Iterable[tuple[int, int, int]],
    num_rounds: int,
    before: float = 0.0,
) -> Iterator[tuple[Rate, bool]]:
    """The rates of larger and larger groups, and whether each gains; one that gains nothing is the last, and so is one
    behind which there is no memory for more caches.
    """
    for way in ways:
        try:
            rate = _rate(model, warm, way, num_rounds)
        except SettingsError:
            if not before:
                raise
            return
        gains = rate.chunks_a_second >= _GAIN * before
        yield rate, gains
        if not gains:
            return
        before = rate.chunks_a_second


def best_rate(rates: Sequence[Rate]) -> Rate:
    """The fastest; of those that are hardly slower the one with the fewest streams in a pass, which answers first."""
    most = max(rate.chunks_a_second for rate in rates)
    near = [rate for rate in rates if _GAIN * rate.chunks_a_second >= most]
    return min(near, key=lambda rate: (rate.streams, -rate.chunks_a_second))


def _rate(model: StreamModel, warm: tuple[Snapshot, StillDriving], way: tuple[int, int, int], num_rounds: int) -> Rate:
    """Measured; the way is workers, threads inside each, and streams that each draws in one pass."""
    workers, threads, count = way
    saved, driving = warm
    groups = [[_stream(model, saved, driving, threads) for _ in range(count)] for _ in range(workers)]
    with ThreadPoolExecutor(workers) as pool:

        def all_draw() -> float:
            list(pool.map(_draw, groups, [threads] * workers))
            return time.perf_counter()

        all_draw()  # chooses kernels, makes threads
        ends = [time.perf_counter(), *(all_draw() for _ in range(num_rounds))]
    taken = median(end - begin for begin, end in pairwise(ends))
    return Rate(workers, threads, count, workers * count / taken)


def _stream(model: StreamModel, saved: Snapshot, driving: StillDriving, threads: int) -> Stream:
    return Stream(model, replace(saved, state=replace(saved.state, threads=threads)), driving)


def _draw(streams: Sequence[Stream], threads: int) -> None:
    with torch.no_grad(), threads_inside(threads):
        for chunk in next_chunks(streams, threads=threads):
            if isinstance(chunk, Exception):
                raise chunk
