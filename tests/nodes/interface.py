"""The nodes' interface: what saved workflows and scripts rely on. tests/nodes/interface.json records it.

It may grow, and only so that everything old still runs: new nodes, new optional inputs behind all others, new outputs
behind all others, new choices of a combo. What an output is called may change: cables go by its number.
`python -m tests.host.write_interface http://127.0.0.1:8188` records what a running ComfyUI says, and refuses to where
something recorded would be lost.
"""

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("interface.json")
OF_FILES = {"model_name", "codec", "lora_name", "audio_modules", "state_file"}  # combos that list a user's files
HOW_TO = (
    "Saved workflows keep widgets by position and cables by number, so the interface only grows: new optional inputs "
    "and new outputs go to the end, and ids, names, types and choices stay. If it grew on purpose, record it: "
    "python -m tests.host.write_interface http://127.0.0.1:8188 (see tests/nodes/interface.py). "
)

Interface = dict[str, dict[str, Any]]


def recorded() -> Interface:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def interface(object_info: dict[str, Any]) -> Interface:
    """The interface of the pack's nodes, as ComfyUI's /object_info gives it."""
    return {name: _node(info) for name, info in sorted(object_info.items()) if name.startswith("KnotForcing")}


def _node(info: dict[str, Any]) -> dict[str, Any]:
    parts = {part: info["input"].get(part, {}) for part in ("required", "optional")}
    inputs = {part: [[name, spec[0]] for name, spec in specs.items()] for part, specs in parts.items()}
    choices = {
        name: spec[1]["options"]
        for specs in parts.values() for name, spec in specs.items() if spec[0] == "COMBO" and name not in OF_FILES
    }  # fmt: skip
    outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
    return {**inputs, "choices": choices, "outputs": outputs, "lists": info["output_is_list"]}


def losses(old: Interface, new: Interface) -> list[str]:
    """What of the old interface is not in the new one as it was; empty if all that ran still runs."""
    gone = [f"{name}: gone" for name in old if name not in new]
    return gone + [f"{name}: {loss}" for name in old if name in new for loss in _losses(old[name], new[name])]


def _losses(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found = []
    if new["required"] != old["required"]:
        found.append(f"required inputs were {old['required']}, are {new['required']}")
    for part, as_saved in (("optional", list), ("outputs", _types), ("lists", list)):
        before, now = as_saved(old[part]), as_saved(new[part])
        if now[: len(before)] != before:
            found.append(f"{part} were {before}, and are not how {now} begins")
    for name, choices in old["choices"].items():
        missing = [choice for choice in choices if choice not in new["choices"].get(name, ())]
        if missing:
            found.append(f"{name} cannot be {missing} any more")
    return found


def _types(outputs: list[list[str]]) -> list[str]:
    return [kind for _, kind in outputs]
