"""Safetensors files, known by their content: their header is read without mapping the file, whatever its size.

A file is [length of the header: 8 bytes, little endian | header: JSON | data]; the JSON maps names to dtype, shape and
place in the data. https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError

_LENGTH = 8  # bytes that say how long the header is
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_MOST_ELEMENTS = 2**62  # of one tensor, axes without elements taken as one: PyTorch counts in 64 bits
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
         "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
         "C64": 64}  # fmt: skip
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
}


def is_safetensors(path: Path) -> bool:
    """Whether the file is safetensors: its header's length fits into the file, and the header begins with a brace.

    Raises: OSError if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_LENGTH + 1)
    length = int.from_bytes(start[:_LENGTH], "little")
    return start[_LENGTH:] == b"{" and _LENGTH + length <= max(path.stat().st_size, _LENGTH + 2)


def read_header(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the meta device, without data, by name; and the metadata.

    Raises: OSError if the file cannot be read, ValueError if it is none, cut off or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if size < _LENGTH or length > min(_LONGEST_HEADER, size - _LENGTH):
            raise ValueError(f"its header of {length} bytes does not fit into {size}")
        header = json.loads(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    _check_places(header, size - _LENGTH - length)
    return {name: _outline(name, entry) for name, entry in header.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that are mapped into memory, by name; and the metadata.

    Raises: CheckpointError where so much memory cannot be mapped; OSError, SafetensorError or ValueError if the file
    cannot be read or is damaged.
    """
    read_header(path)  # damage is said as in `inspect`
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (RuntimeError, MemoryError, OSError, SafetensorError) as problem:
        if not _lacks_memory(problem):
            raise
        needed = path.stat().st_size / 2**30
        raise CheckpointError(f"{path} takes {needed:.1f} GiB of memory, more than this process is given; free some, "
                              "raise its limit, or take a smaller or quantised file") from problem  # fmt: skip


def _lacks_memory(problem: BaseException) -> bool:
    said = str(problem).lower()
    return isinstance(problem, MemoryError) or any(
        words in said for words in ("mmap", "cannot allocate", "can't allocate", "not enough memory", "os error 12")
    )


def _check_places(header: Mapping[str, Any], size: int) -> None:
    """Every tensor lies in the file, one behind the other, and its place is as long as its shape asks for."""
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _place(*item)):
        begin, stop = _place(name, entry)
        if begin != end:
            raise ValueError(f"{name} does not begin where the tensor before it ends")
        end = stop
        bits = _BITS.get(entry["dtype"])
        if bits is not None and math.prod(entry["shape"]) * bits != (stop - begin) * 8:
            raise ValueError(f"{name} has {stop - begin} bytes, which is not its shape's size")
    if end != size:
        raise ValueError(f"it has {size} bytes of data and should have {end}")


def _place(name: str, entry: Any) -> tuple[int, int]:
    """First byte and the one past the last, of an entry whose form is right."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise ValueError(f"{name} has no dtype")
    shape, place = entry.get("shape"), entry.get("data_offsets")
    if not _are_counts(shape) or math.prod(max(1, axis) for axis in shape) > _MOST_ELEMENTS:
        raise ValueError(f"{name} has an impossible shape")
    if not _are_counts(place) or len(place) != 2 or place[0] > place[1]:
        raise ValueError(f"{name} has no place in the file")
    return place[0], place[1]


def _are_counts(found: Any) -> bool:
    return isinstance(found, list) and all(type(number) is int and number >= 0 for number in found)


def _outline(name: str, entry: Mapping[str, Any]) -> Tensor:
    """A tensor without data."""
    try:
        return torch.empty(entry["shape"], dtype=_DTYPES.get(entry["dtype"], torch.uint8), device="meta")
    except RuntimeError as problem:
        raise ValueError(f"{name} has an impossible shape") from problem
