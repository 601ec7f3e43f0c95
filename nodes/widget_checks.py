"""Checks of a node's widgets before anything runs.

ComfyUI no longer holds the widgets that `validate_inputs` names to their limits, so that is done here, too.
"""

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from . import adapters


def valid(node: type[io.ComfyNode], check: Callable[[], object], **widgets: Any) -> bool | str:
    """True, or what is wrong. None stands for what comes through a cable; `check` runs where all are known."""
    limits = {found.id: found for found in node.define_schema().inputs}
    for name, value in widgets.items():
        if value is not None and (wrong := _outside(limits[name], value)):
            return wrong
    if any(value is None or value != value for value in widgets.values()):  # noqa: PLR0124 - NaN, which JSON alone has
        return True
    return adapters.mistake_in(check) or True


def _outside(limits: io.Input, value: Any) -> str | None:
    options = getattr(limits, "options", None)
    if options is not None and value not in options:
        return f"{limits.id} is {adapters.short(value)}; choose one of {adapters.listed(options)}"
    low, high = getattr(limits, "min", None), getattr(limits, "max", None)
    if isinstance(value, int | float) and ((low is not None and value < low) or (high is not None and value > high)):
        return f"{limits.id} is {value}; give a number from {low} to {high}"
    return None
