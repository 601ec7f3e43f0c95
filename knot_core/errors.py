"""Mistakes of the user, each with one sentence: what was got, what is wanted, what to do."""

from collections.abc import Callable, Sequence


class KnotError(ValueError):
    """Base class of all errors that a user can cause and correct."""


class SettingsError(KnotError):
    """A setting out of range, or a combination that cannot work."""


class CheckpointError(KnotError):
    """A weights file that is damaged, incomplete, or of another model."""


class MediaError(KnotError):
    """A picture, sound or video that cannot be read or written."""


class DrivingError(KnotError):
    """A driving signal that does not fit the model or the stream."""


class StateError(KnotError):
    """A saved stream that cannot go on here."""


for _error in (KnotError, *KnotError.__subclasses__()):
    _error.__module__ = "knot_core"  # where users find them. Hosts show it, and ComfyUI's name of this file is a path


def mistake_in(check: Callable[[], object]) -> str | None:
    """The message of the `KnotError` that a check raises; None if it raises none."""
    try:
        check()
    except KnotError as problem:
        return str(problem)
    return None


_SHOWN = 8  # names in a message
_LONGEST = 60  # characters of a value that somebody gave


def listed(names: Sequence[object]) -> str:
    """The first few, and how many more: a stranger's file may hold a hundred thousand."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(short(name, str) for name in names[:_SHOWN]) + more


def short(value: object, form: Callable[[object], str] = repr) -> str:
    """A value as an error shows it: on one line, and not too long to read."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge number"
    try:
        text = " ".join(form(value).split())
    except (ValueError, RecursionError):  # of numbers with more digits than Python writes out, and lists too deep
        return f"a huge {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
