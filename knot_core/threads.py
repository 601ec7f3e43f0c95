"""Threads inside operations: how many a thread of this process computes with, without a trace on the others.

`torch.set_num_threads` sets two things: how many threads operations of the calling thread use (OpenMP's and MKL's
counts are a thread's own), and how many those of a thread that has not computed yet will use (kept by torch for the
whole process). Only the first is wanted here, so the second is put back.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SETTING = threading.Lock()


def num_processors() -> int:
    """The number of processors that the system lets this process use, or else that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads_inside(count: int | None) -> Iterator[None]:
    """Within it operations of the calling thread use so many threads; None: as many as they do."""
    before = torch.get_num_threads()  # a thread that is asked for the first time takes over the process's count here
    if count is None or count == before:
        yield
        return
    _set_here(count)
    try:
        yield
    finally:
        _set_here(before)


def _set_here(count: int) -> None:
    with _SETTING:
        others = _in_a_new_thread(torch.get_num_threads)
        torch.set_num_threads(count)
        _in_a_new_thread(lambda: torch.set_num_threads(others))


def _in_a_new_thread(compute):  # noqa: ANN001, ANN202 - whatever it computes
    found = []
    thread = threading.Thread(target=lambda: found.append(compute()))
    thread.start()
    thread.join()
    return found[0]
