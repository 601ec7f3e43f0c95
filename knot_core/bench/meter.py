"""Figures of a run: how fast, how soon, how much memory, and where the time went."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch

from ..model import Model
from ..stream import Chunk


@dataclass(kw_only=True)
class Meter:
    """Watches one generation, from before its picture is read until its video is closed."""

    model: Model
    began: float = field(default_factory=perf_counter)
    chunk_seconds: list[float] = field(default_factory=list)  # from one finished chunk to the next, writing included
    num_pixel_frames: int = 0
    stages: Counter = field(default_factory=Counter)  # seconds by stage
    threads: int | None = None  # inside operations
    ended: float | None = None

    def __post_init__(self) -> None:
        self._last = self.began

    def stage(self, name: str, since: float) -> None:
        """Book the time since then."""
        self.stages[name] += perf_counter() - since

    def chunk(self, chunk: Chunk) -> None:
        """A chunk is made and written."""
        now = perf_counter()
        self.chunk_seconds.append(now - self._last)
        self._last = now
        self.num_pixel_frames += len(chunk.pixel_frames)
        self.stages.update(chunk.seconds)

    def end(self) -> None:
        """The video is closed."""
        self.ended = perf_counter()

    @property
    def seconds(self) -> float:
        return (self.ended or perf_counter()) - self.began

    def figures(self) -> dict[str, float | int | str | None]:
        """What the demo prints. `fps` counts everything but loading the model: reading, anchor, chunks, writing."""
        fps = self.num_pixel_frames / self.seconds
        # the first chunk waits for the anchor too, so it is told apart
        p50, p95 = np.percentile(self.chunk_seconds[1:] or self.chunk_seconds or [0.0], (50, 95))
        figures = {
            "fps": fps,
            "realtime_factor": fps / self.model.fps,
            "first_chunk_s": self.chunk_seconds[0] if self.chunk_seconds else None,
            "chunk_s_p50": p50,
            "chunk_s_p95": p95,
        }
        return {name: None if value is None else round(float(value), 4) for name, value in figures.items()} | {
            "chunks": len(self.chunk_seconds),
            "pixel_frames": self.num_pixel_frames,
            "peak_rss_mib": peak_rss_mib(),
            "threads": self.threads or torch.get_num_threads(),
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def table(self) -> str:
        """Where the time went, stage by stage."""
        lines = [f"{'stage':<10}{'seconds':>10}{'share':>9}{'ms / pixel frame':>19}"]
        rest = self.seconds - sum(self.stages.values())
        beside = {"at once": rest} if rest < 0 else {}  # stages that ran side by side
        rows = {**self.stages, **beside, "other": max(0.0, rest), "all": self.seconds}
        for name, seconds in rows.items():
            each = 1000 * seconds / max(1, self.num_pixel_frames)
            lines.append(f"{name:<10}{seconds:>10.3f}{seconds / self.seconds:>9.1%}{each:>19.2f}")
        return "\n".join(lines)


def peak_rss_mib() -> float | None:
    """The most memory that this process has held; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
