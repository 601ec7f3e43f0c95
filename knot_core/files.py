"""The user's files: text in whatever encoding editors write, and that nothing is written over what is read."""

import codecs
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from .errors import KnotError, SettingsError, short

Place = str | os.PathLike[str]

# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\ufeff"
# what of a folder of weights is read
_OF_WEIGHTS = {".safetensors", ".sft", ".json", ".bin", ".pt", ".pth", ".ckpt", ".model", ".txt"}


def read_text(path: Place, what: str, error: type[KnotError] = SettingsError) -> str:
    """A text file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without; `what` names it in an error."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        why = problem.strerror or problem
        raise error(f"{what} {path} cannot be read ({why}); give the path of a text file") from problem
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as problem:
        raise error(f"{what} {path} is no text in UTF-8 or UTF-16; save it as UTF-8 in your editor") from problem
    if "\0" in text:
        raise error(f"{what} {path} contains NUL characters, so it is not text; give a text file")
    return text


def _encoding(data: bytes) -> str:
    """The encoding, by byte order mark; without one, by where the zero bytes of ASCII characters stand."""
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if marked is not None:
        return marked
    zeros, quarter = [data[place::4].count(0) for place in range(4)], len(data) / 4
    for encoding, always, mostly in (("utf-32-le", 3, 2), ("utf-32-be", 0, 1)):  # no character is beyond U+10FFFF
        if zeros[always] == quarter < 2 * zeros[mostly]:
            return encoding
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    begins_wide = len(data) >= 2 and bool(data[0]) != bool(data[1])
    if even == odd or not (begins_wide or (len(data) % 2 == 0 and not _is_utf8(data))):
        return "utf-8"
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_settings(path: Place) -> dict[str, Any]:
    """The object that a JSON file of settings holds; SettingsError if it holds none."""
    try:
        found = json.loads(read_text(path, "the file of settings"))
    except SettingsError:
        raise
    except (ValueError, RecursionError) as problem:
        raise SettingsError(f"the file of settings {path} is not JSON ({short(problem, str)}); get it again"
                            ) from problem  # fmt: skip
    if not isinstance(found, dict):
        raise SettingsError(f"the file of settings {path} must hold an object, and holds {short(found)}; get it again")
    return found


def without_mark(text: str) -> str:
    """Text that was pasted, or passed on by another program, without the byte order mark that it may begin with."""
    return text.removeprefix(_MARK)


def same_place(one: Place, other: Place) -> bool:
    """Whether both paths are one file or folder, or would be: through links, and where case makes no difference."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there yet
        return _spelled(one) == _spelled(other)


def lies_within(path: Place, folder: Place) -> bool:
    """Whether a path leads into a folder, or is it."""
    path = Path(os.path.realpath(path))
    return any(same_place(place, folder) for place in (path, *path.parents))


def check_places(outputs: Mapping[str, Place | None], *, folders: Sequence[str] = ()) -> None:
    """Refuse a file where a folder is, and anything below a file, before the work is done that is to be written there.

    `folders` names the outputs that are folders; paths of None are not given.
    """
    for name, path in outputs.items():
        if path is None:
            continue
        if os.path.isdir(path) and name not in folders:
            raise SettingsError(f"{name} {path} is a folder; name a file in it")
        there = next((place for place in Path(path).absolute().parents if place.exists()), None)
        if there is not None and not there.is_dir():
            raise SettingsError(f"{name} {path} would lie in {there.name}, which is no folder; choose another place")


def check_outputs(outputs: Mapping[str, Place | None], inputs: Mapping[str, Place | None], *,
                  folders: Sequence[str] = (), replaces: Mapping[str, str] | None = None) -> None:  # fmt: skip
    """Refuse an output that is an input or another output, before either is opened; paths of None are not given.

    `folders` names the outputs that are folders: nothing else may lie in them. `replaces` says which output may take
    the place of which input. Both are as the user calls them, such as --out and --audio.
    """
    written = {name: path for name, path in outputs.items() if path is not None and not _is_device(path)}
    read = {name: path for name, path in inputs.items() if path is not None}
    for name, path in written.items():
        for other, source in read.items():
            if (replaces or {}).get(name) != other and _would_harm(path, source, is_folder=name in folders):
                raise SettingsError(
                    f"{name} {path} would be written over {other} {source}; choose another name for {name}"
                )
    for (name, path), (other, second) in combinations(written.items(), 2):
        if same_place(path, second) or any(
            inner in written and lies_within(place, folder)
            for inner, place, outer, folder in ((name, path, other, second), (other, second, name, path))
            if outer in folders
        ):
            raise SettingsError(f"{name} {path} and {other} {second} would be written over each other; give each a "
                                "name of its own")  # fmt: skip


def _is_device(path: Place) -> bool:
    """Such as /dev/null, which anything may be written to."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _would_harm(output: Place, source: Place, *, is_folder: bool) -> bool:
    if same_place(output, source) or (is_folder and lies_within(source, output)):
        return True
    is_read = Path(output).suffix.lower() in _OF_WEIGHTS and os.path.exists(output)
    return is_read and os.path.isdir(source) and lies_within(output, source)


def _spelled(path: Place) -> tuple[str, ...]:
    """The resolved path's parts, of one case and form where the file system sees no difference."""
    resolved = Path(os.path.realpath(path))
    there = next((place for place in (resolved, *resolved.parents) if place.exists()), None)
    if there is None or not _ignores_case(there):
        return resolved.parts
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in resolved.parts)


def _ignores_case(there: Path) -> bool:
    """Whether the file system finds an existing path under the other case, too."""
    for place in (there, *there.parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if other.name != place.name:
            try:
                return os.path.samefile(place, other)
            except OSError:
                return False
    return False


def parts_of_weights(path: Place | None) -> Iterator[Path]:
    """The files beside a weights file that are read with it: its own video autoencoder, and the other shards."""
    if path is None or (path := Path(path)).is_dir():
        return
    yield path.with_name(f"{path.stem}-codec.safetensors")
    if path.name.endswith(".index.json") or "-of-" in path.name:
        yield from sorted(path.parent.glob("*-of-*.safetensors"))
