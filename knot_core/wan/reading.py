"""Weights files as named tensors: safetensors (one, or shards), PyTorch files, whatever wraps and prefixes the names.

Tensors are mapped into memory, not read: a page comes from the disk when it is used and may go again.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import CheckpointError, short
from ..files import read_text
from .gguf_file import is_gguf, read_gguf
from .safetensors_file import is_safetensors, read_header, read_tensors

# The weights that stream, within files that hold several sets; the averaged ones first.
SETS = ("generator_ema", "generator")  # of one network: averaged over the training, and as it ended
WRAPPERS = (*SETS, "state_dict", "model")
_TRAINING_WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_PREFIX_WORDS = (
    "generator_ema", "generator", "state_dict", "model", "module", "diffusion_model", "net", "dit", "pipe",
    "transformer",
)  # fmt: skip
_PREFIX = re.compile(rf"(({'|'.join(_PREFIX_WORDS)})\.)*")
_ANCHORS = ("patch_embedding.weight", "audio_proj.proj1.weight")  # of a network, of InfiniteTalk's audio modules
_SAFETENSORS = (".safetensors", ".sft")
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(\.safetensors|\.sft)")
_INDEX = ".safetensors.index.json"
_SUFFIXES = (*_SAFETENSORS, ".pt", ".pth", ".bin", ".ckpt", ".gguf")
_SHOWN = 3  # names in a message
# What transformers and torch raise of folders and files that do not load
UNREADABLE = (
    OSError, ValueError, TypeError, RuntimeError, EOFError, ImportError, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """The contents of a file. If only its header was read, the tensors are on the meta device, without data."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    wrapper: str | None = None  # the key that the tensors lay under
    prefix: str = ""  # of their names
    ignored: tuple[str, ...] = ()  # names outside that prefix: other networks of the same file
    sets: tuple[str, ...] = ()  # keys or prefixes under which the file holds weights of this network, if several
    packed: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)  # how to unpack what has only a shape


def read_stored(path: Path, *, header_only: bool, wrappers: Sequence[str] = WRAPPERS) -> Stored:
    """A file, a shard or an index of several, or the folder of either; names as they stand, but for training's own.

    Tensors of a GGUF file are on the meta device, without data: `packed` says how to unpack each.
    """
    files = weights_files(path)
    if is_gguf(files[0]):
        stored = _read_gguf(files[0])
    elif _are_safetensors(files):
        stored = _join(path, [_read_safetensors(file, header_only) for file in files])
    else:
        stored = _read_pickle(files[0], header_only, wrappers)
    tensors = {_TRAINING_WRAPPERS.sub("", name): tensor for name, tensor in stored.tensors.items()}
    return replace(stored, tensors=tensors)


