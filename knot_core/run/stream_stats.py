"""The time and memory of a run: gathered chunk by chunk in 8 bytes per figure, summarised, and written as JSON or a
table.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter

import numpy as np
import torch
from PIL import Image

from ..stream import Chunk
from .process_memory import peak_rss_mib, resident_bytes
from .stats_plot import STAGES, draw_figures

_COLUMNS = ("chunk", "first_pixel_frame", "pixel_frames", "seconds", *STAGES, "memory_mib", "device_mib")
_WHOLE = ("chunk", "first_pixel_frame", "pixel_frames")  # columns of whole numbers
_MIB = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamStats:
    """The figures of a run.

    `seconds` of a chunk are from the chunk before it (of the first: from the run's beginning) until it is written;
    `other` is what no stage accounts for. Stages that run side by side together take longer than the chunk.
    """

    fps: int  # of the video
    device: str
    columns: Mapping[str, array]
    stages: Mapping[str, float]  # seconds of the whole run by stage, also of stages that belong to no chunk
    seconds: float  # of the whole run
    threads: int  # inside operations
    dtype: str | None
    peak_rss_mib: float | None  # the most memory that the process has held so far

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def __len__(self) -> int:
        return len(self.columns["chunk"])

    @property
    def num_pixel_frames(self) -> int:
        """The number of pixel frames of all chunks."""
        return int(sum(self.columns["pixel_frames"]))

    def chunk(self, place: int) -> dict[str, float | int]:
        """One row, for JSON."""
        row = {name: self.columns[name][place] for name in _COLUMNS}
        rounded = {name: int(value) if name in _WHOLE else round(value, 4) for name, value in row.items()}
        seconds = max(row["seconds"], 1e-9)
        return rounded | {"realtime_factor": round(row["pixel_frames"] / self.fps / seconds, 3)}

    def summary(self) -> dict[str, float | int | str | None]:
        """The run in numbers: seconds, MiB, frames per second; None for what was not measured."""
        rate = self.num_pixel_frames / self.seconds if len(self) and self.seconds else None
        taken = self.columns["seconds"]
        p50, p95 = np.percentile(taken[1:] or taken, (50, 95)) if len(self) else (None, None)  # the first also warms up
        memory = self.columns["memory_mib"]
        figures = {
            "fps": rate,
            "realtime_factor": None if rate is None else rate / self.fps,
            "first_chunk_s": taken[0] if len(self) else None,
            "chunk_s_p50": p50,
            "chunk_s_p95": p95,
            "memory_mib_first": memory[0] if len(self) else None,
            "memory_mib_last": memory[-1] if len(self) else None,
            "peak_rss_mib": self.peak_rss_mib,
        }
        return {name: None if value is None else round(float(value), 4) for name, value in figures.items()} | {
            "chunks": len(self),
            "pixel_frames": self.num_pixel_frames,
            "threads": self.threads,
            "device": self.device,
            "dtype": self.dtype,
        }

    def to_json(self) -> str:
        """{"fps", "summary", "chunks": one object each}; times in seconds, memory in MiB."""
        chunks = [self.chunk(place) for place in range(len(self))]
        return json.dumps({"fps": self.fps, "summary": self.summary(), "chunks": chunks})

    def table(self) -> str:
        """Seconds of the whole run by stage, as text."""
        lines = [f"{'stage':<10}{'seconds':>10}{'share':>9}{'ms / pixel frame':>19}"]
        rest = self.seconds - sum(self.stages.values())
        beside = {"at once": rest} if rest < 0 else {}  # stages that ran side by side
        rows = {**self.stages, **beside, "other": max(0.0, rest), "all": self.seconds}
        for name, seconds in rows.items():
            each = 1000 * seconds / max(1, self.num_pixel_frames)
            lines.append(f"{name:<10}{seconds:>10.3f}{seconds / max(self.seconds, 1e-9):>9.1%}{each:>19.2f}")
        return "\n".join(lines)

    def plot(self) -> Image.Image:
        """Seconds by stage, chunk by chunk, against real time; and the memory."""
        return draw_figures(self.columns, self.fps, self.device, self.summary())


@dataclass(kw_only=True)
class StreamLog:
    """Gathers a run's figures from its creation on; `freeze` returns them as a value."""

    fps: int
    device: torch.device
    dtype: torch.dtype | None = None
    threads: int | None = None  # inside operations; None: as many as torch is set to use
    columns: dict[str, array] = field(default_factory=lambda: {name: array("d") for name in _COLUMNS})

    def __post_init__(self) -> None:
        self._began = self._last = perf_counter()
        self._ended: float | None = None
        self._beside: dict[str, float] = {}  # seconds of stages that belong to no chunk
        self._whole_rows = Lock()

    def add(self, chunk: Chunk, *, write: float = 0.0) -> None:
        """A chunk is made, and took `write` seconds to be written."""
        stages = {name: chunk.seconds.get(name, 0.0) for name in ("denoise", "decode", "commit")} | {"write": write}
        now = perf_counter()
        seconds, self._last = now - self._last, now
        row = {
            "chunk": chunk.index,
            "first_pixel_frame": chunk.first_pixel_frame,
            "pixel_frames": len(chunk.pixel_frames),
            "seconds": seconds,
            **stages,
            "other": max(0.0, seconds - sum(stages.values())),
            "memory_mib": resident_bytes() / _MIB,
            "device_mib": _device_bytes(self.device) / _MIB,
        }
        with self._whole_rows:  # a row may be asked for while a thread adds the next
            for name, value in row.items():
                self.columns[name].append(value)

    def book(self, stage: str, since: float) -> None:
        """Count the seconds since then for a stage that belongs to no chunk, such as the anchor."""
        self._beside[stage] = self._beside.get(stage, 0.0) + perf_counter() - since

    def end(self) -> None:
        """The run is over: its file is closed."""
        self._ended = perf_counter()

    def row(self, place: int) -> dict[str, float]:
        """One chunk's figures as they were measured."""
        with self._whole_rows:
            return {name: values[place] for name, values in self.columns.items()}

    def freeze(self) -> StreamStats:
        """The figures so far."""
        with self._whole_rows:
            columns = {name: array("d", values) for name, values in self.columns.items()}
        in_chunks = {name: sum(columns[name]) for name in ("denoise", "decode", "commit", "write")}
        stages = self._beside | {name: self._beside.get(name, 0.0) + seconds for name, seconds in in_chunks.items()}
        return StreamStats(
            fps=self.fps,
            device=str(self.device),
            columns=columns,
            stages=stages,
            seconds=(self._ended or self._last) - self._began,
            threads=self.threads or torch.get_num_threads(),
            dtype=None if self.dtype is None else str(self.dtype).removeprefix("torch."),
            peak_rss_mib=peak_rss_mib(),
        )


def _device_bytes(device: torch.device) -> int:
    """Bytes of tensors on an accelerator; 0 for the CPU, where the process's memory has them."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
