"""The study's picture: fidelity and identity over time, the spectrum of the pictures' change, paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from knot_core.driving.audio import FPS
from knot_core.plot_sheet import Axis, Sheet, axis_of, frame

from ..evaluation.report import Measured
from .verdicts import FIGURES, HIGHER, StudyReport

COLOURS = {
    "truth": "#000000",
    "codec": "#7f7f7f",
    "full": "#d62728",
    "control": "#ff9896",
    "knot0": "#1f77b4",
    "nofusion": "#17becf",
    "knotinx": "#9edae5",
    "knotclean": "#0b5d68",
    "k1": "#aec7e8",
    "k2": "#6baed6",
    "nooverlap": "#2f4b8f",
    "norunahead": "#9467bd",
    "s2": "#d9b8f0",
    "s4": "#c5a3e0",
    "s8": "#b07bd8",
    "noanchor": "#8c564b",
    "anchor0": "#5b2a86",
    "window3": "#006d2c",
    "window6": "#2ca25f",
    "window9": "#66c2a4",
    "window12": "#a6dcb8",
    "selfforcing": "#ff7f0e",
    "longlive": "#bcbd22",
}
BARS = ("psnr_last", "identity_last", "boundary_error", "seam", "restart", "flicker", "lips", "response")
_SPECTRA = ("codec", "full", "knot0", "nofusion", "selfforcing", "longlive")
_BETTER, _WORSE, _NOTHING = "#3a9a5b", "#c8553d", "#b8b8b8"
_ROW, _COLUMN, _FIRST_ROW = 24, 190, 710
_FAR_OFF = 6  # times the usual distance
_CURVE_AT_MOST = 120  # points: minutes are drawn in steps of several seconds


def save_study_plot(path: Path, report: StudyReport, period: int) -> None:
    """Draw it; ``period`` is a chunk in pixel frames."""
    names, others = report.variants(), report.others()
    sheet = Sheet(1700, _FIRST_ROW + _ROW * len(others) + 70)
    _legend(sheet, names)
    held_against = report.held_against()
    upper, lower = (90, 320), (370, 600)
    absolute = {name: report.curve("psnr", name) for name in names if name != "truth"}
    _over_time(sheet, absolute, "PSNR in the face box, dB, over seconds", (70, upper[0], 820, upper[1]))
    spectra = {name: report.curve("spectrum", name) for name in _SPECTRA if name in names}
    _spectra(sheet, spectra, period, (910, upper[0], 1660, upper[1]))
    for curve, title, (left, right) in (
        ("psnr", f"PSNR in the face box, less {held_against}, dB, over seconds", (70, 820)),
        ("identity", f"PSNR of hair, clothes, background (identity), less {held_against}", (910, 1660)),
    ):
        less = {name: report.curve_less(curve, name) for name in others}
        _over_time(sheet, *_near(less, title), (left, lower[0], right, lower[1]))
    _differences(sheet, report, others)
    sheet.save(path)


def _near(curves: Mapping[str, Sequence[float]], title: str) -> tuple[Mapping[str, Sequence[float]], str]:
    """Without those that lie so far off that they would flatten the others; the title names them."""
    size = {name: float(np.nanmean(np.abs(curve))) if len(curve) else 0.0 for name, curve in curves.items()}
    usual = float(np.median(list(size.values()))) if size else 0.0
    far = [name for name in curves if size[name] > max(1.0, _FAR_OFF * usual)]
    left_out = f" (far below, not drawn: {', '.join(far)})" if far else ""
    return {name: curve for name, curve in curves.items() if name not in far}, title + left_out


def _legend(sheet: Sheet, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        x, y = 70 + 145 * (i % 11), 22 + 24 * (i // 11)
        sheet.bar((x, y - 4, x + 18, y + 4), COLOURS[name])
        sheet.text(x + 24, y, name, anchor="lm")


def _over_time(sheet: Sheet, given: Mapping[str, Sequence[float]], title: str, box: tuple[int, int, int, int]) -> None:
    """A value a second; of long streams the means of several."""
    curves = {name: np.array(values) for name, values in given.items()}
    longest = max((len(values) for values in curves.values()), default=0)
    width = max(1, -(-longest // _CURVE_AT_MOST))
    points = {
        name: [(i + width / 2, float(values[i : i + width].mean())) for i in range(0, len(values), width)]
        for name, values in curves.items()
    }
    _lines(sheet, points, Axis(0, max(1, longest), box[0], box[2]), title, box)


def _spectra(sheet: Sheet, spectra: Mapping[str, Sequence[float]], period: int, box: tuple[int, int, int, int]) -> None:
    """Power in dB against frequency; the chunk rate and its multiples are marked."""
    points = {}
    for name, power in spectra.items():
        length = 2 * (len(power) - 1)
        points[name] = [(j * FPS / length, 10 * math.log10(max(p, 1e-4))) for j, p in enumerate(power) if j > 1]
    hertz = Axis(0, FPS / 2, box[0], box[2])
    title = "spectrum of the face's change over the truth's, dB, over Hz (dotted: chunk rate and multiples)"
    for multiple in range(1, period // 2 + 1):
        x = hertz.at(multiple * FPS / period)
        for y in range(box[1], box[3], 8):
            sheet.line([(x, y), (x, y + 3)], "#999999")
    _lines(sheet, points, hertz, title, box)


def _lines(
    sheet: Sheet,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    across: Axis,
    title: str,
    box: tuple[int, int, int, int],
) -> None:
    values = [y for line in lines.values() for _, y in line if math.isfinite(y)]
    sheet.text(box[0], box[1] - 8, title, anchor="lb")
    if not values:
        sheet.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, "nothing to show", anchor="mm")
        return
    up = axis_of(values, box[3], box[1])
    frame(sheet, up, box)
    for tick in across.ticks():
        sheet.text(across.at(tick), box[3] + 4, f"{tick:g}", anchor="ma")
    for name in sorted(lines, key=lambda name: name == "full"):  # on top of the others
        shown = [(across.at(x), up.at(y)) for x, y in lines[name] if math.isfinite(y)]
        if len(shown) > 1:
            sheet.line(shown, COLOURS[name], 3 if name == "full" else 1.5)


def _differences(sheet: Sheet, report: StudyReport, others: Sequence[str]) -> None:
    """A column a figure, a bar a variant."""
    title = (
        f"less {report.held_against()}, person by person, with 95 % intervals; green: better, red: worse, grey: cannot "
        "be told"
    )
    sheet.text(70, _FIRST_ROW - 62, title, anchor="lm")
    for row, name in enumerate(others):
        sheet.text(150, _FIRST_ROW + _ROW * (row + 0.5), name, anchor="rm")
    for column, name in enumerate(BARS):
        left, figure = 165 + _COLUMN * column, FIGURES[name]
        word = "more is better" if figure.better == HIGHER else "less is better"
        sheet.text(left, _FIRST_ROW - 40, figure.heading, anchor="lm")
        sheet.text(left, _FIRST_ROW - 22, word, anchor="lm", colour="#777777")
        found = [report.difference(name, other) for other in others]
        _bars(sheet, found, figure.better, _across(found, left, left + _COLUMN - 40))


def _bars(sheet: Sheet, found: Sequence[Measured], better: int, across: Axis) -> None:
    bottom = _FIRST_ROW + _ROW * len(found)
    for tick in across.ticks()[::2]:
        sheet.line([(across.at(tick), _FIRST_ROW), (across.at(tick), bottom)], "#ececec")
        sheet.text(across.at(tick), bottom + 4, f"{tick:g}", anchor="ma")
    for row, measured in enumerate(found):
        y = _FIRST_ROW + _ROW * (row + 0.5)
        if math.isfinite(measured.mean):
            _bar(sheet, measured, better, across, y)
        else:
            sheet.text(across.at(0) + 4, y, "none", anchor="lm", colour="#777777")
    sheet.line([(across.at(0), _FIRST_ROW), (across.at(0), bottom)], "black")


def _bar(sheet: Sheet, measured: Measured, better: int, across: Axis, y: float) -> None:
    """From 0 to the mean, with its interval; what is further out than the axis ends there, and its value is written."""
    half = measured.half if math.isfinite(measured.half) else 0.0
    zero, end, low, high = (
        across.at(min(max(value, across.low), across.high))
        for value in (0.0, measured.mean, measured.mean - half, measured.mean + half)
    )
    sheet.bar((min(zero, end), y - 7, max(zero, end), y + 7), _colour(measured, better))
    if across.low <= measured.mean <= across.high:
        sheet.line([(low, y), (high, y)], "black", 1.5)
    else:
        text, anchor = f"{measured.mean:+.3g}", "rm" if measured.mean > 0 else "lm"
        sheet.text(end + (-4 if measured.mean > 0 else 4), y, text, anchor=anchor, colour="white")


def _across(found: Sequence[Measured], left: int, right: int) -> Axis:
    """Wide enough for all but what is far out: one variant that fails must not flatten the others."""
    reach = sorted(abs(m.mean) + (m.half if math.isfinite(m.half) else 0) for m in found if math.isfinite(m.mean))
    usual = reach[int(0.8 * (len(reach) - 1))] if reach else 0.0
    most = next((r for r in reversed(reach) if r <= 4 * usual), usual) or 1.0
    return Axis(-1.1 * most, 1.1 * most, left, right)


def _colour(measured: Measured, better: int) -> str:
    if not abs(measured.mean) > measured.half:
        return _NOTHING
    return _BETTER if measured.mean * better > 0 else _WORSE
