"""Workflows and blueprints of every released version, in tests/fixtures, against the nodes of today.

tests/host/test_workflow_files.py reads the same files with a running ComfyUI.
"""

import json
from pathlib import Path

import pytest

from .interface import recorded

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
API = sorted(FIXTURES.glob("v*/workflows/api/*.json"))
EDITOR = sorted([*FIXTURES.glob("v*/workflows/*.json"), *FIXTURES.glob("v*/subgraphs/*.json")])
INTERFACE = recorded()
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def label(path):
    return f"{path.relative_to(FIXTURES).parts[0]} {path.stem}"


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def graphs(workflow):
    """The graph and those of its subgraphs: nodes, and links as (origin, slot, type)."""
    links = {link[0]: (link[1], link[2], link[5]) for link in workflow["links"]}
    yield workflow["nodes"], links
    for graph in workflow.get("definitions", {}).get("subgraphs", []):
        made = {link["id"]: (link["origin_id"], link["origin_slot"], link["type"]) for link in graph["links"]}
        yield graph["nodes"], made


def inputs_of(kind):
    node = INTERFACE[kind]
    return dict(map(tuple, [*node["required"], *node["optional"]]))


def test_the_first_version_has_its_workflows_in_both_forms():
    first = FIXTURES / "v1" / "workflows"
    names = {path.stem for path in first.glob("*.json")}
    assert len(names) == 11
    assert names == {path.stem for path in (first / "api").glob("*.json")}
    assert len([*(FIXTURES / "v1" / "subgraphs").glob("*.json")]) == 2


@pytest.mark.parametrize("path", API, ids=label)
def test_what_a_queued_workflow_says_is_what_nodes_take(path):
    workflow = load(path)
    assert any(node["class_type"].startswith("KnotForcing") for node in workflow.values())
    for number, node in workflow.items():
        if not node["class_type"].startswith("KnotForcing"):
            continue
        kinds, required = inputs_of(node["class_type"]), INTERFACE[node["class_type"]]["required"]
        assert set(node["inputs"]) <= set(kinds), number
        assert {name for name, _ in required} <= set(node["inputs"]), number
        for name, value in node["inputs"].items():
            choices = INTERFACE[node["class_type"]]["choices"].get(name)
            if isinstance(value, list):
                check_cable(workflow[value[0]]["class_type"], value[1], kinds[name])
            elif choices is not None:
                assert value in choices, (number, name)


def check_cable(origin, slot, kind):
    """Whether an output of one of our nodes is what the input takes."""
    if origin.startswith("KnotForcing"):
        assert INTERFACE[origin]["outputs"][slot][1] == kind


def widget_names(node):
    """One for each stored value; None for what is to become of a seed after a run."""
    cables = {slot["name"] for slot in node["inputs"] if "widget" not in slot}
    for name, kind in inputs_of(node["type"]).items():
        if kind in WIDGETS and name not in cables:
            yield from (name, None) if name == "seed" else (name,)


@pytest.mark.parametrize("path", EDITOR, ids=label)
def test_what_an_editors_file_keeps_by_position_is_where_it_was(path):
    checked = 0
    for nodes, links in graphs(load(path)):
        kinds = {node["id"]: node["type"] for node in nodes}
        for node in [node for node in nodes if node["type"].startswith("KnotForcing")]:
            check_cables(node, links, kinds)
            names, values = list(widget_names(node)), node.get("widgets_values", [])
            assert len(values) <= len(names), "newer versions have more widgets, behind the older ones"
            for name, value in zip(names, values, strict=False):
                assert value in INTERFACE[node["type"]]["choices"].get(name, [value])
            checked += 1
    assert checked


def check_cables(node, links, kinds):
    inputs = inputs_of(node["type"])
    for slot in node["inputs"]:
        assert inputs[slot["name"]] == slot["type"]
        if slot["link"] is not None:
            origin, number, _ = links[slot["link"]]
            check_cable(kinds.get(origin, ""), number, slot["type"])
