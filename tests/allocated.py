"""Memory that this process has allocated and not freed: what a leak raises, and nothing else does.

What the system counts as resident moves by several percent without a leak: a C library keeps some of what each thread
has freed.
"""

import ctypes
import gc

from knot_core.run.process_memory import resident_bytes


class _MallocInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def allocated_bytes() -> int:
    """By malloc, with what it mapped; where the C library is not glibc, resident bytes."""
    gc.collect()
    try:
        info = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return resident_bytes()
    info.restype = _MallocInfo
    told = info()
    return told.uordblks + told.hblkhd
