"""State files: where they lie, which there are, and that none outside ComfyUI's folders is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import folder_paths

from ...knot_core import KnotError, Model, Snapshot, load_stream, restart_driving, save_stream
from ...knot_core.stream import leave_state, placed
from .host_model import HostModel
from .live import temp_folder
from .runs import Run

SUFFIX = ".state.safetensors"
STATES = "states"  # in ComfyUI's output folder
NEWEST, STOPPED = "newest", "stopped [temp]"
IN_TEMP, IN_OUTPUT, NOWHERE = "in temp", "in output/states", "nowhere"
KEEPING = (IN_TEMP, IN_OUTPUT, NOWHERE)


def state_names() -> list[str]:
    """What there is to load: the newest, that of the stream stopped last, and all in output/states."""
    return [NEWEST, STOPPED, *(path.relative_to(_output()).as_posix() for path in _saved())]


def save_state(state: Snapshot, prefix: str) -> str:
    """The file's name in the output folder; a prefix that leads out of it is refused by ComfyUI."""
    path = _next_free(prefix)
    save_stream(path, placed(state, "cpu"))
    return path.relative_to(_output()).as_posix()


def load_state(model: Model, name: str) -> Snapshot:
    path = state_path(name)
    if isinstance(model, HostModel):
        model.bring_in()
    return placed(load_stream(path, model), "cpu")


def restarted(state: Snapshot) -> Snapshot:
    """Whose driving begins with its next chunk."""
    return restart_driving(state)


def state_path(name: str) -> Path:
    """Of a name in the output folder, or one of the two words."""
    if name == STOPPED:
        return _there(_stopped())
    if name == NEWEST:
        found = [path for path in (*_saved(), _stopped()) if path.is_file()]
        if not found:
            raise KnotError("there is no saved state yet: run Save Stream State first, or stop a stream")
        return max(found, key=lambda path: path.stat().st_mtime_ns)
    path = (_output() / name).resolve()
    if not path.is_relative_to(_output().resolve()) or not name.endswith(SUFFIX):
        raise KnotError(f"got the state file {name!r}, wanted one in ComfyUI's output folder whose name ends in "
                        f"{SUFFIX}: give what Save Stream State says")  # fmt: skip
    return _there(path)


def state_fingerprint(name: str) -> str:
    """Changes when the file does."""
    if name == NEWEST and not any(path.is_file() for path in (*_saved(), _stopped())):
        return "none"
    file = state_path(name).stat()
    return f"{file.st_size} {file.st_mtime_ns}"


@contextmanager
def state_kept(run: Run, where: str) -> Iterator[None]:
    """Whatever ends the run before its end, also stop, leaves a state to go on from."""
    try:
        yield
    finally:
        if 0 < run.num_made < run.num_pixel_frames and where != NOWHERE:
            path = _stopped() if where == IN_TEMP else _next_free(f"{STATES}/stopped")
            path.parent.mkdir(parents=True, exist_ok=True)
            leave_state(run.stream, path)


def _next_free(prefix: str) -> Path:
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, str(_output()))
    return Path(folder) / f"{name}_{counter:05}_{SUFFIX}"


def _there(path: Path) -> Path:
    if not path.is_file():
        raise KnotError(f"there is no state file {path.name}: save one with Save Stream State, or stop a stream")
    return path


def _output() -> Path:
    return Path(folder_paths.get_output_directory())


def _saved() -> list[Path]:
    return sorted((_output() / STATES).rglob(f"*{SUFFIX}"))


def _stopped() -> Path:
    """One file, so that stopping a hundred streams takes the room of one."""
    return temp_folder() / f"stopped{SUFFIX}"
