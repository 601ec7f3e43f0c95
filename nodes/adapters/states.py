"""State files: where they lie, which there are, and that none outside ComfyUI's folders is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...knot_core import KnotError, Model, Snapshot, load_stream, restart_driving, save_stream
from ...knot_core.errors import short
from ...knot_core.stream import leave_state, placed
from .host_model import HostModel
from .live import temp_folder
from .names import in_output, next_free, output_folder
from .runs import Run

SUFFIX = ".state.safetensors"
STATES = "states"  # in ComfyUI's output folder
NEWEST, STOPPED = "newest", "stopped [temp]"
IN_TEMP, IN_OUTPUT, NOWHERE = "in temp", "in output/states", "nowhere"
KEEPING = (IN_TEMP, IN_OUTPUT, NOWHERE)


def state_names() -> list[str]:
    """What there is to load: the newest, that of the stream stopped last, and all in output/states."""
    return [NEWEST, STOPPED, *(path.relative_to(output_folder()).as_posix() for path in _saved())]


def save_state(state: Snapshot, prefix: str) -> str:
    """The file's name in the output folder."""
    path = _next_free(prefix)
    save_stream(path, placed(state, "cpu"))
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
    """Of a name in the output folder, or one of the two words."""
    if name == STOPPED:
        return _there(_stopped())
    if name == NEWEST:
        found = [path for path in (*_saved(), _stopped()) if path.is_file()]
        if not found:
            raise KnotError("there is no saved state yet: run Save Stream State first, or stop a stream")
        return max(found, key=lambda path: path.stat().st_mtime_ns)
    path = in_output(name, "state file")
    if not name.endswith(SUFFIX):
        raise KnotError(f"got the state file {short(name)}, wanted one in ComfyUI's output folder whose name ends in "
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
    folder, name, _ = next_free(prefix)
    return folder / f"{name}{SUFFIX}"


def _there(path: Path) -> Path:
    if not path.is_file():
        raise KnotError(f"there is no state file {path.name}: save one with Save Stream State, or stop a stream")
    return path


def _saved() -> list[Path]:
    return sorted((output_folder() / STATES).rglob(f"*{SUFFIX}"))


def _stopped() -> Path:
    """One file, so that stopping a hundred streams takes the room of one."""
    return temp_folder() / f"stopped{SUFFIX}"
