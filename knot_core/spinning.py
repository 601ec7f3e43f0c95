"""How long OpenMP's waiting threads spin before they sleep, bounded: must be said before torch loads.

A thread that waits for the others of an operation spins at first: sleeping and waking takes longer than most waits. But
where another process has one of the processors, it waits for a thread that does not run, and keeps a processor from
working all that while: a stream then takes forty times as long.

Importing this says it for our own commands (`python -m knot_core...`); a host that imports the package decides for
itself. It holds where torch's OpenMP is GNU's (Linux: GOMP_SPINCOUNT, in rounds) or LLVM's and Intel's (Windows, macOS,
conda: KMP_BLOCKTIME, in milliseconds; by itself it is 200). What the user has set stays.
"""

import os
import sys
from collections.abc import MutableMapping

BOUNDS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
_BY_USER = "OMP_WAIT_POLICY"  # decides the same, for both


def bound_spinning(environment: MutableMapping[str, str]) -> None:
    """Limit how long idle worker threads spin, in every process that starts with this environment."""
    if _BY_USER not in environment:
        for name, value in BOUNDS.items():
            environment.setdefault(name, value)


def _is_own_command() -> bool:
    """Whether this process was begun as `python -m knot_core` or a part of it; sys.argv says -m until that is found."""
    after = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
    return sys.argv[:1] == ["-m"] and bool(after) and after[0].split(".")[0] == __package__


if _is_own_command():
    bound_spinning(os.environ)
