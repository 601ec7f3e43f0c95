"""A stream between two chunks, and its one file on disc.

The file is safetensors: a JSON header in the metadata, and every tensor as it stands, slots included, so that a
resumed stream sums in the same order and continues bit for bit.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..cache_index import CacheIndex
from ..config import StreamSettings
from ..errors import KnotError, SettingsError, StateError, short
from .anchor import Anchor
from .model import DecoderMemory, StreamModel, fingerprint
from .plan import Clock, first_clock
from .soundness import check_state

FORMAT = "knot-forcing-stream"
VERSION = 1
MAX_SEED = 2**64 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamState:
    """Everything that changes from chunk to chunk, but for the cache."""

    clock: Clock
    rng_state: Tensor  # of the CPU generator that draws the noise
    knot_BMCHW: Tensor | None
    decoder_memory: DecoderMemory | None
    driving_origin: int  # the latent frame of the stream at which the driving's own frame 0 lies
    recache: str = ""  # whether the next chunk computes what it sees again, and of sinks what: see stream/committing.py
    threads: int | None = None  # inside the operations that drew the last chunk; of old files, and at first: unknown
    recent_BFCHW: Tensor | None = None  # the last settled latents, as `kept_latents` keeps them; older files have none

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.clock}>"


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A stream between two chunks, whole: what a state file holds, and what a stream is made from."""

    settings: StreamSettings
    anchor: Anchor
    state: StreamState
    window_index: CacheIndex
    window: tuple[Tensor, ...]  # per layer, as `KVCache.window` gives it; nothing before the first chunk
    sinks: tuple[Tensor, ...] = ()  # per layer, as `Sinks` keeps them; nothing where they stand still

    def __repr__(self) -> str:
        clock = self.state.clock
        return f"<{type(self).__name__} before chunk {clock.chunk} (latent frame {clock.start}) of {self.anchor!r}>"


def check_beginning(model: StreamModel, anchor: Anchor, seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"seed is {seed}; it must be between 0 and {MAX_SEED}")
    if anchor.model != fingerprint(model):
        raise SettingsError("the anchor was encoded by another model, or in another dtype; encode the reference again")


def first_snapshot(settings: StreamSettings, anchor: Anchor, seed: int, start: int = 0) -> Snapshot:
    """A stream that has not begun; another `start` moves it in time, for tests of very long ones."""
    state = StreamState(
        clock=first_clock(settings, start),
        rng_state=torch.Generator().manual_seed(seed).get_state(),
        knot_BMCHW=anchor.reference_BFCHW.clone() if settings.start_from_reference else None,
        decoder_memory=None,
        driving_origin=start,
    )
    index = CacheIndex(capacity=settings.num_ring_frames, num_sinks=settings.num_sink_frames)
    return Snapshot(settings=settings, anchor=anchor, state=state, window_index=index, window=())


def save_stream(path: str | os.PathLike[str], saved: Snapshot) -> None:
    """Write a state file; a file of that name is replaced only once the new one is whole."""
    anchor, state = saved.anchor, saved.state
    header = {
        "version": VERSION,
        "model": anchor.model,
        "dtype": _name(anchor.keys[0].dtype),
        "settings": saved.settings.to_dict(),
        "clock": dataclasses.asdict(state.clock),
        "driving_origin": state.driving_origin,
        **({"recache": state.recache} if state.recache else {}),
        **({} if state.threads is None else {"threads": state.threads}),
        "window": dataclasses.asdict(saved.window_index),
        "anchor": anchor.digest,
    }
    tensors = {
        "rng": state.rng_state,
        "anchor.reference": anchor.reference_BFCHW,
        "anchor.text": anchor.text_BTD,
        **_numbered("anchor.keys", anchor.keys),
        **_numbered("anchor.values", anchor.values),
        **_numbered("window", saved.window),
        **_numbered("sinks", saved.sinks),
        **_numbered("decoder", state.decoder_memory or ()),
        **_given("knot", state.knot_BMCHW),
        **_given("recent", state.recent_BFCHW),
        **_given("anchor.image", anchor.image_BTE),
        **_given("anchor.grey", anchor.grey_BGCHW),
        **_given("anchor.negative", anchor.negative_BTD),
    }
    _write(Path(path), header, tensors)


