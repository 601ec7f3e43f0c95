"""`python -m knot_live simulate`: the figures of docs/scale.md."""

import argparse
import json
import sys
from pathlib import Path

from .engine import SettingsError, load_model
from .limits import Limits
from .scheduling.costs import Costs
from .scheduling.measured import CURVES
from .scheduling.scale_plots import save_plots
from .scheduling.sweep import Sweep, table
from .studio import Studio


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures go")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="where rules.png and cards.png go")
    parser.add_argument("--cards", type=int, nargs="+", default=[1, 64], metavar="N",
                        help="that rules are compared on (default: 1 64)")  # fmt: skip
    parser.add_argument(
        "--arrivals", type=int, default=10_000, metavar="N", help="of each trace (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--card", default=next(iter(CURVES)), choices=list(CURVES), help="whose costs were measured")
    parser.add_argument("--costs", type=Path, metavar="FILE",
                        help="another card's: JSON of fps, lanes, and rows of chunk length in latent frames, sessions "
                        "drawn together, seconds of a step, seconds of the rest")  # fmt: skip
    parser.add_argument("--here", action="store_true", help="this machine's costs for knot-tiny, measured first")


def run(options: argparse.Namespace) -> str:
    """Run it all; the figures as Markdown.

    Raises:
        SettingsError: the file of costs cannot be read, or a number is too small.
    """
    if min(*options.cards, options.arrivals) < 1:
        raise SettingsError("--cards and --arrivals are at least 1")
    costs = _costs(options)
    sweep = Sweep(
        costs=costs, cards=options.cards, count=options.arrivals, seed=options.seed,
        say=lambda line: sys.stderr.write(f"{line}\n"),
    )  # fmt: skip
    found = sweep.run()
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.plots is not None:
        save_plots(options.plots, found)
    return table(found)


def _costs(options: argparse.Namespace) -> Costs:
    if options.costs is not None:
        return _read(options.costs)
    if not options.here:
        return CURVES[options.card]
    studio = Studio(load_model(), Limits())
    try:
        studio.warm()
        return studio.ticker.costs
    finally:
        studio.close()


def _read(path: Path) -> Costs:
    try:
        return Costs.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as problem:
        raise SettingsError(f"{path} holds no costs ({problem}); see docs/scale.md") from problem
