"""The command `inspect`."""

import json
import sys
from argparse import Namespace

from ..inspection import inspect_checkpoint
from .options import DTYPES, given_settings


def inspect(options: Namespace) -> int:
    """Write what a weights file is as JSON; the exit code is 1 if it would not load."""
    found = inspect_checkpoint(
        options.checkpoint,
        family=options.family,
        overlay=options.overlay,
        weights=options.weights,
        size=options.size,
        dtype=DTYPES[options.dtype],
        **given_settings(options),
    )
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return int(found["problem"] is not None)