def without_prefix(stored: Stored, wrappers: Sequence[str] = WRAPPERS) -> Stored:
    """The network's own names; what lies outside its prefix is left out, and said.

    `wrappers`: of several sets of weights the one whose prefix begins with the first of these.
    """
    prefixes = _prefixes(stored.tensors)
    prefix = min(prefixes, key=lambda prefix: _rank(prefix, wrappers), default="")
    tensors, packed = (
        {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
        for named in (stored.tensors, stored.packed)
    )
    ignored = tuple(name for name in stored.tensors if not name.startswith(prefix))
    sets = tuple(prefix.partition(".")[0] for prefix in prefixes) if len(prefixes) > 1 else stored.sets
    return replace(stored, tensors=tensors, packed=packed, prefix=prefix, ignored=ignored, sets=sets)


def weights_files(path: Path) -> list[Path]:
    """Every file that the weights at a path lie in."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}; check the path")
    if path.name.endswith(_INDEX):
        return _of_index(path)
    if shard := _SHARD.fullmatch(path.name):
        return _siblings(path, shard[1], int(shard[3]))
    return [path]


def reason(problem: Exception) -> str:
    """The first line of a library's error message; torch's own, about a pickle with code, advises to run it."""
    if any(isinstance(cause, pickle.UnpicklingError) for cause in _causes(problem)):
        return "it carries code beside its weights, or is damaged"
    said = getattr(problem, "strerror", None) or str(problem)
    return short(next(iter(said.strip().splitlines()), type(problem).__name__), str)


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    """The error and those that caused it: transformers before 5 raises an OSError of its own."""
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(short(name, str) for name in names[:_SHOWN]) + more


def _in_folder(folder: Path) -> Path:
    """An index, or the one weights file."""
    if (folder / "model_index.json").is_file() and (folder / "transformer").is_dir():  # a whole pipeline of diffusers
        folder = folder / "transformer"
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
    text = read_text(index, "the index", CheckpointError)
    try:
        names = sorted(set(json.loads(text)["weight_map"].values()))
        files = [index.parent / name for name in names]
        if any(file.parent != index.parent or file.suffix not in _SAFETENSORS for file in files):
            raise ValueError("it names files that are not safetensors files beside it")
    except (ValueError, KeyError, AttributeError, TypeError) as problem:
        raise CheckpointError(
            f"{index} is no index of weights files ({reason(problem)}); download it again"
        ) from problem
    return _all_there(index, files)


def _siblings(path: Path, stem: str, count: int) -> list[Path]:
    shard = _SHARD.fullmatch(path.name)
    digits, suffix = len(shard[2]), shard[4]
    names = [f"{stem}-{number:0{digits}}-of-{count:0{digits}}{suffix}" for number in range(1, count + 1)]
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
        tensors, metadata = read_header(path) if header_only else read_tensors(path)
    except (SafetensorError, OSError, ValueError, RecursionError) as problem:
        if isinstance(problem, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is truncated or damaged ({reason(problem)}); download or copy it again"
        ) from problem
    return Stored(tensors=tensors, metadata=metadata)


def _read_gguf(path: Path) -> Stored:
    tensors, packed, kinds = read_gguf(path)
    return Stored(tensors=tensors, packed=packed, metadata={"gguf": kinds})


def _are_safetensors(files: Sequence[Path]) -> bool:
    """Whether the file is safetensors: by content, or by suffix if the content is damaged and not a pickle's.

    A header of 640 bytes, say, begins with the bytes of a pickle, so this is asked first.
    """
    if any(is_safetensors(file) for file in files):
        return True
    return any(file.suffix in _SAFETENSORS for file in files) and not _is_pickle(files[0])


def _is_pickle(path: Path) -> bool:
    """A ZIP archive, as torch writes; or a bare pickle, whose first byte says its protocol."""
    with path.open("rb") as file:
        start = file.read(4)
    return start.startswith(b"PK") or re.match(rb"\x80[\x02-\x05]", start) is not None


def _read_pickle(path: Path, header_only: bool, wrappers: Sequence[str]) -> Stored:
    try:
        with path.open("rb") as file:
            # torch maps a file by its name alone, and takes one of this suffix for another kind
            misnamed = path.suffix in _SAFETENSORS
            found = torch.load(
                file if misnamed else path, map_location="meta" if header_only else "cpu", weights_only=True,
                mmap=not misnamed and zipfile.is_zipfile(path),
            )  # fmt: skip
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
    wrapper, sets = None, _sets(found)
    for name in wrappers:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping) and found[name]:
            found, wrapper = found[name], wrapper or name
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if isinstance(
        found, Mapping) else {}  # fmt: skip
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors; give a file with a network's weights")
    return Stored(tensors=tensors, wrapper=wrapper, sets=sets)


def _sets(found: Any) -> tuple[str, ...]:
    """The keys under which a training checkpoint keeps the same network's weights, if there are several."""
    keys = [key for key in SETS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping) and found[key]]
    return tuple(keys) if len(keys) > 1 else ()


def _prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of the network's own names: one, or one for each set of weights."""
    names = list(names)
    for anchor in _ANCHORS:
        found = [name.removesuffix(anchor) for name in names if name.endswith(anchor)]
        known = [prefix for prefix in found if _PREFIX.fullmatch(prefix)]
        if known:
            return known
    return []


def _rank(prefix: str, wrappers: Sequence[str]) -> tuple[int, int]:
    first = prefix.partition(".")[0]
    order = [*wrappers, *_PREFIX_WORDS]
    return (order.index(first) if first in order else 0, len(prefix))
