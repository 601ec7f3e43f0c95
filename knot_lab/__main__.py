"""The lab's command line: `python -m knot_lab train | evaluate | study | data | photos`. Each has its own `--help`."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from knot_core.cli import guarded

from .commands import data, evaluate, photos, train

COMMANDS: Mapping[str, Callable[[Sequence[str]], int | None]] = {
    "train": train.main,
    "evaluate": evaluate.main,
    "study": evaluate.study_main,
    "data": data.main,
    "photos": photos.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="python -m knot_lab", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = COMMANDS[parser.parse_args(given[:1]).command]
    return guarded(lambda: command(given[1:]))


if __name__ == "__main__":
    sys.exit(main())
