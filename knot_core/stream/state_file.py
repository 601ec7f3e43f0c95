"""A stream between two chunks as one file on disc.

It is safetensors: a JSON header in the metadata, and every tensor as it stands, slots included, so that a
resumed stream sums in the same order and continues bit for bit.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..cache_index import CacheIndex
from ..config import StreamSettings
from ..driving.prompts import PromptTimeline
from ..errors import KnotError, StateError, short
from .anchor import Anchor
from .conditioning import Conditioning, TimedPrompts
from .plan import Clock
from .reference_pictures import ShownReference
from .snapshot import Snapshot, StreamState
from .state_checks import check_state
from .stream_model import StreamModel, fingerprint, spatial_of

FORMAT = "knot-forcing-stream"
VERSION = 4  # 1 wrote of the anchor what is of prompts; up to 2 chunks were of one length; up to 3 without pictures
READABLE = (1, 2, 3, 4)


def save_stream(path: str | os.PathLike[str], saved: Snapshot) -> None:
    """Write a state file; a file of that name is replaced only once the new one is whole.

    Raises:
        StateError: the file cannot be written.
    """
    _write(Path(path), *stream_parts(saved))


def stream_parts(saved: Snapshot) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A snapshot as a state file holds it: values that JSON holds, and tensors by name, which are its own."""
    anchor, conditioning, state = saved.anchor, saved.conditioning, saved.state
    prompts = conditioning.prompts
    header = {
        "version": VERSION,
        "model": anchor.model,
        "dtype": _name(anchor.keys[0].dtype),
        "settings": saved.settings.to_dict(),
        "clock": {name: getattr(state.clock, name) for name in ("chunk", "start", "anchor_position")},
        "driving_origin": state.driving_origin,
        **({"recache": state.recache} if state.recache else {}),
        **({} if state.threads is None else {"threads": state.threads}),
        "window": dataclasses.asdict(saved.window_index),
        "anchor": anchor.digest,
        **({} if prompts is None else {"prompts": dataclasses.asdict(prompts.timeline)}),
    }
    tensors = {
        "rng": state.rng_state,
        "anchor.reference": anchor.reference_BFCHW,
        **_numbered("anchor.keys", anchor.keys),
        **_numbered("anchor.values", anchor.values),
        **_numbered("window", saved.window),
        **_numbered("sinks", saved.sinks),
        **_numbered("decoder", state.decoder_memory or ()),
        **_given("knot", state.knot_BMCHW),
        **_given("recent", state.recent_BFCHW),
        **_given("anchor.grey", anchor.grey_BGCHW),
        **_given("anchor.picture", anchor.picture_HWC),
        **_given("anchor.landmarks", anchor.landmarks_L2),
        **_shown(saved),
        "conditioning.text": conditioning.text_BTD,
        **_given("conditioning.image", conditioning.image_BTE),
        **_given("conditioning.negative", conditioning.negative_BTD),
        **_numbered("conditioning.prompts", _own(() if prompts is None else prompts.texts_BTD or ())),
    }
    return header, tensors


def load_stream(path: str | os.PathLike[str], model: StreamModel) -> Snapshot:
    """Read a state file saved by `save_stream`.

    Raises:
        StateError: the file is no state, is damaged, or is of another model, dtype or version.
    """
    return stream_of_parts(*_read(Path(path)), model, path)


