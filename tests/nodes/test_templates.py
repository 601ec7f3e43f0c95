"""The templates as a reader sees them: nothing covers anything, everything stands in a named group, a note explains."""

import itertools
import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
INTERFACE = json.loads((ROOT / "tests" / "nodes" / "interface.json").read_text(encoding="utf-8"))
TITLE = 30  # pixels above a node's `pos`
SLOT, WIDGET = 20, 24  # pixels that the editor gives to a row of cables, and to a widget
SHOWN = {"KnotForcingEncodeAnchor": 594}  # pixels with all that a node shows after a run, in Nodes 2.0
SCREEN = (1680, 960)  # pixels
FILLED, READABLE, BORDER = 0.75, 0.65, 20
FILE = re.compile(r"\.(safetensors|pt|pth|gguf)$")
USES = {  # every one has its template
    "talk": "portrait_from_audio",
    "photo": "portrait_photo",
    "chunks": "portrait_chunks",
    "timeline": "portrait_timeline",
    "resume": "portrait_resume",
    "hybrid drive": "portrait_hybrid",
    "idle": "portrait_idle",
    "loop": "portrait_loop",
    "headless": "portrait_headless",
    "live": "portrait_live",
}


def box(node):
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a, b):
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def group_box(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def graph(request):
    return read(request.param)


@pytest.fixture(params=WORKFLOWS + BLUEPRINTS, ids=lambda path: path.stem)
def nodes(request):
    """The nodes of a template, or those inside a blueprint."""
    found = read(request.param)
    return found["definitions"]["subgraphs"][0]["nodes"] if request.param in BLUEPRINTS else found["nodes"]


def test_there_is_a_template_for_each_use():
    assert set(USES.values()) <= {path.stem for path in WORKFLOWS}


def test_no_node_covers_another(nodes):
    pairs = itertools.combinations(nodes, 2)
    assert not [(a["type"], b["type"]) for a, b in pairs if overlap(box(a), box(b))]


def test_every_node_has_room_for_its_cables_and_widgets(nodes):
    """The editor would make it larger, over what stands below."""
    assert nodes
    for node in nodes:
        widgets = sum("widget" in slot for slot in node["inputs"])
        rows = max(len(node["inputs"]) - widgets, len(node["outputs"]))
        assert node["size"][1] >= rows * SLOT + widgets * WIDGET, node["type"]


def test_what_a_node_shows_after_a_run_has_its_room(nodes):
    assert nodes
    for node in nodes:
        has_picture = any(slot["name"] == "image" and slot["link"] for slot in node["inputs"])
        assert node["size"][1] >= has_picture * SHOWN.get(node["type"], 0), node["type"]


def test_nodes_have_every_input_and_output_that_they_have_in_the_editor(graph):
    """A file without a later widget opens, but its node has less room than it needs."""
    ours = [node for node in graph["nodes"] if node["type"] in INTERFACE]
    assert ours
    for node in ours:
        recorded = INTERFACE[node["type"]]
        names = {name for group in ("required", "optional") for name, _ in recorded[group]}
        assert {slot["name"] for slot in node["inputs"]} == names, node["type"]
        assert [slot["name"] for slot in node["outputs"]] == [name for name, _ in recorded["outputs"]], node["type"]
        widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot]
        assert len(node["widgets_values"]) == len(widgets) + widgets.count("seed"), node["type"]


def test_every_node_stands_in_one_group_and_groups_stand_apart(graph):
    groups = [group_box(group) for group in graph["groups"]]
    assert all(group["title"] for group in graph["groups"])
    assert not [pair for pair in itertools.combinations(groups, 2) if overlap(*pair)]
    assert graph["nodes"]
    for node in graph["nodes"]:
        homes = [group for group in groups if inside(box(node), group)]
        assert len(homes) == (0 if node["type"] == "MarkdownNote" else 1), node["type"]


def test_one_note_explains_it_first(graph):
    """It stands left of all, where reading begins."""
    (note,) = [node for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    assert note["widgets_values"][0].startswith("## ")
    assert all(note["pos"][0] + note["size"][0] <= group["bounding"][0] for group in graph["groups"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_thumbnail_is_a_square(path):
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (512, 512)


def test_files_to_download_are_named_with_their_place(graph):
    """For the editor's panel of missing models; the note links the same repositories."""
    (note,) = [node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    for node in graph["nodes"]:
        wanted = [value for value in node["widgets_values"] if FILE.search(str(value))]
        models = node["properties"].get("models", [])
        assert [model["name"] for model in models] == wanted, node["type"]
        for model in models:
            assert f"`models/{model['directory']}`" in note
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].replace("/resolve/", "/blob/") in note


def test_some_templates_name_files_to_download():
    """Else the test above compares empty lists."""
    graphs = [read(path) for path in WORKFLOWS]
    models = [model for graph in graphs for node in graph["nodes"] for model in node["properties"].get("models", [])]
    assert len(models) > 3


def test_it_is_no_larger_than_a_small_screen_shows(graph):
    """When the template browser opens one, the editor fills three quarters of the screen with its nodes."""
    corners = [box(node) for node in graph["nodes"]]
    left, top = (min(corner[side] for corner in corners) for side in (0, 1))
    right, bottom = (max(corner[side] for corner in corners) for side in (2, 3))
    assert right - left + BORDER <= SCREEN[0] * FILLED / READABLE
    assert bottom - top + BORDER <= SCREEN[1] * FILLED / READABLE
    assert graph["extra"]["ds"]["scale"] >= READABLE
