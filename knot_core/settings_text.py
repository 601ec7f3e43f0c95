"""Settings as lines of text: ``num_window_frames = 9``."""

import dataclasses
from typing import Any

from .errors import SettingsError, short
from .files import without_mark
from .stream_settings import StreamSettings

_SWITCH = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


def changed_settings(text: str) -> dict[str, Any]:
    """Lines such as ``num_window_frames = 9`` -> settings by name; a # begins a comment.

    Raises SettingsError for a line that is no setting, and for a value of another kind. Unknown names are left to
    `with_settings`.
    """
    kinds = {setting.name: setting.type for setting in dataclasses.fields(StreamSettings)}
    changes = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in without_mark(text).splitlines())):
        name, found, value = (part.strip() for part in line.partition("="))
        if not found:
            raise SettingsError(
                f"got the line {short(line)}, wanted a setting and its value, such as num_window_frames = 9"
            )
        changes[name] = _typed(name, kinds.get(name, str), value)
    return changes


def timesteps(text: str) -> tuple[float, ...]:
    """ "1000,757,522" -> (1000.0, 757.0, 522.0); raises ValueError for anything else."""
    return tuple(float(part) for part in text.split(",") if part.strip())


def _typed(name: str, kind: type, text: str) -> Any:
    try:
        if kind is bool:
            return _SWITCH[text.lower()]
        return kind(text) if kind in (int, float, str) else timesteps(text)
    except (ValueError, KeyError) as problem:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "numbers with commas")
        raise SettingsError(f"{short(name, str)} is {short(text)}; give {wanted}") from problem
