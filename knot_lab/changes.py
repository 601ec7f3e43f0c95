"""`--set name=value`: the command line's changes of a recipe."""

from __future__ import annotations

import dataclasses
from ast import literal_eval
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from knot_core.errors import SettingsError

R = TypeVar("R")
_MAY_BE_NONE = ("adapter", "image_dim")


def changed(recipe: R, changes: Iterable[str]) -> R:
    """The recipe with `name=value` changes, all at once; names go down by dots, as in `distill.steps=100`."""
    tree: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise SettingsError(f"got --set {change}; give name=value, such as distill.steps=100")
        *above, last = name.split(".")
        place = tree
        for step in above:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise SettingsError(f"got --set {change}, but {step} is set, too; give one of them")
        place[last] = _value(text)
    return _replaced(recipe, tree, "")


def _value(text: str) -> object:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _replaced(settings: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    known = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings)}
    values = {}
    for name, value in tree.items():
        if name not in known:
            raise SettingsError(f"got --set {prefix}{name}; {type(settings).__name__} has {', '.join(known)}")
        old = known[name]
        if dataclasses.is_dataclass(old) and isinstance(value, dict):
            values[name] = _replaced(old, value, f"{prefix}{name}.")
        else:
            values[name] = _like(old, value, prefix + name)
    return replace(settings, **values)


def _like(old: object, value: object, name: str) -> object:
    """The value as what was there is: whole numbers do for any number, lists for tuples."""
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if value is None and name.rpartition(".")[2] in _MAY_BE_NONE:
        return None
    if old is not None and type(value) is not type(old):
        raise SettingsError(f"got --set {name}={value!r}; it is {old!r} now, give a value like that")
    return value
