"""Subgraph blueprints as files: whole, of nodes as they are recorded, with every cable where it says it is."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
INTERFACE = json.loads((ROOT / "tests" / "nodes" / "interface.json").read_text(encoding="utf-8"))
INPUT, OUTPUT = -10, -20  # the editor's numbers for a subgraph's two sides


@pytest.fixture(params=BLUEPRINTS, ids=lambda path: path.stem)
def file(request):
    return request.param


@pytest.fixture
def blueprint(file):
    graph = json.loads(file.read_text(encoding="utf-8"))
    (node,) = graph["nodes"]
    (definition,) = graph["definitions"]["subgraphs"]
    return node, definition


def test_there_are_two_that_need_no_download():
    assert [path.stem for path in BLUEPRINTS] == ["Idle Portrait", "Talking Portrait"]


def test_its_one_node_shows_the_sides_of_its_graph(file, blueprint):
    node, definition = blueprint
    assert node["type"] == definition["id"]
    assert node["title"] == definition["name"] == file.stem
    assert definition["category"] == "Knot Forcing"
    assert definition["description"]
    for side in ("inputs", "outputs"):
        outside, inside = ([(slot["name"], slot["type"]) for slot in each[side]] for each in blueprint)
        assert outside == inside


def test_its_widgets_are_those_of_nodes_inside(blueprint):
    node, definition = blueprint
    inside = {str(each["id"]): each for each in definition["nodes"]}
    shown = [slot["name"] for slot in node["inputs"] if "widget" in slot]
    assert [name for _, name in node["properties"]["proxyWidgets"]] == shown
    assert shown
    for number, name in node["properties"]["proxyWidgets"]:
        assert name in {slot["name"] for slot in inside[number]["inputs"] if "widget" in slot}


def test_nodes_have_the_recorded_inputs(blueprint):
    assert blueprint[1]["nodes"]
    for node in blueprint[1]["nodes"]:
        recorded = INTERFACE[node["type"]]
        widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot]
        order = [name for group in ("required", "optional") for name, _ in recorded[group]]
        assert {slot["name"] for slot in node["inputs"]} == set(order)
        assert sorted(widgets, key=order.index) == widgets
        behind_seeds = widgets.count("seed")  # what is to become of the seed after a run
        assert len(node["widgets_values"]) == len(widgets) + behind_seeds


def test_cables_end_where_both_ends_know_of_them(blueprint):
    definition = blueprint[1]
    nodes = {node["id"]: node for node in definition["nodes"]}
    assert definition["links"]
    for link in definition["links"]:
        number, kind = link["id"], link["type"]
        if link["origin_id"] == INPUT:
            start = definition["inputs"][link["origin_slot"]]
            assert number in start["linkIds"]
        else:
            start = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert number in start["links"]
        if link["target_id"] == OUTPUT:
            end = definition["outputs"][link["target_slot"]]
            assert number in end["linkIds"]
        else:
            end = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert end["link"] == number
        assert start["type"] == end["type"] == kind
    known = {link["id"] for link in definition["links"]}
    for node in definition["nodes"]:
        assert {slot["link"] for slot in node["inputs"]} - {None} <= known
        assert {number for slot in node["outputs"] for number in slot["links"] or ()} <= known
