"""The command line: `python -m knot_core animate | inspect | evaluate | bench`. Standard output is JSON."""

from .entry import guarded, main

__all__ = ["guarded", "main"]
