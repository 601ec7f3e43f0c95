"""Plots, drawn with Pillow: axes, lines, bars, dots and text on a white sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

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
        box = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse([value * _FINE for value in box], fill=colour)

    def image(self) -> Image.Image:
        return self._image.reduce(_FINE)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.image().save(path)


def axis_of(values: Sequence[float], bottom: int, top: int) -> Axis:
    """A little wider than the values."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    return Axis(low - margin, high + margin, bottom, top)


def frame(sheet: Sheet, axis: Axis, box: tuple[int, int, int, int]) -> None:
    """Lines at the axis's ticks, with their values, and the two axes."""
    left, top, right, bottom = box
    for tick in axis.ticks():
        sheet.line([(left, axis.at(tick)), (right, axis.at(tick))], "#e2e2e2")
        sheet.text(left - 5, axis.at(tick), f"{tick:g}", anchor="rm")
    sheet.line([(left, top), (left, bottom), (right, bottom)], "black")
