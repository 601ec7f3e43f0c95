"""The old ways to the lab, for one release: `python -m knot_core.train` and `python -m knot_core evaluate`.

Left out of the registry's archive, as the lab is.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Sequence

logger = logging.getLogger(__name__)


def start_lab(arguments: Sequence[str], *, instead_of: str) -> int:
    """Run `python -m knot_lab` with these arguments in a process of its own, in this environment; its exit code.

    A process that a signal ended gives 128 and the signal's number, as a shell says it. Ctrl-C is the process's to
    handle; being asked to terminate is passed on to it, so that `torchrun` leaves none behind.
    """
    logger.warning("%s has moved and goes on working for one release; use python -m knot_lab %s", instead_of,
                   arguments[0])  # fmt: skip
    with subprocess.Popen([sys.executable, "-m", "knot_lab", *arguments]) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            code = _wait(process)
        finally:
            signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


def _wait(process: subprocess.Popen) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
