"""What can be checked of the pack without a ComfyUI, by reading its files."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / "nodes"
SOURCES = sorted(NODES.glob("*.py"))
ADAPTERS = sorted((NODES / "adapters").glob("*.py"))
EXTRA = {
    "KnotForcingDrivingFromEncodedAudio",  # the second best way, so in no template
    "KnotForcingPoseFromVideo",  # needs a package that not everybody has; tests/host runs it
    "KnotForcingPasteBack",  # for a picture that is larger than its portrait, which the bundled ones are not
}
NODE_IDS = re.findall(r'node_id="(\w+)"', "".join(path.read_text(encoding="utf-8") for path in SOURCES))
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
API_WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
ON_THE_SERVERS_THREAD = {"route_access.py", "routes.py", "live_routes.py"}  # which ComfyUI's stop never reaches
MAX_EXECUTE_LINES = 25
MAX_FILE_LINES = 300


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]


def imported(path):
    """Top-level names of absolute imports, and relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "").split(".")[0]


def test_there_is_something_to_check_of_each_kind():
    """The tests below take these lists apart; an empty one would pass them."""
    assert len(SOURCES) > 8
    assert len(ADAPTERS) > 20
    assert len(WORKFLOWS) == len(API_WORKFLOWS) > 8
    assert BLUEPRINTS
    executes = [f for path in SOURCES for f in functions(path) if f.name == "execute"]
    assert len(executes) == len(NODE_IDS)
    assert len(files_to_download(WORKFLOWS)) > 3
    inputs = {name for path in API_WORKFLOWS for node in load(path).values() for name in node["inputs"]}
    assert {"portrait", "speech"} <= inputs


def files_to_download(paths):
    """Names of weights files in the widgets of the workflows."""
    values = {str(value) for path in paths for node in load(path)["nodes"] for value in node.get("widgets_values", [])}
    return {value for value in values if re.fullmatch(r"\S+\.(safetensors|pt)", value)}


def test_there_are_nodes_and_their_ids_are_ours():
    assert len(NODE_IDS) == len(set(NODE_IDS)) >= 7
    assert all(name.startswith("KnotForcing") for name in NODE_IDS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_node_translates_in_few_lines(path):
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.name == "execute"}
    assert all(lines <= MAX_EXECUTE_LINES for lines in long.values()), long


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_the_adapters_know_both_sides(path):
    names = set(imported(path))
    assert "..knot_core" not in names
    assert not names & {"comfy", "comfy_execution", "folder_paths", "server", "execution"}


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.name)
def test_adapters_know_no_node_and_stay_short(path):
    names = set(imported(path))
    assert "comfy_api" not in names
    assert {name for name in names if name.startswith("..")} <= {"...knot_core", "...knot_live"}
    assert path.read_text(encoding="utf-8").count("\n") <= MAX_FILE_LINES


@pytest.mark.parametrize("path", [*SOURCES, *ADAPTERS], ids=lambda path: path.name)
def test_nothing_is_caught(path):
    """A caught exception could be ComfyUI's stop: up to 0.8 it is an ordinary Exception."""
    if path.name in ON_THE_SERVERS_THREAD:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]


def test_the_root_is_a_guard_an_entry_point_and_a_web_directory():
    body = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body
    assert [type(node) for node in body] == [ast.Expr, ast.ImportFrom, ast.If, ast.Assign]


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_node_has_a_help_page_that_names_its_inputs(node_id):
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    definition = load(ROOT / "locales" / "en" / "nodeDefs.json")[node_id]
    assert page.startswith(f"# {definition['display_name']}\n")
    if "Sample" not in node_id:  # one combo each, plain to see
        assert not [name for name in definition["inputs"] if f"`{name}`" not in page]


def test_no_help_page_or_locale_is_left_over():
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == set(NODE_IDS)
    assert set(load(ROOT / "locales" / "en" / "nodeDefs.json")) == set(NODE_IDS)


def test_each_workflow_has_both_forms_and_a_thumbnail():
    names = {path.stem for path in WORKFLOWS}
    assert names >= {"portrait_from_audio", "portrait_chunks", "portrait_idle"}
    assert names >= {"self_forcing_text_to_stream", "livetalk_portrait"}
    assert names == {path.stem for path in API_WORKFLOWS}
    assert names == {path.stem for path in (ROOT / "workflows").glob("*.jpg")}


def test_every_node_stands_in_some_workflow():
    used = {node["class_type"] for path in API_WORKFLOWS for node in load(path).values()}
    assert set(NODE_IDS) - EXTRA <= used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_note_links_every_file_to_download_and_says_where_it_goes(path):
    notes = "".join(node["widgets_values"][0] for node in load(path)["nodes"] if node["type"] == "MarkdownNote")
    for name in files_to_download([path]):
        row = next(line for line in notes.splitlines() if name in line)
        assert "](https://" in row
        assert "`models/" in row


def test_workflows_use_bundled_inputs():
    used = {
        (name, node["inputs"][name])
        for path in API_WORKFLOWS
        for node in load(path).values()
        for name in ("portrait", "speech")
        if name in node["inputs"]
    }
    assert {name for name, _ in used} == {"portrait", "speech"}
    bundled = {file.name for file in (ROOT / "knot_core" / "assets").glob("*/*")}
    assert [one for one in used if one[1] not in bundled] == []


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, *API_WORKFLOWS, *BLUEPRINTS, ROOT / "locales/en/nodeDefs.json"], ids=lambda p: p.name
)
def test_json_is_plain_and_ends_with_a_newline(path):
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "/root" not in text
    assert "/home" not in text
