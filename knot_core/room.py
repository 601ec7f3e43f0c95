"""How much memory a device has left."""

import re
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")  # Linux


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had there; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and _MEMINFO.is_file():
        found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="utf-8"))
        return int(found[1]) * 1024 if found else None
    return None
