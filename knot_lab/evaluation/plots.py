"""The evaluation's pictures, drawn with Pillow: curves over time, means with their intervals, contact sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from knot_core.plot_sheet import Axis, Sheet, axis_of, frame

from .report import Measured, Report

COLOURS = {
    "codec": "#7f7f7f",
    "full": "#d62728",
    "knot0": "#1f77b4",
    "nofusion": "#2ca02c",
    "anchor0": "#9467bd",
    "noanchor": "#ff7f0e",
    "frozen": "#b0b0b0",
    "mean": "#c7b299",
}


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
    axis = axis_of(values, bottom, top)
    frame(sheet, axis, box)
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
    axis = axis_of([*ends, *([line] if math.isfinite(line) else [])], bottom, top)
    frame(sheet, axis, box)
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
