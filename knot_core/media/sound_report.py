"""Messages about a defective sound: one sentence that says how much is affected, and where."""

import logging
from collections.abc import Sequence

from .decoding import Gap, Report

logger = logging.getLogger(__name__)

_WORTH_SAYING = 0.5  # seconds that are missing at the end
_STARTED = 0.1  # seconds
_HEARD = 0.005  # seconds; less is said without a length


def say(report: Report, name: str) -> None:
    """One warning, if something was lost or its time stamps leave gaps; a late start alone is no fault."""
    told = [part for part in (_lost(report), _gaps(report), _short(report)) if part]
    if told:
        logger.warning("the sound %s %s", name, "; it ".join(told))
    elif report.pauses and report.pauses[0].at == 0:
        logger.info("the sound %s begins %.2f s late by its time stamps: silence comes before it", name,
                    report.pauses[0].length)  # fmt: skip


def _lost(report: Report) -> str:
    why = f" ({report.first_error})" if report.first_error else ""
    if not report.lost:
        return ""
    if sum(gap.length for gap in report.lost) < _HEARD:
        return f"is damaged{why} at {report.lost[0].at:.2f} s"
    return f"is damaged{why}: {_places(report.lost)} cannot be read, and silence is put there"


def _gaps(report: Report) -> str:
    # where an encoder starts up, a little is missing in many files that are as they should be
    inside = [gap for gap in report.pauses if gap.at > _STARTED or (gap.at > 0 and gap.length > _STARTED)]
    return f"has no sound for {_places(inside)}, by its time stamps, and silence is put there" if inside else ""


def _short(report: Report) -> str:
    missing = report.expected - report.seconds
    if missing < _WORTH_SAYING:
        return ""
    return f"ends after {report.seconds:.2f} s, {missing:.2f} s before it should; it may be cut off"


def _places(gaps: Sequence[Gap]) -> str:
    total = sum(gap.length for gap in gaps)
    where = f"at {gaps[0].at:.2f} s" if len(gaps) == 1 else f"in {len(gaps)} places, the first at {gaps[0].at:.2f} s"
    return f"{total:.2f} s {where}"
