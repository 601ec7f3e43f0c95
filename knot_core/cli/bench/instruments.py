"""Instruments: marks in a chunk's work, memory, and what the machine can do at best."""

import statistics
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch

from ...run.process_memory import peak_rss_mib
from ...stream.timing import Mark, mark

_ENOUGH = 0.2  # seconds of products: a tenth of a per cent of the clock's resolution
_SIDES = {"cuda": 8192, "cpu": 1024}  # of the square matrices; large enough to be bound by arithmetic


class ChunkClock:
    """A stream's `progress` that marks where one stage ends and the next begins; reads nothing before it is asked."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._chunks: list[list[tuple[str, Mark]]] = []

    def __call__(self, done: int, total: int) -> None:
        """Called by the stream before every stage: its steps, decoding, the commit."""
        if self._chunks:
            late = {total - 1: "decode", total: "commit"}
            self._chunks[-1].append((late.get(done, f"step {done + 1}"), mark(self._device)))

    @contextmanager
    def chunk(self):  # noqa: ANN201 - a context
        """Around one chunk."""
        self._chunks.append([("prepare", mark(self._device))])
        yield
        self._chunks[-1].append(("end", mark(self._device)))

    def milliseconds(self) -> Mapping[str, list[float]]:
        """Milliseconds by stage, and "chunk" for all of them; one number per chunk. Waits for the device."""
        found: dict[str, list[float]] = {}
        for marks in self._chunks:
            marks[-1][1].synchronize()
            for (stage, start), (_, end) in pairwise(marks):
                found.setdefault(stage, []).append(start.elapsed_time(end))
            found.setdefault("chunk", []).append(marks[0][1].elapsed_time(marks[-1][1]))
        return found


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """p50 and p95."""
    p50, p95 = np.percentile(milliseconds, (50, 95))
    return {"p50": float(p50), "p95": float(p95)}


def seconds_of(compute: Callable[[], object], device: torch.device) -> float:
    """How long it takes until the device is done."""
    synchronize(device)
    since = perf_counter()
    compute()
    synchronize(device)
    return perf_counter() - since


def synchronize(device: torch.device) -> None:
    """Wait until the device is done with everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of one large square matrix product, median: 2 n^3 operations each."""
    side = _SIDES.get(device.type, 1024)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds_of(lambda: a @ b, device)  # chooses its kernel
    taken: list[float] = []
    while sum(taken) < _ENOUGH or len(taken) < 3:
        taken.append(seconds_of(lambda: a @ b, device))
    return 2 * side**3 / statistics.median(taken) / 1e12


def reset_peak_memory(device: torch.device) -> None:
    """Count from here on, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float | str | None]:
    """MiB, and what is counted: the device's tensors, or the whole process on a CPU."""
    if device.type == "cuda":
        return {"mib": round(torch.cuda.max_memory_allocated(device) / 2**20, 1), "of": "tensors on the device"}
    return {"mib": peak_rss_mib(), "of": "the whole process, from its start"}


def machine(device: torch.device) -> str:
    """The device's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
