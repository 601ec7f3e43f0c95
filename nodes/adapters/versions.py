"""The differences between ComfyUI's versions, from 0.8.0 on: all of them are here, and nowhere else.

Each function is given the host's own thing and goes by what that has, not by a version's number.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

# What a node may say of itself that not every ComfyUI has a word for.
LATER_WORDS = {
    "search_aliases",  # of a Schema, since 0.11
    "advanced",  # of an Input; 0.8.0 has it not, 0.33.0 has
}


def known_to(kind: Callable[..., Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """`said` without the later words that `kind` does not take; any other word that it does not take fails there."""
    takes = inspect.signature(kind).parameters
    return {word: value for word, value in said.items() if word in takes or word not in LATER_WORDS}


def patcher_class(model_patcher: ModuleType) -> type:
    """The patcher class of `comfy.model_patcher`. Later versions choose it when they start, so look it up late."""
    return getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)


def source_file(model: Any) -> str | None:
    """The file of a MODEL; only later versions remember how it was loaded."""
    _, arguments, *_ = getattr(model, "cached_patcher_init", None) or (None, ())
    return arguments[0] if arguments and isinstance(arguments[0], str) else None


def trim_window(video: Any) -> tuple[float, float]:
    """The first second and the seconds that a VIDEO has of its file; only later versions can cut one (Video Slice)."""
    if not hasattr(video, "get_active_trim_window"):
        return 0.0, math.inf
    start, length = video.get_active_trim_window()
    return start, length or math.inf  # theirs has 0 for all of it
