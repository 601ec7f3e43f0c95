"""Knot Forcing: streaming portrait animation without end, from one picture and driving signals."""

__version__ = "0.1.0"
