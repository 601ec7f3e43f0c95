"""`python -m knot_core.train`: starts `python -m knot_lab train`."""

import logging
import sys

from . import start_lab

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    sys.exit(start_lab(["train", *sys.argv[1:]], instead_of="python -m knot_core.train"))
