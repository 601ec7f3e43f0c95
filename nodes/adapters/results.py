"""Which files nodes have written, so that ComfyUI's cache serves a result only while it is there, and whole.

A node is known by its own widgets: two with the same values share an entry, which at worst makes one of them
run once more.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_execution.utils import get_executing_context

_written: defaultdict[str, list[Path]] = defaultdict(list)
_made_anew: defaultdict[str, int] = defaultdict(int)  # how often a result was found gone, or was cut short


def written(prompt: Any, path: Path, *, whole: bool = True) -> None:
    """Note that a node wrote `path`; `prompt` is its hidden input of that name.

    Not `whole`: somebody ended it early, so the next run with the same inputs is to make it anew.
    """
    key = _key(_own_inputs(prompt))
    _written[key].append(path)
    _made_anew[key] += not whole


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """A fingerprint of a node's inputs before it runs; it changes once a written file is gone or was cut short."""
    key = _key(inputs)
    files = _written.get(key, [])
    there = [path for path in files if path.exists()]
    # counted once: what is made anew may have the name of what is gone
    _made_anew[key] += len(files) - len(there)
    files[:] = there
    return str(_made_anew[key])


def _own_inputs(prompt: Any) -> Mapping[str, Any]:
    context = get_executing_context()
    node = (prompt or {}).get(context.node_id, {}) if context is not None else {}
    return node.get("inputs", {})


def _key(inputs: Mapping[str, Any]) -> str:
    """A key of the node's own widget values; a connected input is a list in a prompt, and None before the node runs."""
    own = {name: value for name, value in inputs.items() if isinstance(value, str | int | float | bool)}
    return repr(sorted(own.items()))
