"""How much memory this process holds."""

import os
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Bytes of the machine's memory that this process holds now; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private_bytes() -> int:
    """Bytes of the machine's memory that only this process holds: not those of files that others map as well. 0 where
    the system does not tell.
    """
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return 0
    lines = (line.split() for line in rollup.read_text(encoding="ascii").splitlines())
    return sum(1024 * int(words[1]) for words in lines if words[0].startswith("Private_"))


def peak_rss_mib() -> float | None:
    """The most MiB that this process has held; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
