"""A run's figures as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ..plot_sheet import Axis, Sheet, frame

Columns = Mapping[str, Sequence[float]]

STAGES = ("denoise", "decode", "commit", "write", "other")
COLOURS = {"denoise": "#1f77b4", "decode": "#ff7f0e", "commit": "#2ca02c", "write": "#9467bd", "other": "#b0b0b0"}
_MOST_BARS = 240
_PLOT = (1000, 640)  # pixels


def draw_figures(columns: Columns, fps: int, device: str, told: Mapping[str, Any]) -> Image.Image:
    """Seconds by stage, chunk by chunk, against real time, and the memory below; `told` is the run's summary."""
    sheet = Sheet(*_PLOT)
    rate = "" if told["fps"] is None else f", {told['fps']:.1f} frames/s, {told['realtime_factor']:.2f} x real time"
    sheet.text(70, 14, f"{told['chunks']} chunks, {told['pixel_frames']} frames on {device}{rate}")
    for place, stage in enumerate(STAGES):
        sheet.bar((70 + 110 * place, 44, 86 + 110 * place, 54), COLOURS[stage])
        sheet.text(92 + 110 * place, 49, stage, anchor="lm")
    if columns["chunk"]:
        _draw_seconds(sheet, (70, 96, 970, 370), columns, fps)
        _draw_memory(sheet, (70, 440, 970, 600), columns)
    return sheet.image()


def _draw_seconds(sheet: Sheet, box: tuple[int, int, int, int], columns: Columns, fps: int) -> None:
    left, top, right, bottom = box
    sheet.text(left, top - 8, "seconds per chunk, by stage (black line: real time; red: from chunk to chunk)",
               anchor="lb")  # fmt: skip
    groups = _groups(len(columns["chunk"]))
    means = {stage: [_mean(columns[stage][group]) for group in groups] for stage in STAGES}
    allowed = [_mean(columns["pixel_frames"][group]) / fps for group in groups]
    totals = [sum(column) for column in zip(*means.values(), strict=True)]
    taken = [_mean(columns["seconds"][group]) for group in groups]
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
    sheet.text(right, bottom + 6, f"chunk {int(columns['chunk'][-1])}", anchor="ra")
    sheet.text(left, bottom + 6, f"chunk {int(columns['chunk'][0])}", anchor="la")


def _draw_memory(sheet: Sheet, box: tuple[int, int, int, int], columns: Columns) -> None:
    left, top, right, bottom = box
    sheet.text(left, top - 8, "memory, MiB (red: this process; blue: the device)", anchor="lb")
    groups = _groups(len(columns["chunk"]))
    lines = {"#d62728": columns["memory_mib"], "#1f77b4": columns["device_mib"]}
    axis = Axis(0, 1.08 * max(1.0, *(max(values) for values in lines.values())), bottom, top)
    frame(sheet, axis, box)
    for colour, values in lines.items():
        if max(values) > 0:
            sheet.line(_steps([max(values[g]) for g in groups], left, (right - left) / len(groups), axis), colour, 2)


def _groups(count: int) -> list[slice]:
    """At most so many bars, each of as many chunks as the others."""
    size = -(-count // _MOST_BARS)
    return [slice(start, start + size) for start in range(0, count, size)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _steps(values: Sequence[float], left: float, step: float, axis: Axis) -> list[tuple[float, float]]:
    return [(left + (place + end) * step, axis.at(value)) for place, value in enumerate(values) for end in (0, 1)]
