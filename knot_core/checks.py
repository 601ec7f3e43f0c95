"""Checks that settings use."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .errors import CheckpointError, SettingsError, listed, short

MOST_OF_A_NETWORK = 2**20  # a size beyond it is no Wan network's but a mistake, or a stranger's joke


def require(holds: bool, message: str) -> None:
    """SettingsError where it does not hold."""
    if not holds:
        raise SettingsError(message)


def require_counts(settings: object, *names: str) -> None:
    """Require that these fields are whole numbers, one or more."""
    for name in names:
        value = getattr(settings, name)
        require(
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_OF_A_NETWORK,
            f"{name} is {short(value)}; it must be a whole number from 1 to {MOST_OF_A_NETWORK}",
        )


def require_switches(settings: object, *names: str) -> None:
    """Require that these fields are True or False."""
    for name in names:
        value = getattr(settings, name)
        require(isinstance(value, bool), f"{name} is {short(value)}; it must be True or False")


def require_choices(settings: object, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Each field is one of its choices."""
    for name, among in choices.items():
        value = getattr(settings, name)
        require(isinstance(value, str) and value in among,
                f"{name} is {short(value)}; choose one of {', '.join(among)}")  # fmt: skip


def require_known_fields(cls: type, values: Any) -> None:
    """CheckpointError where stored values are not those of the class's fields."""
    if not isinstance(values, Mapping):
        raise CheckpointError(f"the stored {cls.__name__} is {short(values)}, and must name its fields; get it again")
    fields = dataclasses.fields(cls)
    unknown = sorted(str(name) for name in set(values) - {field.name for field in fields})
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise CheckpointError(
            f"the stored {cls.__name__} has unknown fields [{listed(unknown)}] and lacks [{listed(missing)}]; "
            "it was written by another version of this software"
        )
