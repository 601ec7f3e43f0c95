"""Node ids, inputs, outputs and choices stay as they were recorded: saved workflows go by them.

To extend the interface on purpose, see tests/nodes/interface.py.
"""

import copy

import pytest

from .interface import HOW_TO, losses, recorded
from .node_sources import Sources

OLD = {
    "Node": {
        "required": [["model", "MODEL"], ["mode", "COMBO"]],
        "optional": [["seed", "INT"]],
        "choices": {"mode": ["a", "b"]},
        "outputs": [["images", "IMAGE"]],
        "lists": [True],
    }
}


def changed(**parts):
    new = copy.deepcopy(OLD)
    new["Node"].update(parts)
    return new


def test_the_sources_say_what_was_recorded():
    """tests/host/test_nodes.py asks ComfyUI itself, choices too."""
    said = {name: {part: node[part] for part in node if part != "choices"} for name, node in recorded().items()}
    assert dict(sorted(Sources().interface().items())) == said, HOW_TO


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        OLD | {"Another": OLD["Node"]},
        changed(optional=[["seed", "INT"], ["steps", "INT"]]),
        changed(outputs=[["images", "IMAGE"], ["state", "STATE"]], lists=[True, False]),
        changed(choices={"mode": ["c", "b", "a"], "other": ["d"]}),
        changed(outputs=[["pictures", "IMAGE"]]),
    ],
)
def test_growth_at_the_end_loses_nothing(new):
    assert losses(OLD, new) == []


@pytest.mark.parametrize(
    "new",
    [
        {},
        changed(required=[["mode", "COMBO"], ["model", "MODEL"]]),
        changed(required=[["model", "MODEL"], ["mode", "COMBO"], ["more", "INT"]]),
        changed(optional=[]),
        changed(optional=[["steps", "INT"], ["seed", "INT"]]),
        changed(optional=[["seed", "FLOAT"]]),
        changed(outputs=[["images", "VIDEO"]]),
        changed(outputs=[]),
        changed(lists=[False]),
        changed(choices={"mode": ["a"]}),
        changed(choices={}),
    ],
)
def test_what_would_break_a_saved_workflow_is_a_loss(new):
    assert losses(OLD, new)
