"""Weights files as named tensors: safetensors (one, or shards), PyTorch files, whatever wraps and prefixes the names.

Tensors are mapped into memory, not read: a page comes from the disk when it is used and may go again.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError, short

# The weights that stream, within files that hold several sets; the averaged ones first.
WRAPPERS = ("generator_ema", "generator", "state_dict", "model")
_TRAINING_WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_PREFIX_WORDS = ("generator_ema", "generator", "state_dict", "model", "module", "diffusion_model", "net", "dit")
_PREFIX = re.compile(rf"(({'|'.join(_PREFIX_WORDS)})\.)*")
_ANCHORS = ("patch_embedding.weight", "audio_proj.proj1.weight")  # of a network, of InfiniteTalk's audio modules
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
_INDEX = ".safetensors.index.json"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
}
_SHOWN = 3  # names in a message
# What transformers and torch raise of folders and files that do not load
UNREADABLE = (
    OSError, ValueError, TypeError, RuntimeError, EOFError, ImportError, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """What a file holds; of a header alone the tensors are on the meta device, without data."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    wrapper: str | None = None  # the key that the tensors lay under
    prefix: str = ""  # of their names
    ignored: tuple[str, ...] = ()  # names outside that prefix: other networks of the same file


def read_stored(path: Path, *, header_only: bool, wrappers: Sequence[str] = WRAPPERS) -> Stored:
    """A file, a shard or an index of several, or the folder of either; names as they stand, but for training's own."""
    files = weights_files(path)
    if files[0].suffix == ".safetensors":
        stored = _join(path, [_read_safetensors(file, header_only) for file in files])
    else:
        stored = _read_pickle(files[0], header_only, wrappers)
    tensors = {_TRAINING_WRAPPERS.sub("", name): tensor for name, tensor in stored.tensors.items()}
    return Stored(tensors=tensors, metadata=stored.metadata, wrapper=stored.wrapper)


def without_prefix(stored: Stored) -> Stored:
    """The network's own names; what lies outside its prefix is left out, and said."""
    prefix = _prefix(stored.tensors)
    tensors = {name.removeprefix(prefix): t for name, t in stored.tensors.items() if name.startswith(prefix)}
    ignored = tuple(name for name in stored.tensors if not name.startswith(prefix))
    return Stored(
        tensors=tensors, metadata=stored.metadata, wrapper=stored.wrapper, prefix=prefix, ignored=ignored
    )  # fmt: skip


def weights_files(path: Path) -> list[Path]:
    """Every file that the weights at a path lie in."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}; check the path")
    if path.suffix == ".gguf":
        raise CheckpointError(f"{path} is a GGUF file, which is not read here; load it with a GGUF loader in ComfyUI "
                              "and connect the MODEL")  # fmt: skip
    if path.name.endswith(_INDEX):
        return _of_index(path)
    if shard := _SHARD.fullmatch(path.name):
        return _siblings(path, shard[1], int(shard[3]))
    return [path]


def reason(problem: Exception) -> str:
    """The first line of what a library says; torch's own, of a pickle with code, advises to run it."""
    if isinstance(problem, pickle.UnpicklingError):
        return "it carries code beside its weights, or is damaged"
    said = getattr(problem, "strerror", None) or str(problem)
    return short(next(iter(said.strip().splitlines()), type(problem).__name__), str)


def some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(short(name, str) for name in names[:_SHOWN]) + more


def _in_folder(folder: Path) -> Path:
    """An index, or the one weights file."""
    found = sorted(folder.glob(f"*{_INDEX}")) or sorted(
        file for file in folder.iterdir() if file.suffix in _SUFFIXES and not _is_later_shard(file)
    )
    if len(found) != 1:
        names = some([file.name for file in found]) or "none"
        raise CheckpointError(f"the folder {folder} should hold one set of weights and holds {names}; name the file")
    return found[0]


