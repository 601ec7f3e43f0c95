"""Rules of the house that a reader cannot see at a glance, held by reading the sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "knot_core"

# Imports point to the same row or an earlier one.
ROWS = (
    {"errors", "geometry", "checks", "stream_settings", "config", "cache_index", "spinning"},
    {"flow", "cache", "transfer", "drawing", "room", "files", "threads"},
    {"wan", "codec", "media", "driving", "text"},
    {"stream"},
    {"model", "stats"},
    {
        "train",
        "bench",
        "animate",
        "cli",
        "options",
        "inspection",
        "preflight",
        "directing",
        "write_loop",
        "interrupt",
        "outputs",
    },
    {"__init__", "__main__"},
)
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "execution", "server", "nodes"}
MAX_LINES = 300
BIGGER = {"wan/model.py", "wan/families.py", "train/avatars.py"}


def sources(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def nodes_that_run(tree):
    """Every node but those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from nodes_that_run(node)


def imports(path):
    """(level, dotted name) of every import; `from . import a` gives a."""
    for node in nodes_that_run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def row(part):
    return next((number for number, parts in enumerate(ROWS) if part in parts), None)


def core_parts(path):
    """Top-level parts of knot_core that a source of it imports."""
    depth = len(path.relative_to(CORE).parts)  # 1 for a file at the top: one dot is knot_core there
    return {name.split(".")[0] for level, name in imports(path) if level == depth}


@pytest.mark.parametrize("path", sources(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_imports_point_one_way(path):
    part = path.relative_to(CORE).parts[0].removesuffix(".py")
    assert row(part) is not None, f"{part} has no row: give it one in ROWS, and in the design"
    wrong = {other for other in core_parts(path) if row(other) is not None and row(other) > row(part)}
    assert not wrong, f"{part} must not import {wrong}"


@pytest.mark.parametrize("path", sources(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_host_and_imports_itself_relatively(path):
    roots = {name.split(".")[0] for level, name in imports(path) if level == 0}
    assert not roots & HOST
    assert "knot_core" not in roots


@pytest.mark.parametrize("path", sources(ROOT / "nodes"), ids=lambda path: path.name)
def test_nodes_import_relatively_and_never_training(path):
    names = list(imports(path))
    assert "knot_core" not in {name.split(".")[0] for level, name in names if level == 0}
    assert not [name for level, name in names if level > 0 and name.startswith("knot_core.train")]


def test_files_stay_short():
    lengths = {str(path.relative_to(CORE)): path.read_text(encoding="utf-8").count("\n") for path in sources(CORE)}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES and name not in BIGGER} == {}
