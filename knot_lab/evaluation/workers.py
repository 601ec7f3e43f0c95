"""Identities, one after the other or several at a time."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

from tqdm import tqdm


def each_identity(one: Callable[..., object], count: int, jobs: int) -> None:
    """Call ``one(number)`` for all; with more jobs than one as ``one(number, threads=)``, each in its own process."""
    if jobs == 1:
        for number in _shown(range(count), count):
            one(number)
        return
    one = partial(one, threads=max(1, (os.cpu_count() or 1) // jobs))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(one, number) for number in range(count)]
        try:
            for done in _shown(as_completed(waiting), count):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shown(items: Iterable, count: int) -> Iterable:
    return tqdm(items, total=count, unit="identity", file=sys.stderr)