def stream_of_parts(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], model: StreamModel, path: str | os.PathLike[str]
) -> Snapshot:
    """The snapshot that `stream_parts` took apart; `path` names it in errors. Tensors must be aligned as torch's are.

    Raises:
        StateError: it is damaged, or of another model, dtype or version.
    """
    _require_same_model(header, model, path)
    try:
        tensors = {name: tensor.to("cpu" if name == "rng" else model.device) for name, tensor in tensors.items()}
        conditioning = _conditioning(header, tensors)
        anchor = Anchor(
            reference_BFCHW=tensors["anchor.reference"],
            conditioning=conditioning,
            grey_BGCHW=tensors.get("anchor.grey"),
            keys=_sequence("anchor.keys", tensors),
            values=_sequence("anchor.values", tensors),
            model=header["model"],
            digest=header["anchor"],
            picture_HWC=tensors.get("anchor.picture"),
            landmarks_L2=tensors.get("anchor.landmarks"),
            spatial=spatial_of(model.codec),
        )
        memory = _sequence("decoder", tensors) or None
        state = StreamState(
            clock=_clock(header),
            rng_state=tensors["rng"],
            knot_BMCHW=tensors.get("knot"),
            decoder_memory=memory,
            driving_origin=header["driving_origin"],
            recache=header.get("recache", ""),
            threads=header.get("threads"),
            recent_BFCHW=tensors.get("recent"),
            shown=None if memory is None else _last_shown(anchor, tensors),
        )
        saved = Snapshot(
            settings=StreamSettings.from_dict(header["settings"]),
            anchor=anchor,
            conditioning=conditioning,
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


def _clock(header: Mapping[str, Any]) -> Clock:
    """The clock; the stream began, or began anew, as many frames before it as its window has ever held."""
    clock, num_committed = header["clock"], header["window"]["num_committed"]
    if header["version"] < 3 and num_committed != clock["chunk"] * header["settings"]["num_chunk_frames"]:
        raise StateError("its clock and its window do not agree; save the stream again")
    return Clock(**clock, begin=clock["start"] - num_committed)


def _conditioning(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Conditioning:
    """The conditioning in force when the state was saved, from files of every version."""
    part, prompts = "anchor" if header["version"] == 1 else "conditioning", None
    if "prompts" in header:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in header["prompts"].items()}
        texts = tuple(text.cpu() for text in _sequence("conditioning.prompts", tensors))
        prompts = TimedPrompts(timeline=PromptTimeline(**values), texts_BTD=texts or None)
    return Conditioning(
        text_BTD=tensors[f"{part}.text"],
        image_BTE=tensors.get(f"{part}.image"),
        negative_BTD=tensors.get(f"{part}.negative"),
        prompts=prompts,
    )


def _shown(saved: Snapshot) -> dict[str, Tensor]:
    """The reference that the last chunk was decoded with, where the next one has another."""
    last, next_one = saved.state.shown, saved.anchor.shown
    if last is None or next_one is None or last.is_like(next_one):
        return {}
    found = _given("shown.landmarks", last.landmarks_L2)
    return {"shown.picture": last.picture_HWC, "shown.latents": last.latents_BFCHW, **found}


def _last_shown(anchor: Anchor, tensors: Mapping[str, Tensor]) -> ShownReference | None:
    if "shown.picture" not in tensors:
        return anchor.shown
    return ShownReference(
        picture_HWC=tensors["shown.picture"],
        latents_BFCHW=tensors["shown.latents"],
        landmarks_L2=tensors.get("shown.landmarks"),
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _own(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copies: a prompt may be said twice, and a file takes no tensor twice."""
    return tuple(tensor.clone() for tensor in tensors)


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
            f"cannot write the state file {path} ({error}); choose another place, or free disk space"
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
    """Digest of names and bytes; without it a flipped bit would be streamed as a valid number."""
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
    if header.get("version") not in READABLE:
        raise StateError(
            f"{path} has state version {short(header.get('version'))}, this software reads versions "
            f"{READABLE[0]} to {READABLE[-1]}; resume it with the version that saved it"
        )
    if header.get("dtype") != _name(model.dtype):
        raise StateError(
            f"{path} was saved in {short(header.get('dtype'), str)}, the model runs in {_name(model.dtype)}; "
            f"load the model with dtype {short(header.get('dtype'), str)}"
        )
    if header.get("model") != fingerprint(model):
        raise StateError(f"{path} was saved with another model; load the model that it was saved with")
