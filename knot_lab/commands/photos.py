"""Photos of people: `python -m knot_lab photos list | fetch | landmarks`. They are measured with, never trained on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from knot_core.media.face_points import WEIGHTS

from ..evaluation.photo_landmarks import measure_landmarks, report
from ..evaluation.photo_sets import fetch_photos, photos, table

USES = ("evaluation", "calibration")


def main(arguments: Sequence[str]) -> int:
    """List, fetch, or compare landmarks; 2 if landmarks are not within the goal."""
    options = _parser().parse_args(arguments)
    if options.action == "landmarks":
        measured = measure_landmarks(options.folder, options.weights)
        sys.stdout.write(report(measured) + "\n")
        return 0 if all(one.holds for one in measured) else 2
    for use in USES:
        if options.action == "fetch":
            found = fetch_photos(options.folder, use)
            sys.stdout.write(f"{use}: {len(found)} of {len(photos(use))} photos in {options.folder}\n")
        else:
            sys.stdout.write(f"## {use}\n\n{table(use)}\n\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab photos", description=__doc__)
    parser.add_argument("action", choices=("list", "fetch", "landmarks"))
    parser.add_argument("--folder", type=Path, default=Path("out/photos"), help="default: %(default)s")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of the landmark network")
    return parser
