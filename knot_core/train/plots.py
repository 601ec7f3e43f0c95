"""The evaluation's pictures, drawn with Pillow: curves over time, means with their intervals, contact sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .report import Measured, Report

COLOURS = {
    "codec": "#7f7f7f",
    "full": "#d62728",
    "knot0": "#1f77b4",
    "nofusion": "#2ca02c",
    "norunahead": "#9467bd",
    "noanchor": "#ff7f0e",
    "frozen": "#b0b0b0",
    "mean": "#c7b299",
}
_FINE = 2  # drawn so many times larger, then reduced: smooth lines


@dataclass(frozen=True)
class Axis:
    """A range of values and the pixels that it is drawn on."""

    low: float
    high: float
    start: int
    stop: int

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Four to nine round values inside the range."""
        step = 10 ** math.floor(math.log10(self.high - self.low))
        step = next(s for s in (step, step / 2, step / 5, step / 10) if (self.high - self.low) / s >= 3.5)
        return [i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


class Sheet:
    """A white picture with boxes of axes on it."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _FINE, height * _FINE), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(13 * _FINE)

    def text(self, x: float, y: float, text: str, *, anchor: str = "la", colour: str = "black") -> None:
        self._draw.text((x * _FINE, y * _FINE), text, fill=colour, font=self._font, anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        fine = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(fine, fill=colour, width=round(width * _FINE), joint="curve")

    def bar(self, box: tuple[float, float, float, float], colour: str) -> None:
        left, top, right, bottom = (value * _FINE for value in box)
        self._draw.rectangle((left, min(top, bottom), right, max(top, bottom)), fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self._draw.circle((x * _FINE, y * _FINE), radius * _FINE, fill=colour)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._image.reduce(_FINE).save(path)


def save_plot(path: Path, report: Report) -> None:
    """Fidelity and sharpness over time; at the right what they come to at the end, and at the boundaries."""
    sheet = Sheet(1400, 900)
    variants = [name for name in report.variants() if name != "truth"]
    _legend(sheet, variants)
    dynamic = [name for name in variants if name not in ("frozen", "mean")]
    for name, title, top in (
        ("psnr", "PSNR in the face box, dB, second by second", 60),
        ("identity", "identity: PSNR of hair, clothes, background, dB", 340),
        ("sharpness", "sharpness in the face box (gradient energy over the truth's)", 620),
    ):
        shown = variants if name == "psnr" else dynamic
        _curves(sheet, {variant: report.curve(name, variant) for variant in shown}, title, (60, top, 820, top + 230))
    for figure, title, top, shown in (
        ("psnr_last", "PSNR, last 5 s, dB", 60, variants),
        ("boundary", "boundary ratio (line: the truth's)", 340, dynamic),
        ("mouth_open_correlation", "mouth opening: correlation with the truth", 620, dynamic),
    ):
        line = report.mean("true_boundary").mean if figure == "boundary" else math.nan
        values = {variant: report.mean(figure, variant) for variant in shown}
        _dots(sheet, values, title, (920, top, 1370, top + 215), line)
    sheet.save(path)


def save_sheet(path: Path, rows: Mapping[str, Path]) -> None:
    """Strips of pictures under one another, each with its name; those that are not there are left out."""
    strips = {name: Image.open(strip) for name, strip in rows.items() if strip.exists()}
    if not strips:
        return
    width, label = max(strip.width for strip in strips.values()), 16
    sheet = Image.new("RGB", (width, sum(strip.height + label for strip in strips.values())), "white")
    draw, y = ImageDraw.Draw(sheet), 0
    for name, strip in strips.items():
        draw.text((3, y + 2), name, fill="black")
        sheet.paste(strip, (0, y + label))
        y += strip.height + label
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _legend(sheet: Sheet, variants: Sequence[str]) -> None:
    for i, name in enumerate(variants):
        sheet.bar((60 + 130 * i, 18, 78 + 130 * i, 26), COLOURS[name])
        sheet.text(84 + 130 * i, 22, name, anchor="lm")


def _curves(sheet: Sheet, curves: Mapping[str, Sequence[float]], title: str, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    sheet.text(left, top - 6, title, anchor="lb")
    if not values:
        return
    seconds = Axis(0, max(1, *(len(curve) for curve in curves.values())), left, right)
    axis = _axis(values, bottom, top)
    _frame(sheet, axis, box)
    for tick in seconds.ticks():
        sheet.text(seconds.at(tick), bottom + 4, f"{tick:g}", anchor="ma")
    for name, curve in curves.items():
        points = [(seconds.at(i + 0.5), axis.at(value)) for i, value in enumerate(curve) if math.isfinite(value)]
        if len(points) > 1:
            sheet.line(points, COLOURS[name], 2)


def _dots(
    sheet: Sheet, values: Mapping[str, Measured], title: str, box: tuple[int, int, int, int], line: float
) -> None:
    left, top, right, bottom = box
    found = {name: value for name, value in values.items() if math.isfinite(value.mean)}
    sheet.text(left, top - 6, title, anchor="lb")
    if not found:
        return
    ends = [v.mean + s * (v.half if math.isfinite(v.half) else 0) for v in found.values() for s in (-1, 1)]
    axis = _axis([*ends, *([line] if math.isfinite(line) else [])], bottom, top)
    _frame(sheet, axis, box)
    step = (right - left) / len(found)
    for i, (name, value) in enumerate(found.items()):
        middle, y = left + (i + 0.5) * step, axis.at(value.mean)
        if math.isfinite(value.half):
            sheet.line(
                [(middle, axis.at(value.mean - value.half)), (middle, axis.at(value.mean + value.half))], "black", 1.5
            )
        sheet.dot(middle, y, 6, COLOURS[name])
        sheet.text(middle, bottom + (4 if i % 2 == 0 else 19), name, anchor="ma")
    if math.isfinite(line):
        sheet.line([(left, axis.at(line)), (right, axis.at(line))], "black", 1.5)


def _axis(values: Sequence[float], bottom: int, top: int) -> Axis:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    return Axis(low - margin, high + margin, bottom, top)


def _frame(sheet: Sheet, axis: Axis, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    for tick in axis.ticks():
        sheet.line([(left, axis.at(tick)), (right, axis.at(tick))], "#e2e2e2")
        sheet.text(left - 5, axis.at(tick), f"{tick:g}", anchor="rm")
    sheet.line([(left, top), (left, bottom), (right, bottom)], "black")