def _is_later_shard(file: Path) -> bool:
    shard = _SHARD.fullmatch(file.name)
    return shard is not None and int(shard[2]) > 1


def _of_index(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / name for name in names]
        if any(file.parent != index.parent or file.suffix != ".safetensors" for file in files):
            raise ValueError("it names other files than safetensors beside it")
    except (ValueError, KeyError, AttributeError, TypeError) as problem:
        raise CheckpointError(
            f"{index} is no index of weights files ({reason(problem)}); download it again"
        ) from problem
    return _all_there(index, files)


def _siblings(path: Path, stem: str, count: int) -> list[Path]:
    digits = len(_SHARD.fullmatch(path.name)[2])
    names = [f"{stem}-{number:0{digits}}-of-{count:0{digits}}.safetensors" for number in range(1, count + 1)]
    return _all_there(path, [path.with_name(name) for name in names])


def _all_there(path: Path, files: list[Path]) -> list[Path]:
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise CheckpointError(f"{path} is one of {len(files)} parts, and there is no {some(missing)} beside it; "
                              "download all of them into one folder")  # fmt: skip
    return files


def _join(path: Path, parts: Sequence[Stored]) -> Stored:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for part in parts:
        twice = sorted(set(tensors) & set(part.tensors))
        if twice:
            raise CheckpointError(f"{path} holds {some(twice)} in two of its parts; download it again")
        tensors |= part.tensors
        metadata |= part.metadata
    return Stored(tensors=tensors, metadata=metadata)


def _read_safetensors(path: Path, header_only: bool) -> Stored:
    try:
        with safe_open(path, framework="pt") as file:
            read = _outline if header_only else safe_open.get_tensor
            names = file.keys()
            tensors = {name: read(file, name) for name in names}
            return Stored(tensors=tensors, metadata=file.metadata() or {})
    except (SafetensorError, OSError) as problem:
        raise CheckpointError(
            f"{path} is truncated or damaged ({reason(problem)}); download or copy it again"
        ) from problem


def _outline(file: Any, name: str) -> Tensor:
    """A tensor without data."""
    stored = file.get_slice(name)
    return torch.empty(stored.get_shape(), dtype=_DTYPES.get(stored.get_dtype(), torch.uint8), device="meta")


def _read_pickle(path: Path, header_only: bool, wrappers: Sequence[str]) -> Stored:
    try:
        found = torch.load(
            path, map_location="meta" if header_only else "cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as problem:
        if re.search(r"GLOBAL|[Uu]nsupported (global|class)", str(problem)):
            raise CheckpointError(f"{path} carries code beside its weights, so it was not opened; "
                                  "get it as safetensors") from problem  # fmt: skip
        raise CheckpointError(f"{path} is no PyTorch file, or damaged; download or copy it again") from problem
    except Exception as problem:  # torch's reader of pickles says damage with whatever it trips over
        raise CheckpointError(
            f"{path} is truncated or damaged ({reason(problem)}); download or copy it again"
        ) from problem
    return _unwrap(path, found, wrappers)


def _unwrap(path: Path, found: Any, wrappers: Sequence[str]) -> Stored:
    wrapper = None
    for name in wrappers:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found, wrapper = found[name], wrapper or name
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if isinstance(
        found, Mapping) else {}  # fmt: skip
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors; give a file with a network's weights")
    return Stored(tensors=tensors, wrapper=wrapper)


def _prefix(names: Iterable[str]) -> str:
    """What stands before the network's own names; of several networks' prefixes the averaged one's."""
    names = list(names)
    for anchor in _ANCHORS:
        found = [name.removesuffix(anchor) for name in names if name.endswith(anchor)]
        known = [prefix for prefix in found if _PREFIX.fullmatch(prefix)]
        if known:
            return min(known, key=_rank)
    return ""


def _rank(prefix: str) -> tuple[int, int]:
    first = prefix.partition(".")[0]
    return (_PREFIX_WORDS.index(first) if first in _PREFIX_WORDS else 0, len(prefix))
