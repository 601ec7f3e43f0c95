"""Names that come from widgets, so from strangers' workflows too: where in ComfyUI's folders they may lead."""

import os
import re
from pathlib import Path

import folder_paths

from ...knot_core import KnotError
from ...knot_core.errors import short

PREFIX = "filename_prefix"
USUAL_NAME = "knot_forcing"
_SLASH = r"[\\/]" if os.name == "nt" else "/"
_FORBIDDEN = re.compile(r'[<>:"|?*\\]')  # on Windows; there a backslash has parted two folders before
_DEVICE = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]", re.IGNORECASE)
_LONGEST = 200  # bytes of a part; a counter and a suffix follow, and most file systems end at 255


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def in_output(name: str, what: str) -> Path:
    """The path of a name in ComfyUI's output folder; one that leads out of it, or that no disc takes, is refused.

    Links that a user has put there are left to ComfyUI, which follows or refuses them: no workflow can make them.
    """
    root = os.path.abspath(output_folder())
    path = Path(os.path.abspath(os.path.join(root, _writable(name, what))))
    if not path.is_relative_to(root):
        raise KnotError(f"got the {what} {short(name)}, wanted one that stays in ComfyUI's output folder: leave out "
                        "'..', and what begins with a slash or a drive")  # fmt: skip
    return path


def next_free(prefix: str, suffix: str) -> tuple[Path, str]:
    """The path of a file that is not there yet, and its folder as ComfyUI's editor names it."""
    prefix = safe_prefix(prefix)
    path = in_output(prefix, PREFIX)
    there = next(folder for folder in path.parents if folder.exists())
    if not there.is_dir():
        raise KnotError(f"got the filename_prefix {short(prefix)}, but {there.name} is a file: choose another folder")
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, str(output_folder()))
    # ComfyUI counts what has the name in the same case, which is not all that some file systems take for it
    while os.path.lexists(path := Path(folder, f"{name}_{counter:05}_{suffix}")):
        counter += 1
    return path, subfolder


def safe_prefix(prefix: str) -> str:
    """The same where every system can hold it: Windows takes neither some characters and words nor an end in a dot."""
    _writable(prefix, PREFIX)
    parts = [_safe(part) for part in re.split(_SLASH, prefix)]
    if parts[-1] in ("", ".", ".."):  # a folder, or nothing at all
        parts = [*(parts if parts[-1] else parts[:-1]), USUAL_NAME]
    return "/".join(parts)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that leads out of the output folder, or that no disc takes; its %words% are not yet known."""
    in_output(safe_prefix(prefix), PREFIX)


def _safe(part: str) -> str:
    if part in ("", ".", ".."):  # which mean folders
        return part
    part = _FORBIDDEN.sub("_", part).rstrip(". ") or "_"
    return f"_{part}" if _DEVICE.fullmatch(part.partition(".")[0].rstrip()) else part


def one_of(name: str, names: list[str], what: str) -> str:
    """A choice; ComfyUI checks those of widgets, but not what comes through a cable."""
    if name not in names:
        raise KnotError(f"got the {what} {short(name)}, which the pack has not: choose {', '.join(names)}")
    return name


def _writable(name: str, what: str) -> str:
    """No half characters either, which JSON can hold: they are not printable."""
    if not name.isprintable() or any(len(part.encode()) > _LONGEST for part in re.split(r"[\\/]", name)):
        raise KnotError(f"got the {what} {short(name)}, wanted printable characters, and at most {_LONGEST} of them "
                        "between two slashes: choose a shorter, plainer one")  # fmt: skip
    return name
