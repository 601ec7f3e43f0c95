"""The effect of other work on the machine: runs with and without busy processes beside them, in pairs."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import Any

from ...run import StreamStats

_MOST_SECONDS = 120  # until a process has begun, which takes in what this one did


@contextmanager
def busy_processes(count: int) -> Iterator[list[BaseProcess]]:
    """Within it so many processes of one thread each compute and wait for nothing."""
    context = get_context("spawn")
    begun = context.Barrier(count + 1)
    running = [context.Process(target=_count, args=(begun, os.getpid()), daemon=True) for _ in range(count)]
    try:
        for process in running:
            process.start()
        begun.wait(_MOST_SECONDS)
        yield running
    finally:
        for process in running:
            if process.pid is not None:  # it was started
                process.kill()
                process.join()


def _count(begun: Barrier, parent: int) -> None:
    """Ends with who began it, however that ends."""
    begun.wait(_MOST_SECONDS)
    while os.getppid() == parent:
        for _ in range(10**6):
            pass


@dataclass(frozen=True)
class Pair:
    """Two runs, one after the other."""

    quiet: StreamStats
    busy: StreamStats

    def figures(self) -> dict[str, Any]:
        runs = {"quiet": self.quiet.summary(), "busy": self.busy.summary()}
        kept = ("fps", "first_chunk_s", "chunk_s_p50", "chunk_s_p95")
        told = {name: {key: run[key] or 0.0 for key in kept} for name, run in runs.items()}  # None: stopped at once
        return told | {"ratio": round(told["busy"]["fps"] / max(told["quiet"]["fps"], 1e-9), 4)}


def paired(run: Callable[[], StreamStats], count: int, num_pairs: int) -> Iterator[Pair]:
    """Quiet, then with `count` busy processes; again and again, so that both see the same machine."""
    for _ in range(num_pairs):
        quiet = run()
        with busy_processes(count):
            busy = run()
        yield Pair(quiet, busy)


def figures_of(pairs: list[Pair], count: int) -> dict[str, Any]:
    """All pairs, and their middle."""
    each = [pair.figures() for pair in pairs]
    return {
        "busy_processes": count,
        "ratio": median(pair["ratio"] for pair in each) if each else None,
        "threads": pairs[0].quiet.threads if pairs else None,
        "pairs": each,
    }


def line(pair: Pair) -> str:
    """A line about a pair, for people who wait."""
    told = pair.figures()
    return f"quiet {told['quiet']['fps']:.1f} fps, busy {told['busy']['fps']:.1f} fps: {told['ratio']:.2f}"
