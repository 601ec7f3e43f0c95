"""From a study's records to its results: tables, paired differences, and a verdict on each claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..evaluation.records import Record
from ..evaluation.report import Measured, Report, cell, markdown, plain
from .variants import VARIANTS

HIGHER, LOWER = 1, -1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing that is measured."""

    heading: str
    better: int
    meaning: str


FIGURES: Mapping[str, Figure] = {
    "psnr": Figure(heading="PSNR", better=HIGHER, meaning="dB, in the face box, over the whole stream"),
    "psnr_last": Figure(heading="PSNR last 5 s", better=HIGHER, meaning="the same, of the stream's last 5 seconds"),
    "drift": Figure(heading="drift", better=HIGHER, meaning="PSNR of the last 5 s less that of the first, dB"),
    "sharpness_last": Figure(
        heading="sharpness last 5 s", better=HIGHER, meaning="gradient energy in the face box over the truth's"
    ),
    "identity_last": Figure(
        heading="identity last 5 s", better=HIGHER, meaning="mean PSNR of hair, clothes and background, dB"
    ),
    "identity_drift": Figure(
        heading="identity drift", better=HIGHER, meaning="that of the last 5 s less that of the first, dB"
    ),
    "boundary": Figure(
        heading="boundary ratio",
        better=LOWER,
        meaning="change between pictures where chunks meet over that where other latent frames meet; the truth's own "
        "ratio is the aim",
    ),
    "boundary_error": Figure(
        heading="boundary error", better=LOWER, meaning="distance of that ratio from the truth's, person by person"
    ),
    "seam": Figure(
        heading="seam",
        better=LOWER,
        meaning="how far the chunk rate and its harmonics stand out of the spectrum of the face's change from picture "
        "to picture, over the truth's change, dB",
    ),
    "beat": Figure(
        heading="beat", better=LOWER, meaning="the same of the latent rate, which is the codec's and not a seam"
    ),
    "restart": Figure(
        heading="restart ratio",
        better=LOWER,
        meaning="the boundary ratio at every fifth chunk, where Self-Forcing begins anew",
    ),
    "flicker": Figure(
        heading="flicker",
        better=LOWER,
        meaning="root mean square change where the truth stands still, levels of 255",
    ),
    "roughness": Figure(
        heading="roughness",
        better=LOWER,
        meaning="acceleration of the head as read from the pictures over that asked for, root mean square",
    ),
    "mouth_open_correlation": Figure(
        heading="lips, controls given", better=HIGHER, meaning="correlation of the mouth's opening with the truth's"
    ),
    "lips": Figure(heading="lips, speech alone", better=HIGHER, meaning="the same where only the speech moves them"),
    "response": Figure(
        heading="response",
        better=LOWER,
        meaning="chunks from a jump of the head that is asked for until it is 90 % of its way",
    ),
    "response_gain": Figure(heading="response gain", better=HIGHER, meaning="how far it goes, over how far was asked"),
    "response_answered": Figure(
        heading="answered", better=HIGHER, meaning="share of jumps that went at least half of the way"
    ),
}
TABLES: Mapping[str, tuple[str, ...]] = {
    "Fidelity and identity": ("psnr", "psnr_last", "drift", "sharpness_last", "identity_last", "identity_drift"),
    "Seams and smoothness": ("boundary", "boundary_error", "seam", "beat", "restart", "flicker", "roughness"),
    "Obedience": ("mouth_open_correlation", "lips", "response", "response_gain", "response_answered"),
}
CURVES = ("psnr", "identity", "sharpness", "spectrum")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something said of the full stream: that it is better than a variant, or no worse than by a margin."""

    text: str
    figure: str
    than: str  # a variant or baseline, or "" for a bound on the figure itself
    margin: float = 0.0  # how much worse still counts as no worse
    bound: float = 0.0  # what the figure is held against where there is no other


@dataclass(frozen=True, kw_only=True)
class Found:
    """A claim, measured; ``better`` is by how much the full stream is better, so that more is better."""

    claim: Claim
    of: str  # what streams in full: ``full``, or ``control``
    full: Measured
    other: Measured | None
    better: Measured

    @property
    def verdict(self) -> str:
        """The verdict by the 95 % interval of paired differences."""
        low, high = self.better.mean - self.better.half, self.better.mean + self.better.half
        if math.isnan(low):
            return "cannot be told from one person"
        if low > -self.claim.margin:
            return "holds"
        if high < -self.claim.margin:
            return "does not hold"
        return "not shown"


class StudyReport:
    """Records of one study, asked for means, differences and claims."""

    def __init__(
        self, records: Sequence[Record], claims: Sequence[Claim], against: Mapping[str, str] | None = None
    ) -> None:
        """``against``: variant -> what it is held against, where that is not ``full``."""
        self._report, self._claims, self._against = Report(joined(records)), claims, against or {}
        self._names = {record.variant for record in records}

    def variants(self) -> list[str]:
        """The variants that were measured, in the table's order."""
        return [name for name in ("truth", "codec", *VARIANTS) if name in self._names]

    def others(self) -> list[str]:
        """Variants beside ``full``."""
        return [name for name in self.variants() if name not in ("truth", "codec", "full")]

    def against(self, variant: str) -> str:
        """The stream that a variant is compared with: the full one, by the same weights or after as much training."""
        return self._against.get(variant, "full")

    def held_against(self) -> str:
        """The streams that variants are compared with, in words."""
        return "the full stream (or the control)" if self._against else "the full stream"

    def mean(self, figure: str, variant: str) -> Measured:
        return self._report.mean(figure, variant)

    def difference(self, figure: str, variant: str) -> Measured:
        """Paired difference of a variant from the full stream that it is compared with, over the identities."""
        return self._report.difference(figure, variant, self.against(variant))

    def curve(self, name: str, variant: str) -> list[float]:
        """Mean over identities: a value a second, or a bin of the spectrum."""
        return self._report.curve(name, variant)

    def curve_less(self, name: str, variant: str) -> list[float]:
        """The difference of a curve from the full stream's."""
        return [a - b for a, b in zip(self.curve(name, variant), self.curve(name, self.against(variant)), strict=True)]

    def found(self) -> list[Found]:
        """The verdict on each claim that these records can decide."""
        return [self._judge(claim) for claim in self._claims if claim.than in ("", *self._names)]

    def _judge(self, claim: Claim) -> Found:
        sign, of = FIGURES[claim.figure].better, self.against(claim.than)
        full = self.mean(claim.figure, of)
        if not claim.than:
            better = Measured(sign * (full.mean - claim.bound), full.half, full.count)
            return Found(claim=claim, of=of, full=full, other=None, better=better)
        less = self.difference(claim.figure, claim.than)
        better = Measured(-sign * less.mean, less.half, less.count)
        return Found(claim=claim, of=of, full=full, other=self.mean(claim.figure, claim.than), better=better)

    def table(self, figures: Sequence[str]) -> str:
        """Means ± half of the 95 % interval, in Markdown."""
        head = ["", *(FIGURES[figure].heading for figure in figures)]
        rows = [[name, *(cell(self.mean(figure, name)) for figure in figures)] for name in self.variants()]
        return markdown(head, rows)

    def differences(self, figures: Sequence[str]) -> str:
        """Each variant less the full stream, in Markdown; what the interval holds apart from 0 is set bold."""
        head = ["less full", *(FIGURES[figure].heading for figure in figures)]
        rows = [
            [_less(name, self.against(name)), *(_apart(self.difference(figure, name)) for figure in figures)]
            for name in self.others()
        ]
        return markdown(head, rows)

    def claims(self, trained: Mapping[str, str]) -> str:
        """The claims with their verdicts, in Markdown; ``trained``: variants for which a model was trained."""
        head = ["claim", "figure", "full", "held against", "trained for it", "full is better by", "verdict"]
        return markdown(head, [_row(found, trained.get(found.claim.than, "")) for found in self.found()])

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        figures = {name: {figure: _measured(self.mean(figure, name)) for figure in FIGURES} for name in self.variants()}
        less = {
            name: {"less": self.against(name)}
            | {figure: _measured(self.difference(figure, name)) for figure in FIGURES}
            for name in self.others()
        }
        claims = [
            {"claim": f.claim.text, "figure": f.claim.figure, "than": f.claim.than, "margin": f.claim.margin}
            | {"of": f.of, "bound": None if f.claim.than else f.claim.bound}
            | {"better_by": _measured(f.better), "verdict": f.verdict}
            for f in self.found()
        ]
        curves = {name: {v: [plain(x) for x in self.curve(name, v)] for v in self.variants()} for name in CURVES}
        return {"claims": claims, "figures": figures, "differences": less, "curves": curves}


