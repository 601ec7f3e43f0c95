"""The pictures of docs/scale.md, drawn with Pillow."""

from collections.abc import Iterator, Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any

from ..engine import Axis, Sheet, plot_frame

COLOURS = {
    "slack": "#d62728",
    "slack, half the steps": "#ff7f0e",
    "one a card": "#1f77b4",
    "first come": "#7f7f7f",
}
_BAR = 20  # pixels


def save_plots(folder: Path, found: Mapping[str, Any]) -> list[Path]:
    """`rules.png` and `cards.png`; their paths."""
    rules, cards = folder / "rules.png", folder / "cards.png"
    _rules(found["compared"]).save(rules)
    _cards(found).save(cards)
    return [rules, cards]


def _rules(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The share of arrivals that played at 0.99 or more, by trace, load and rules, on the most cards."""
    most = max(row["cards"] for row in rows)
    shown = [row for row in rows if row["cards"] == most]
    traces = list(dict.fromkeys(row["trace"] for row in shown))
    sheet = Sheet(60 + 330 * len(traces), 320)
    _legend(sheet, list(dict.fromkeys(row["rules"] for row in shown)))
    for place, trace in enumerate(traces):
        left = 60 + 330 * place
        box = (left, 70, left + 280, 270)
        title = f"{trace}, {most} cards: share of all comers served at 0.99"
        _bars(sheet, [row for row in shown if row["trace"] == trace], title, box)
    return sheet


def _bars(sheet: Sheet, rows: Sequence[Mapping[str, Any]], title: str, box: tuple[int, int, int, int]) -> None:
    left, _, _, bottom = box
    axis = Axis(0, 1, bottom, box[1])
    sheet.text(left, box[1] - 6, title, anchor="lb")
    plot_frame(sheet, axis, box)
    for x, row in _grouped(sheet, rows, box, "load", "{:g} of capacity"):
        top = axis.at((1 - row["refused"]) * row["good"])
        sheet.bar((x, top, x + _BAR - 3, bottom), COLOURS[row["rules"]])


def _grouped(
    sheet: Sheet, rows: Sequence[Mapping[str, Any]], box: tuple[int, int, int, int], key: str, name: str
) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Each row with its bar's left side: rows of one value of `key` stand together, with the value as `name` below."""
    left, _, right, bottom = box
    values = list(dict.fromkeys(row[key] for row in rows))
    for place, value in enumerate(values):
        middle = left + (place + 0.5) * (right - left) / len(values)
        group = [row for row in rows if row[key] == value]
        for number, row in enumerate(group):
            yield middle + (number - len(group) / 2) * _BAR, row
        sheet.text(middle, bottom + 6, name.format(value), anchor="ma")


def _cards(found: Mapping[str, Any]) -> Sheet:
    """Sessions per card as cards are added, and how many cards people need."""
    sheet = Sheet(900, 320)
    _legend(sheet, [*dict.fromkeys(row["rules"] for row in found["growth"]), "one a card", "first come"])
    _growth(sheet, found["growth"], (60, 70, 430, 270))
    _needed(sheet, found["needed"], (510, 70, 880, 270))
    return sheet


def _growth(sheet: Sheet, rows: Sequence[Mapping[str, Any]], box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    per_card = {(row["rules"], row["cards"]): row["good_at_once"] / row["cards"] for row in rows}
    axis = Axis(0, 1.15 * max(per_card.values()), bottom, top)
    sheet.text(left, top - 6, "sessions at 0.99 per card, 1.2 of capacity, by cards", anchor="lb")
    plot_frame(sheet, axis, box)
    counts = sorted({cards for _, cards in per_card})
    across = Axis(log2(counts[0]) - 0.3, log2(counts[-1]) + 0.3, left, right)
    for cards in counts:
        sheet.text(across.at(log2(cards)), bottom + 6, str(cards), anchor="ma")
    for rules in dict.fromkeys(rules for rules, _ in per_card):
        points = [(across.at(log2(cards)), axis.at(per_card[rules, cards])) for cards in counts]
        sheet.line(points, COLOURS[rules], 2)
        for x, y in points:
            sheet.dot(x, y, 4, COLOURS[rules])


def _needed(sheet: Sheet, rows: Sequence[Mapping[str, Any]], box: tuple[int, int, int, int]) -> None:
    left, top, _, bottom = box
    axis = Axis(0, 1.15 * max(row["cards"] or 0 for row in rows), bottom, top)
    sheet.text(left, top - 6, f"cards for {rows[0]['at_once']} sessions at a time, by trace", anchor="lb")
    plot_frame(sheet, axis, box)
    for x, row in _grouped(sheet, rows, box, "trace", "{}"):
        if row["cards"] is not None:
            sheet.bar((x, axis.at(row["cards"]), x + _BAR - 3, bottom), COLOURS[row["rules"]])
            sheet.text(x + _BAR / 2 - 2, axis.at(row["cards"]) - 2, str(row["cards"]), anchor="mb")


def _legend(sheet: Sheet, names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        x = 60 + 190 * place
        sheet.bar((x, 16, x + 18, 26), COLOURS[name])
        sheet.text(x + 24, 21, name, anchor="lm")
