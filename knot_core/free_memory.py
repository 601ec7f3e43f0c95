"""How much memory a device has left."""

import re
from pathlib import Path

import torch

_LACKS = re.compile(r"out of memory|can't allocate|not enough memory|Storage size calculation overflowed", re.I)
_MEMINFO = Path("/proc/meminfo")  # Linux


def total_memory(device: torch.device) -> int | None:
    """Bytes that could ever be had there, swap included; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "cpu" and _MEMINFO.is_file():
        found = re.findall(r"(?:MemTotal|SwapTotal):\s+(\d+) kB", _MEMINFO.read_text(encoding="utf-8"))
        return 1024 * sum(map(int, found)) if found else None
    return None


def is_lack_of_memory(problem: BaseException) -> bool:
    """Whether an allocator says, with whatever it raises, that there is not so much memory."""
    return isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and _LACKS.search(str(problem)) is not None
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had there; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and _MEMINFO.is_file():
        found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="utf-8"))
        return int(found[1]) * 1024 if found else None
    return None
