"""Several streams of one model: drawn together, one after the other, and in a process for each core, turn by turn."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ...errors import SettingsError
from ...run.process_memory import private_bytes
from ...stream import Stream, choose_grouping, next_chunks
from ...stream.grouping import warm_snapshot
from ...threads import num_processors, threads_inside
from .engine_benchmark import Figures, Task
from .instruments import machine, seconds_of

_MOST = 64


def counts_of(text: str) -> tuple[int, ...]:
    """Numbers of streams, as the option names them."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or not all(1 <= count <= _MOST for count in counts):
        raise SettingsError(f"streams is {text!r}; give numbers from 1 to {_MOST} with commas between, such as 1,2,4,8")
    return counts


@torch.no_grad()
def measure_streams(task: Task, counts: Sequence[int], num_rounds: int) -> Figures:
    """Each way draws one chunk of every stream in its turn, `num_rounds` times; ready for JSON."""
    device, anchor = task.model.device, task.anchor()
    saved, driving = warm_snapshot(task.model, task.settings, anchor)
    threads = num_processors() if device.type == "cpu" else torch.get_num_threads()
    rows: list[Figures] = []
    with _workers(task) as workers:
        for count in counts:
            held = _held(device)
            begun = replace(saved, state=replace(saved.state, threads=None))
            streams, others = ([Stream(task.model, begun, driving) for _ in range(count)] for _ in range(2))
            with threads_inside(threads):
                rows.append(_row(streams, others, workers, num_rounds, device))
            per_stream = max(0, _held(device) - held) / (2 * count)
            rows[-1] |= {"memory_mib_per_stream": per_stream / 2**20, "cache_mib": streams[0].num_cache_bytes / 2**20}
    chosen = choose_grouping(task.model, task.settings, anchor, counts=counts)
    return {
        "model": task.model.preset.family,
        "width": task.size[1],
        "height": task.size[0],
        "device": machine(device),
        "dtype": str(task.model.dtype).removeprefix("torch."),
        "threads": threads,
        "workers": len(workers),
        "streams": [{name: _short(value) for name, value in row.items()} for row in rows],
        "chosen": str(chosen),
    }


def _row(
    streams: list[Stream], others: list[Stream], workers: "list[_Worker]", num_rounds: int, device: torch.device
) -> Figures:
    """Seconds of one chunk of each stream, way by way, round by round."""
    count = len(streams)
    _together(streams)
    _apart(others)
    _in_workers(workers, count)  # what is done once belongs to none
    rounds = [
        (
            seconds_of(lambda: _together(streams), device),
            seconds_of(lambda: _apart(others), device),
            _in_workers(workers, count),
        )
        for _ in range(num_rounds)
    ]
    together, apart, worked = (statistics.median(taken) for taken in zip(*rounds, strict=True))
    row = {
        "streams": count,
        "together_chunks_per_s": count / together,
        "apart_chunks_per_s": count / apart,
        "together_times_apart": statistics.median(other / joint for joint, other, _ in rounds),
    }
    if workers:
        times = statistics.median(other / process for _, other, process in rounds)
        row |= {"workers_chunks_per_s": count / worked, "workers_times_apart": times}
    return row


def _together(streams: Sequence[Stream]) -> None:
    for chunk in next_chunks(streams):
        if isinstance(chunk, Exception):
            raise chunk


def _apart(streams: Sequence[Stream]) -> None:
    for stream in streams:
        next(stream)


_Worker = tuple[BaseProcess, Connection]


@contextmanager
def _workers(task: Task) -> "Iterator[list[_Worker]]":
    """A process of one thread for each processor, on a CPU of several; on others none."""
    count = num_processors() if task.model.device.type == "cpu" else 1
    workers: list[_Worker] = []
    context = get_context("spawn")
    try:
        for _ in range(count if count > 1 else 0):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(task, there), daemon=True)
            process.start()
            there.close()  # so that its end is met here
            workers.append((process, here))
        for _, connection in workers:
            connection.recv()
        yield workers
    finally:
        for process, _ in workers:
            process.kill()
            process.join()


def _in_workers(workers: "list[_Worker]", count: int) -> float:
    """Seconds until the workers, which share the streams evenly, have drawn a chunk of each; 0 without workers."""
    since = time.perf_counter()
    shares = [len(range(number, count, len(workers))) for number in range(len(workers))]
    for (_, connection), share in zip(workers, shares, strict=True):
        connection.send(share)
    for _, connection in workers:
        connection.recv()
    return time.perf_counter() - since


def _work(task: Task, connection: Connection) -> None:
    """A process: draws a chunk of each of as many streams as it is told, one stream after the other."""
    torch.set_num_threads(1)
    saved, driving = warm_snapshot(task.model, task.settings, task.anchor())
    streams: list[Stream] = []
    connection.send(private_bytes())
    while True:
        share = connection.recv()
        while len(streams) < share:
            streams.append(Stream(task.model, saved, driving))
        _apart(streams[:share])
        connection.send(share)


def _held(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else private_bytes()


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def table_of(figures: Figures) -> str:
    """The figures for the eye."""
    lines = [f"{'streams':<9}{'together':>10}{'apart':>10}{'ratio':>8}{'workers':>10}{'ratio':>8}{'MiB each':>10}"]
    for row in figures["streams"]:
        workers = f"{row['workers_chunks_per_s']:>10.4g}{row['workers_times_apart']:>8.3g}" if figures[
            "workers"] else f"{'-':>10}{'-':>8}"  # fmt: skip
        lines.append(
            f"{row['streams']:<9}{row['together_chunks_per_s']:>10.4g}{row['apart_chunks_per_s']:>10.4g}"
            f"{row['together_times_apart']:>8.3g}{workers}{row['memory_mib_per_stream']:>10.4g}"
        )
    what = f"{figures['model']}, {figures['width']}x{figures['height']}, {figures['dtype']}, {figures['device']}"
    ways = f"chunks a second; together and apart with {figures['threads']} threads, {figures['workers']} workers of one"
    return "\n".join([*lines, "", what, ways, figures["chosen"]])
