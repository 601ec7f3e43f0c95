"""From records to the results of an evaluation: means over identities, the table, and the built-in model's checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import mean_and_interval
from .records import Record

# (heading, figure) of the table, in dB, ratios, correlations; all in the face box unless the heading says otherwise
COLUMNS = (
    ("PSNR", "psnr"),
    ("PSNR first 5 s", "psnr_first"),
    ("PSNR last 5 s", "psnr_last"),
    ("sharpness first", "sharpness_first"),
    ("sharpness last", "sharpness_last"),
    ("boundary ratio", "boundary"),
    ("identity first", "identity_first"),
    ("identity last", "identity_last"),
    ("mouth correlation", "mouth_open_correlation"),
    ("PSNR whole picture", "psnr_picture"),
)
ORDER = ("truth", "codec", "full", "knot0", "nofusion", "anchor0", "noanchor", "frozen", "mean")


@dataclass(frozen=True)
class Measured:
    """Mean over identities, half the width of its 95 % interval, and of how many."""

    mean: float
    half: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that the built-in model is held to."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    half: float = math.nan

    @property
    def holds(self) -> bool:
        return self.low <= self.value <= self.high  # nan holds nothing


class Report:
    """Records of one evaluation, asked for means."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def variants(self) -> list[str]:
        """The variants of the mode ``full``, in the table's order."""
        found = {record.variant for record in self._records if record.mode == "full"}
        return [name for name in ORDER if name in found]

    def modes(self) -> list[str]:
        return sorted({record.mode for record in self._records})

    def each(self, mode: str, variant: str, value: Callable[[Record], float]) -> dict[int, float]:
        """Identity -> value."""
        return {r.identity: value(r) for r in self._records if (r.mode, r.variant) == (mode, variant)}

    def mean(self, figure: str, variant: str = "full", mode: str = "full") -> Measured:
        """Mean and confidence interval of one figure over the identities."""
        return self.mean_of(lambda record: record.values.get(figure, math.nan), variant, mode)

    def mean_of(self, value: Callable[[Record], float], variant: str = "full", mode: str = "full") -> Measured:
        """Mean and confidence interval of any function of a record."""
        values = list(self.each(mode, variant, value).values())
        return Measured(*mean_and_interval(values), sum(map(math.isfinite, values)))

    def difference(self, figure: str, variant: str, other: str) -> Measured:
        """Paired difference of a figure between two variants, over the identities; its interval decides."""
        ours, theirs = (self.each("full", name, lambda r: r.values.get(figure, math.nan)) for name in (variant, other))
        values = [ours[i] - theirs[i] for i in ours.keys() & theirs.keys()]
        return Measured(*mean_and_interval(values), sum(map(math.isfinite, values)))

    def curve(self, name: str, variant: str) -> list[float]:
        """Mean over identities, a value a second."""
        curves = [r.curves[name] for r in self._records if (r.mode, r.variant) == ("full", variant)]
        numbers = np.array([[math.nan if value is None else value for value in curve] for curve in curves], dtype=float)
        return [float(value) for value in np.nanmean(numbers, axis=0)] if len(numbers) else []

    def checks(self) -> list[Check]:
        """The project's quality criteria, as far as they were measured."""
        checks = [*self._fidelity_checks(), *self._boundary_checks(), *self._driving_checks()]
        return [check for check in checks if not math.isnan(check.value)]

    def _fidelity_checks(self) -> list[Check]:
        first = self.difference("psnr_first", "full", "codec")
        drift = self.mean_of(lambda r: r.values["psnr_last"] - r.values["psnr_first"])
        kept = self.mean_of(lambda r: r.values["identity_last"] - r.values["identity_first"])
        codec, codec_sharp = self.mean("psnr", "codec"), self.mean("sharpness", "codec")
        sharp, sharp_last = self.mean("sharpness"), self.mean("sharpness_last")
        return [
            _check("codec PSNR, dB", codec, low=30),
            _check("codec sharpness", codec_sharp, low=0.85),
            _check("stream PSNR over the codec's, first 5 s, dB", first, low=-1.5),
            _check("stream PSNR, last 5 s over first 5 s, dB", drift, low=-0.5),
            _check("stream sharpness", sharp, low=0.8, high=1.15),
            _check("stream sharpness, last 5 s", sharp_last, low=0.8, high=1.15),
            _check("identity PSNR, last 5 s over first 5 s, dB", kept, low=-1),
        ]

    def _boundary_checks(self) -> list[Check]:
        over = self.mean_of(lambda r: r.values["boundary"] - r.values["true_boundary"])
        without = self.mean_of(lambda r: r.values["boundary"] - r.values["true_boundary"], "knot0")
        better = Measured(abs(without.mean) - abs(over.mean), math.nan, over.count)
        return [
            _check("boundary ratio over the truth's", over, low=-0.05, high=0.05),
            _check("nearer to the truth's boundary ratio than without knot, by", better, low=0),
        ]

    def _driving_checks(self) -> list[Check]:
        opening = "mouth_open_correlation"
        silence = {"mode": "silence"}
        blinks = self.each("silence", "full", lambda r: r.values["blinks_per_minute"])
        fewest = Measured(min(blinks.values(), default=math.nan), math.nan, len(blinks))
        return [
            _check("mouth correlation, driven by controls", self.mean(opening), low=0.85),
            _check("mouth correlation, speech and idle pose", self.mean(opening, mode="speech"), low=0.7),
            _check("mouth correlation, speech alone", self.mean(opening, mode="free"), low=0.7),
            _check("silence: mean mouth opening", self.mean("mouth_open_mean", **silence), high=0.08),
            _check("silence: 95th percentile of mouth opening", self.mean("mouth_open_p95", **silence), high=0.15),
            _check("silence: head motion (standard deviation)", self.mean("head_motion", **silence), low=0.05),
            _check("silence: strongest repetition of the head's motion", self.mean("head_repeat", **silence), high=0.5),
            _check("silence: blinks a minute, fewest of any identity", fewest, low=4),
        ]

    def table(self) -> str:
        """Variants by figures, in Markdown: mean ± half of the 95 % interval."""
        head = ["", *(heading for heading, _ in COLUMNS)]
        rows = [[name, *(cell(self.mean(figure, name)) for _, figure in COLUMNS)] for name in self.variants()]
        return markdown(head, rows)

    def differences(self) -> str:
        """The contribution of each part: the full stream less each variant, identity by identity, in Markdown."""
        others = [name for name in self.variants() if name not in ("full", "truth")]
        head = ["full less", *(heading for heading, _ in COLUMNS)]
        rows = [[name, *(cell(self.difference(figure, "full", name), "+") for _, figure in COLUMNS)] for name in others]
        return markdown(head, rows)

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        runs = {(record.mode, record.variant) for record in self._records}
        figures = {}
        for mode, variant in sorted(runs):
            names = sorted({n for r in self._records if (r.mode, r.variant) == (mode, variant) for n in r.values})
            measured = {name: self.mean(name, variant, mode) for name in names}
            figures.setdefault(mode, {})[variant] = {
                name: {"mean": plain(m.mean), "ci95": plain(m.half), "n": m.count} for name, m in measured.items()
            }
        checks = [
            {
                "name": check.name,
                "value": plain(check.value),
                "ci95": plain(check.half),
                "at_least": plain(check.low),
                "at_most": plain(check.high),
                "holds": check.holds,
            }
            for check in self.checks()
        ]
        curves = {name: {v: [plain(x) for x in self.curve(name, v)] for v in self.variants()} for name in _CURVES}
        return {"checks": checks, "figures": figures, "curves_per_second": curves}


