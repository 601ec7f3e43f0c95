"""A session on disc: the engine's state file, and beside it a JSON of what the engine does not know of."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .adapting import Adapting
from .engine import Model, Snapshot, StateError, Stream, continue_stream, load_stream
from .live_driving import LiveDriving

_VERSION = 1


def open_at(model: Model, at: Snapshot, driving: Any, should_stop: Callable[[], bool], keep: int) -> Stream:
    """A stream that goes on from there, of which the last `keep` chunks can be taken back."""
    stream = continue_stream(model, at, driving, should_stop=should_stop)
    stream.keep(keep)
    stream.threads = stream.threads or model.threads_for(at.settings, at.anchor.latent_size)
    return stream


def copied(stream: Stream) -> Snapshot:
    """A copy of a stream's position. Its decoder's memory is waited for when it is read."""
    at = stream.snapshot()
    window, sinks = ([layer.clone() for layer in layers] for layers in (at.window, at.sinks))
    return replace(at, window=tuple(window), sinks=tuple(sinks))


def restored(
    at: Snapshot, notes: Mapping[str, Any], model: Model, now: Callable[[], float], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options of a session that goes on from there; `encoder`, `window` and `beneath` become its driving's.

    `notes` are those of a session that was saved; `now` is the driving's clock.
    """
    own = {name: options.get(name) for name in ("beneath", "encoder", "window")}
    driving = LiveDriving.from_state(notes["driving"], model, clock=now, **own)
    adapting = Adapting.from_state(notes.get("adapting", {}), at.settings, model.settings.num_chunk_frames)
    others = {name: value for name, value in options.items() if name not in own}
    return {**others, "driving": driving, "adapting": adapting, "at": at}


def save_session(path: str | os.PathLike[str], stream: Stream, notes: Mapping[str, Any]) -> None:
    """Write both files; `notes` are plain values.

    Raises:
        StateError: one cannot be written.
    """
    stream.save(path)
    beside, plan = _beside(path), stream.plan
    partial = beside.with_name(beside.name + ".partial")
    try:
        partial.write_text(json.dumps({"version": _VERSION, "start": plan.start, **notes}), encoding="utf-8")
        partial.replace(beside)
    except OSError as problem:
        raise StateError(f"cannot write {beside} ({problem}); choose another place, or free disk space") from problem


def load_session(path: str | os.PathLike[str], model: Model) -> tuple[Snapshot, Mapping[str, Any]]:
    """Read what `save_session` wrote.

    Raises:
        StateError: a file is missing, damaged, of another version or model, or they do not belong together.
    """
    at, beside = load_stream(path, model), _beside(path)
    try:
        notes = json.loads(beside.read_text(encoding="utf-8"))
        version, start = notes["version"], notes["start"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise StateError(f"cannot read {beside}, which belongs to {path}; save the session again") from problem
    if version != _VERSION:
        raise StateError(f"{beside} has version {version!r}, this software reads {_VERSION}")
    if start != at.state.clock.start:
        raise StateError(f"{beside} is of another moment than {path}; save the session again")
    return at, notes


def _beside(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.json")
