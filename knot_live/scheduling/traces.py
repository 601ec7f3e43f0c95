"""When people come: traces of arrivals, reproducible from a seed.

Shapes: N arrivals, G moments of a grid.
"""

from collections.abc import Callable, Mapping

import numpy as np

SWING = 0.8  # of the mean rate, up and down over the day
BURST, BURST_SECONDS, BETWEEN = 20.0, 10.0, 600.0  # so many times the rate, for so long, every so often
_GRID = 500_000  # moments


def steady(time_G: np.ndarray, _: float) -> np.ndarray:
    """The rate of arrivals at those times, [G], as a multiple of the usual one."""
    return np.ones_like(time_G)


def daily(time_G: np.ndarray, end: float) -> np.ndarray:
    """The rate at those times, [G]: the whole trace is a day, with the night at its ends."""
    return 1 - SWING * np.cos(2 * np.pi * time_G / end)


def burst(time_G: np.ndarray, _: float) -> np.ndarray:
    """The rate at those times, [G]: with a crowd now and then."""
    return np.where((time_G + BETWEEN / 2) % BETWEEN < BURST_SECONDS, BURST, 1.0)


TRACES: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {"steady": steady, "daily": daily, "burst": burst}


def arrivals(name: str, count: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Times [N] of `count` arrivals, in order, where `rate` people a second come usually: a Poisson process whose rate
    follows the trace.
    """
    usual_N = np.cumsum(rng.exponential(1 / rate, count))  # as they would come at the usual rate
    end = float(usual_N[-1])
    grid_G = np.linspace(0.0, end, _GRID)
    rate_G = TRACES[name](grid_G, end)
    passed_G = np.concatenate([[0.0], np.cumsum((rate_G[1:] + rate_G[:-1]) / 2 * np.diff(grid_G))])
    return np.interp(usual_N * min(1.0, passed_G[-1] / end), passed_G, grid_G)
