"""GGUF files, as city96's ComfyUI-GGUF writes them: quantised tensors that are unpacked one by one while they are read.

Reading and unpacking are those of the `gguf` package, an optional dependency.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, short

MAGIC = b"GGUF"
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # GGUF holds four axes at most; the shape of five lies in the metadata


def is_gguf(path: Path) -> bool:
    """Whether the file is GGUF, by its first bytes.

    Raises: OSError if it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> tuple[dict[str, Tensor], dict[str, Callable[[], Tensor]], str]:
    """Tensors on the meta device by name, how to unpack each in float32, and the quantisations that the file uses.

    Raises: CheckpointError if the package is missing, or the file is damaged.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(f"{path} is a GGUF file, which the gguf package reads; install it: pip install gguf")
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        shapes = {tensor.name: _shape(reader, tensor) for tensor in reader.tensors}
        kinds = sorted({tensor.tensor_type.name for tensor in reader.tensors})
    except Exception as problem:  # the reader says damage with whatever it trips over
        raise CheckpointError(
            f"{path} is truncated or damaged ({short(problem, str)}); download or copy it again"
        ) from problem
    unpack = {tensor.name: partial(_unpacked, path, tensor, shapes[tensor.name]) for tensor in reader.tensors}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, unpack, ", ".join(kinds)


def _shape(reader: Any, tensor: Any) -> tuple[int, ...]:
    """Slowest axis first, as torch has it."""
    original = reader.get_field(_ORIGINAL_SHAPE + tensor.name)
    if original is None:
        return tuple(int(size) for size in reversed(tensor.shape))
    shape = tuple(int(original.parts[index][0]) for index in original.data)
    if np.prod(shape) != np.prod(tensor.shape):
        raise ValueError(f"{tensor.name} has {list(tensor.shape)} values and is said to be of shape {list(shape)}")
    return shape


def _unpacked(path: Path, tensor: Any, shape: tuple[int, ...]) -> Tensor:
    """One tensor in float32."""
    from gguf import dequantize

    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as problem:
        raise CheckpointError(f"{path} holds {tensor.name} as {tensor.tensor_type.name}, which this release of the "
                              "gguf package does not unpack; update it: pip install -U gguf") from problem  # fmt: skip
    return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(shape)
