"""What a stream cost, chunk by chunk: held in 8 bytes a figure, told as JSON, drawn as a picture."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Lock
from time import perf_counter

import torch
from PIL import Image

from .drawing import Axis, Sheet, frame
from .stream import Chunk

STAGES = ("denoise", "decode", "commit", "write", "other")
COLOURS = {"denoise": "#1f77b4", "decode": "#ff7f0e", "commit": "#2ca02c", "write": "#9467bd", "other": "#b0b0b0"}
_COLUMNS = ("chunk", "first_pixel_frame", "pixel_frames", "seconds", *STAGES, "memory_mib", "device_mib")
_MIB = 2**20
_MOST_BARS = 240
_PLOT = (1000, 640)  # pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamStats:
    """A run's figures; `seconds` of a chunk are from the one before it to its being written, `other` what no stage
    accounts for. Stages that run side by side take longer together than the chunk."""

    fps: int
    device: str
    columns: Mapping[str, array]
    threads: int | None = None  # inside operations

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def __len__(self) -> int:
        return len(self.columns["chunk"])

    def chunk(self, place: int) -> dict[str, float | int]:
        """One row, for JSON."""
        row = {name: self.columns[name][place] for name in _COLUMNS}
        whole = ("chunk", "first_pixel_frame", "pixel_frames")
        rounded = {name: int(value) if name in whole else round(value, 4) for name, value in row.items()}
        seconds = max(row["seconds"], 1e-9)
        return rounded | {"realtime_factor": round(row["pixel_frames"] / self.fps / seconds, 3)}

    def summary(self) -> dict[str, float | int | str | None]:
        frames, seconds = sum(self.columns["pixel_frames"]), sum(self.columns["seconds"])
        steady = self.columns["seconds"][1:] or self.columns["seconds"]  # the first also warms up
        return {
            "chunks": len(self),
            "pixel_frames": int(frames),
            "fps": round(frames / seconds, 3) if seconds else None,
            "realtime_factor": round(frames / seconds / self.fps, 3) if seconds else None,
            "first_chunk_s": round(self.columns["seconds"][0], 4) if len(self) else None,
            "chunk_s_p50": round(median(steady), 4) if len(self) else None,
            "memory_mib_first": round(self.columns["memory_mib"][0], 1) if len(self) else None,
            "memory_mib_last": round(self.columns["memory_mib"][-1], 1) if len(self) else None,
            "device": self.device,
            "threads": self.threads,
        }

    def to_json(self) -> str:
        """{"fps", "summary", "chunks": one object each}; times in seconds, memory in MiB."""
        chunks = [self.chunk(place) for place in range(len(self))]
        return json.dumps({"fps": self.fps, "summary": self.summary(), "chunks": chunks})

    def plot(self) -> Image.Image:
        """Seconds by stage, chunk by chunk, against what real time allows; and the memory beside it."""
        sheet = Sheet(*_PLOT)
        told = self.summary()
        rate = "" if told["fps"] is None else f", {told['fps']:.1f} frames/s, {told['realtime_factor']:.2f} x real time"
        sheet.text(70, 14, f"{told['chunks']} chunks, {told['pixel_frames']} frames on {self.device}{rate}")
        for place, stage in enumerate(STAGES):
            sheet.bar((70 + 110 * place, 44, 86 + 110 * place, 54), COLOURS[stage])
            sheet.text(92 + 110 * place, 49, stage, anchor="lm")
        if len(self):
            self._draw_seconds(sheet, (70, 96, 970, 370))
            self._draw_memory(sheet, (70, 440, 970, 600))
        return sheet.image()

    def _draw_seconds(self, sheet: Sheet, box: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = box
        sheet.text(left, top - 8, "seconds per chunk, by stage (black line: real time; red: from chunk to chunk)",
                   anchor="lb")  # fmt: skip
        groups = _groups(len(self))
        means = {stage: [_mean(self.columns[stage][group]) for group in groups] for stage in STAGES}
        allowed = [_mean(self.columns["pixel_frames"][group]) / self.fps for group in groups]
        totals = [sum(column) for column in zip(*means.values(), strict=True)]
        taken = [_mean(self.columns["seconds"][group]) for group in groups]
        axis = Axis(0, 1.08 * max(*totals, *allowed, *taken, 1e-6), bottom, top)
        frame(sheet, axis, box)
        step = (right - left) / len(groups)
        for place in range(len(groups)):
            done = 0.0
            for stage in STAGES:
                ends = left + place * step, left + (place + 1) * step - (1 if step > 4 else 0)
                sheet.bar((ends[0], axis.at(done), ends[1], axis.at(done + means[stage][place])), COLOURS[stage])
                done += means[stage][place]
        sheet.line(_steps(taken, left, step, axis), "#d62728", 1.5)
        sheet.line(_steps(allowed, left, step, axis), "black", 1.5)
        sheet.text(right, bottom + 6, f"chunk {int(self.columns['chunk'][-1])}", anchor="ra")
        sheet.text(left, bottom + 6, f"chunk {int(self.columns['chunk'][0])}", anchor="la")

    def _draw_memory(self, sheet: Sheet, box: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = box
        sheet.text(left, top - 8, "memory, MiB (red: this process; blue: the device)", anchor="lb")
        groups = _groups(len(self))
        lines = {"#d62728": self.columns["memory_mib"], "#1f77b4": self.columns["device_mib"]}
        axis = Axis(0, 1.08 * max(1.0, *(max(values) for values in lines.values())), bottom, top)
        frame(sheet, axis, box)
        for colour, values in lines.items():
            if max(values) > 0:
                sheet.line(
                    _steps([max(values[g]) for g in groups], left, (right - left) / len(groups), axis), colour, 2
                )


@dataclass(kw_only=True)
class StreamLog:
    """Gathers a run's figures; `freeze` gives them as a value."""

    fps: int
    device: torch.device
    columns: dict[str, array] = field(default_factory=lambda: {name: array("d") for name in _COLUMNS})
    threads: int | None = None  # inside operations

    def __post_init__(self) -> None:
        self._last, self._whole_rows = perf_counter(), Lock()

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

    def row(self, place: int) -> dict[str, float]:
        """One chunk's figures as they were measured."""
        with self._whole_rows:
            return {name: values[place] for name, values in self.columns.items()}

    def freeze(self) -> StreamStats:
        with self._whole_rows:
            copies = {name: array("d", values) for name, values in self.columns.items()}
        return StreamStats(fps=self.fps, device=str(self.device), columns=copies, threads=self.threads)


def resident_bytes() -> int:
    """What this process holds of the machine's memory; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _device_bytes(device: torch.device) -> int:
    """Of tensors on an accelerator; nothing to add on the CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _groups(count: int) -> list[slice]:
    """At most so many bars, each of as many chunks as the others."""
    size = -(-count // _MOST_BARS)
    return [slice(start, start + size) for start in range(0, count, size)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _steps(values: Sequence[float], left: float, step: float, axis: Axis) -> list[tuple[float, float]]:
    return [(left + (place + end) * step, axis.at(value)) for place, value in enumerate(values) for end in (0, 1)]
