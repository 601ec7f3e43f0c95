"""How long a chunk's stages take, without waiting for the device: marks in the order of its own work."""

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Protocol

import torch


class Mark(Protocol):
    """A moment in the device's work; `torch.cuda.Event` is one."""

    def synchronize(self) -> None:
        """Wait until the device has come here."""

    def elapsed_time(self, end: "Mark") -> float:
        """Milliseconds from here to there; both must have passed."""


class HostMark:
    """A time mark on a device whose calls return when the work is done."""

    def __init__(self) -> None:
        self._time = perf_counter()

    def synchronize(self) -> None:
        """Nothing: the mark has passed."""

    def elapsed_time(self, end: "HostMark") -> float:
        return 1000 * (end._time - self._time)


def mark(device: torch.device) -> Mark:
    """A mark behind everything that was asked of the device so far."""
    if device.type != "cuda":
        return HostMark()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


class StageSeconds(Mapping[str, float]):
    """Seconds by stage, from mark to mark. Reading one waits until the device is done with that stage, making this does
    not. Stages may have run at the same time, so that they take longer together than the chunk."""

    def __init__(self, spans: Mapping[str, tuple[Mark, Mark]]) -> None:
        self._spans = spans

    def __getitem__(self, stage: str) -> float:
        start, end = self._spans[stage]
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)