def load_stream(path: str | os.PathLike[str], model: StreamModel) -> Snapshot:
    """Read a state file; `StateError` if it is none, or of another model or version."""
    header, tensors = _read(Path(path))
    _require_same_model(header, model, path)
    try:
        tensors = {name: tensor.to("cpu" if name == "rng" else model.device) for name, tensor in tensors.items()}
        anchor = Anchor(
            reference_BFCHW=tensors["anchor.reference"],
            text_BTD=tensors["anchor.text"],
            image_BTE=tensors.get("anchor.image"),
            grey_BGCHW=tensors.get("anchor.grey"),
            negative_BTD=tensors.get("anchor.negative"),
            keys=_sequence("anchor.keys", tensors),
            values=_sequence("anchor.values", tensors),
            model=header["model"],
            digest=header["anchor"],
        )
        state = StreamState(
            clock=Clock(**header["clock"]),
            rng_state=tensors["rng"],
            knot_BMCHW=tensors.get("knot"),
            decoder_memory=_sequence("decoder", tensors) or None,
            driving_origin=header["driving_origin"],
            recache=header.get("recache", ""),
            threads=header.get("threads"),
            recent_BFCHW=tensors.get("recent"),
        )
        saved = Snapshot(
            settings=StreamSettings.from_dict(header["settings"]),
            anchor=anchor,
            state=state,
            window_index=CacheIndex(**header["window"]),
            window=_sequence("window", tensors),
            sinks=_sequence("sinks", tensors),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{path} is a damaged state file ({short(error, str)}); save the stream again") from error
    except KnotError as error:  # of settings that cannot be
        raise StateError(f"{path} is a damaged state file: {error}") from error
    check_state(saved, model, path)
    return saved


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _given(name: str, tensor: Tensor | None) -> dict[str, Tensor]:
    return {} if tensor is None else {name: tensor}


def _numbered(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{number}": tensor for number, tensor in enumerate(tensors)}


def _sequence(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    count = sum(key.startswith(f"{name}.") for key in tensors)
    return tuple(tensors[f"{name}.{number}"] for number in range(count))


def _write(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    partial = path.with_name(path.name + ".partial")
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = {**header, "sha256": _sha256(tensors)}
    try:
        if path.exists() and not path.is_file():  # a device would be replaced, if root asked for it
            raise StateError(f"cannot write the state file {path}, for it is no file; choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata={"format": FORMAT, "header": json.dumps(header)})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StateError(
            f"cannot write the state file {path} ({error}); choose another place or free some room"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise StateError(f"{path} is no saved stream; give a file that Stream.save wrote")
            header = _parsed(metadata["header"], path)
            # own copies: in the file tensors lie unaligned, and matrix products over them round differently
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError) as error:
        raise StateError(
            f"cannot read the state file {path} ({short(error, str)}); give a file that Stream.save wrote"
        ) from error
    if header.get("sha256", None) not in (None, _sha256(tensors)):  # files from before it was written have none
        raise StateError(f"{path} is damaged: its tensors are not those that were saved; save the stream again")
    return header, tensors


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names and bytes: a flipped bit is a number like any other, and would be streamed."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StateError(f"cannot read the header of {path} ({short(error, str)}); save the stream again") from error
    if not isinstance(header, dict):
        raise StateError(f"the header of {path} is {short(header)}, wanted named values; save the stream again")
    return header


def _require_same_model(header: Mapping[str, Any], model: StreamModel, path: str | os.PathLike[str]) -> None:
    if header.get("version") != VERSION:
        raise StateError(
            f"{path} has state version {short(header.get('version'))}, this software reads version {VERSION}; "
            "resume it with the version that saved it"
        )
    if header.get("dtype") != _name(model.dtype):
        raise StateError(
            f"{path} was saved in {short(header.get('dtype'), str)}, the model runs in {_name(model.dtype)}; "
            f"load the model with dtype {short(header.get('dtype'), str)}"
        )
    if header.get("model") != fingerprint(model):
        raise StateError(f"{path} was saved with another model; load the model that it was saved with")