_CURVES = ("psnr", "sharpness", "identity")
_EXACT = 100  # dB: the truth against itself; no figure worth printing


def describe(check: Check) -> str:
    """One line about a check."""
    bounds = " and ".join(
        f"{word} {value:g}"
        for word, value in (("at least", check.low), ("at most", check.high))
        if math.isfinite(value)
    )
    spread = f" ± {check.half:.3f}" if math.isfinite(check.half) else ""
    return f"{'ok    ' if check.holds else 'MISSED'} {check.name}: {check.value:.3f}{spread} (wanted {bounds})"


def _check(name: str, measured: Measured, low: float = -math.inf, high: float = math.inf) -> Check:
    return Check(name=name, value=measured.mean, half=measured.half, low=low, high=high)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def cell(measured: Measured, sign: str = "") -> str:
    """A mean and half of its interval; empty where there is nothing to say."""
    if not math.isfinite(measured.mean) or measured.mean > _EXACT:
        return ""
    digits = 2 if abs(measured.mean) >= 2 else 3
    spread = f" ± {measured.half:.{digits}f}" if math.isfinite(measured.half) else ""
    return f"{measured.mean:{sign}.{digits}f}{spread}"


def plain(value: float) -> float | None:
    """The values for JSON, which has no nan."""
    return round(value, 5) if math.isfinite(value) else None