def joined(records: Sequence[Record]) -> list[Record]:
    """One record for a person and a variant: the figures of all modes together."""
    found: dict[tuple[int, str], Record] = {}
    for r in records:
        before = found.get((r.identity, r.variant))
        values = (before.values if before else {}) | r.values
        curves = (before.curves if before else {}) | r.curves
        if "true_boundary" in values:
            values = values | {"boundary_error": abs(values["boundary"] - values["true_boundary"])}
        fields = {"identity": r.identity, "mode": "full", "variant": r.variant, "made_by": r.made_by}
        found[r.identity, r.variant] = Record(**fields, values=values, curves=curves)
    return list(found.values())


def _apart(measured: Measured) -> str:
    text = cell(measured, "+")
    return f"**{text}**" if abs(measured.mean) > measured.half else text


def _less(name: str, against: str) -> str:
    return name if against == "full" else f"{name}, less {against}"


def _row(found: Found, trained: str) -> list[str]:
    claim = found.claim
    margin = f", {claim.margin:g} allowed" if claim.margin else ""
    other = f"{claim.bound:g} (bound)" if found.other is None else f"{cell(found.other)} ({claim.than})"
    name = FIGURES[claim.figure].heading
    better = cell(found.better, "+") + margin
    full = cell(found.full) if found.of == "full" else f"{cell(found.full)} ({found.of})"
    return [claim.text, name, full, other, trained.partition(":")[0], better, f"**{found.verdict}**"]


def _measured(measured: Measured) -> dict[str, float | int | None]:
    return {"mean": plain(measured.mean), "ci95": plain(measured.half), "n": measured.count}
