"""The priority of threads, which an encoder must leave as it was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def priority_kept() -> Iterator[None]:
    """Around the opening of encoders.

    As root on Linux, SVT-AV1 gives the thread that opens it the highest real-time priority, for good, and its own
    threads inherit it: on few cores nothing else runs any more, such as what should hear of a stop.
    """
    if not _THREADS.is_dir():
        yield
        return
    policy, parameters, before = os.sched_getscheduler(0), os.sched_getparam(0), _threads()
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in {0} | (_threads() - before):  # 0 is the calling one
                with suppress(ProcessLookupError):  # it may have ended
                    os.sched_setscheduler(thread, policy, parameters)


def _threads() -> set[int]:
    return {int(entry.name) for entry in _THREADS.iterdir()}
