"""Frames that leave a node know nothing of their rate: said where a node further on plays them at another."""

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_execution.utils import get_executing_context

from .warnings import warn_on_node

_RATES = ("fps", "frame_rate")  # of Create Video, and of other packs' nodes


def warn_of_other_rates(prompt: Mapping[str, Any] | None, fps: int, slots: tuple[int, ...]) -> None:
    """Warn on the node that executes, whose outputs `slots` are frames at `fps` a second."""
    context = get_executing_context()
    if context is None or not prompt:
        return
    for name, rate in _rates_behind(prompt, context.node_id, slots):
        if rate != fps:
            warn_on_node(f"these frames play at {fps} fps, and {name} plays them at {rate:g}: set it to {fps} there")


def _rates_behind(prompt: Mapping[str, Any], start: str, slots: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """Every node that the frames come to, directly or through others, and that has a rate: its name and that."""
    reached, waiting = {start}, [key for key, slot in _cables(prompt, start) if slot in slots]
    while waiting:
        key = waiting.pop()
        if key in reached:
            continue
        reached.add(key)
        node = prompt[key]
        rate = next((node["inputs"][name] for name in _RATES if name in node["inputs"]), None)
        if rate is None:
            waiting += [behind for behind, _ in _cables(prompt, key)]
        elif isinstance(rate, int | float):
            yield node.get("_meta", {}).get("title") or node["class_type"], rate


def _cables(prompt: Mapping[str, Any], key: str) -> Iterator[tuple[str, int]]:
    """Which nodes take something of this one, and from which output."""
    for other, node in prompt.items():
        for value in node.get("inputs", {}).values():
            if isinstance(value, list) and len(value) == 2 and str(value[0]) == key:
                yield other, value[1]
