"""State files: where they lie, which there are, and that none outside ComfyUI's folders is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...knot_core import KnotError, Model, Snapshot, load_stream, restart_driving, save_stream
from ...knot_core.errors import short
from ...knot_core.stream import leave_state, placed
from .host_model import HostModel
from .names import in_output, next_free, output_folder
from .results import written
from .runs import HostRun
from .tokens import Graph, filled

SUFFIX = ".state.safetensors"
STATES = "states"  # in ComfyUI's output folder
NEWEST, STOPPED = "newest", "stopped"
ONE_FILE, FILE_EACH, NOWHERE = "one file in output/states", "in output/states", "nowhere"
ONCE_IN_TEMP, ONCE_STOPPED = "in temp", "stopped [temp]"  # of older workflows: where and by what name the one file was
KEEPING = (ONE_FILE, FILE_EACH, NOWHERE, ONCE_IN_TEMP)


def state_names() -> list[str]:
    """The states that can be loaded: the newest, that of the stream stopped last, and all in output/states."""
    saved = (path for path in _saved() if path != _stopped())
    return [NEWEST, STOPPED, *(path.relative_to(output_folder()).as_posix() for path in saved)]


def filled_prefix(prefix: str, saved: Snapshot, hidden: Any) -> str:
    """The prefix with its %words% replaced; `hidden` is the node's, with the prompt and the workflow."""
    graph = Graph(prompt=hidden.prompt, extra_pnginfo=hidden.extra_pnginfo)
    height, width = saved.anchor.video_size
    return filled(prefix, graph, (height, width))


def save_state(state: Snapshot, prefix: str, hidden: Any) -> str:
    """The file's name in the output folder."""
    path = _next_free(filled_prefix(prefix, state, hidden))
    save_stream(path, placed(state, "cpu"))
    written(hidden.prompt, path)
    return path.relative_to(output_folder()).as_posix()


def load_state(model: Model, name: str) -> Snapshot:
    path = state_path(name)
    if isinstance(model, HostModel):
        model.bring_in()
    return placed(load_stream(path, model), "cpu")


def restarted(state: Snapshot) -> Snapshot:
    """Whose driving begins with its next chunk."""
    return restart_driving(state)


def state_path(name: str) -> Path:
    """The path of a state by its name in the output folder, or by one of the special names."""
    if name in (STOPPED, ONCE_STOPPED):
        return _there(_stopped())
    if name == NEWEST:
        found = _saved()
        if not found:
            raise KnotError("there is no saved state yet: run Save Stream State first, or stop a stream")
        return max(found, key=lambda path: path.stat().st_mtime_ns)
    check_state_name(name)
    return _there(in_output(name, "state file"))


def check_state_name(name: str) -> None:
    """Refuse a name that leads out of the output folder, or is no state's; the file may come later in the run."""
    in_output(name, "state file")
    if name not in (NEWEST, STOPPED) and not name.endswith(SUFFIX):
        raise KnotError(f"got the state file {short(name)}, wanted one in ComfyUI's output folder whose name ends in "
                        f"{SUFFIX}: give the name that Save Stream State shows")  # fmt: skip


def state_fingerprint(name: str) -> str:
    """Changes when the file does."""
    if name == NEWEST and not _saved():
        return "none"
    file = state_path(name).stat()
    return f"{file.st_size} {file.st_mtime_ns}"


@contextmanager
def state_kept(run: HostRun, where: str) -> Iterator[None]:
    """Whatever ends the run before its end, also stop or whoever watches it, leaves a state to go on from."""
    try:
        yield
    finally:
        if 0 < run.num_made < run.num_pixel_frames and where != NOWHERE:
            path = _next_free(f"{STATES}/stopped") if where == FILE_EACH else _stopped()
            path.parent.mkdir(parents=True, exist_ok=True)
            leave_state(run.stream, path)


def _next_free(prefix: str) -> Path:
    return next_free(prefix, SUFFIX)[0]


def _there(path: Path) -> Path:
    if not path.is_file():
        raise KnotError(f"there is no state file {path.name}: save one with Save Stream State, or stop a stream")
    return path


def _saved() -> list[Path]:
    return sorted((output_folder() / STATES).rglob(f"*{SUFFIX}"))


def _stopped() -> Path:
    """One file, so that stopping a hundred streams takes the room of one."""
    return output_folder() / STATES / f"stopped{SUFFIX}"
