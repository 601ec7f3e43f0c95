"""Rules of the house that a reader cannot see at a glance, held by reading the sources.

Imports for type checkers count as any other: a circle that only a type checker sees is one in the reader's head, too.
"""

import ast
import warnings
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE, LIVE, LAB = ROOT / "knot_core", ROOT / "knot_live", ROOT / "knot_lab"

# Imports point to the same row or an earlier one.
ROWS = {
    CORE: (
        {"errors", "geometry", "checks", "stream_settings", "config", "attention_cache", "cache_index", "spinning"},
        {"flow", "heat_maps", "cache", "transfer", "plot_sheet", "free_memory", "files", "threads", "settings_text",
         "shipped_weights"},
        {"wan", "codec", "media", "driving", "text"},
        {"stream"},
        {"model", "model_loading", "shared_weights"},
        {"run"},
        {"cli", "inspection", "train"},
        {"__init__", "__main__"},
    ),
    LIVE: (
        {"engine", "clock", "controls", "events", "gestures", "pacing", "chunk_pictures", "access", "limits", "outbox",
         "message_fields", "eased_values", "sound_bytes", "speech_queue", "voice_gate", "scheduling", "json_logs"},
        {"chunk_lengths", "control_log", "journal", "preparing", "messages", "protocol", "sound_timeline", "speaking",
         "face_pose", "references",
         "fragmented_mp4", "page_files", "voice", "face_motion", "idle_blocks", "observing"},
        {"signals", "live_driving", "speed", "adapting", "drawn_chunks"},
        {"wishes", "watching", "drawing", "joint_drawing", "recording", "session_files", "media_encoder", "sources",
         "ticker", "due_media", "receipts"},
        {"controlled"},
        {"session"},
        {"replaying"},
        {"live_session", "hub", "studio", "camera", "connection", "websocket", "webrtc", "server",
         "client", "talk", "server_metrics", "health"},
        {"cluster"},
        {"bench", "commands", "simulate_command"},
        {"agents"},
        {"__init__", "__main__"},
    ),
    LAB: (
        {"rng", "precision", "parallel", "changes", "stage_recipes", "recipes", "synthetic"},
        {"data"},
        {"evaluation"},
        {"training"},
        {"study"},
        {"commands"},
        {"__init__", "__main__"},
    ),
}  # fmt: skip
PACKAGES = {"knot_core", "knot_live", "knot_lab"}
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "execution", "server", "nodes"}
MANY_LINES, TOO_MANY_LINES = 300, 400
SHARED_NAMES = {
    "__init__.py",  # packages
    "__main__.py",  # `python -m`
    "conftest.py",  # pytest's
    "zh.md",  # ComfyUI's help pages: a folder for each node, a file in it for each language
}


def sources(*folders):
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def of_root(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """(level, dotted name) of every import; `from . import a` gives a."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def roots(path):
    """First names of the absolute imports."""
    return {name.split(".")[0] for level, name in imports(path) if level == 0}


def module(path):
    """Dotted name of a source; a package is its own `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in sources(CORE, LIVE, LAB)}


def modules_imported(name):
    """Sources that a source imports; a name that is imported from a package counts as the package."""
    path, found = MODULES[name], set()
    package = (*name.split("."), "")[:-1] if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join((*above, *filter(None, [node.module])))
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            found.add(inner if inner in MODULES else base)
    return found & MODULES.keys() - {name}


def row(package, part):
    return next((number for number, parts in enumerate(ROWS[package]) if part in parts), None)


def parts_imported(path, package):
    """Top-level parts of its own package that a source imports."""
    depth = len(path.relative_to(package).parts)  # 1 for a file at the top: one dot is the package there
    return {name.split(".")[0] for level, name in imports(path) if level == depth}


@pytest.mark.parametrize("package", ROWS, ids=lambda package: package.name)
def test_imports_point_one_way(package):
    wrong = set()
    for path in sources(package):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        assert row(package, part) is not None, f"{part} has no row: give it one in ROWS, and in the design"
        others = {other for other in parts_imported(path, package) if row(package, other) is not None}
        if {other for other in others if row(package, other) > row(package, part)}:
            wrong.add(module(path))
    assert wrong == set()


def test_no_import_is_part_of_a_circle():
    graph = {name: modules_imported(name) for name in MODULES}
    assert sum(map(len, graph.values())) > 500
    TopologicalSorter(graph).prepare()  # raises where there is one


@pytest.mark.parametrize("path", sources(CORE), ids=of_root)
def test_the_engine_knows_nobody_and_imports_itself_relatively(path):
    assert not roots(path) & (HOST | PACKAGES)
    assert not [name for level, name in imports(path) if level and name.split(".")[0] in {"knot_live", "knot_lab"}]


@pytest.mark.parametrize("path", sources(LAB), ids=of_root)
def test_the_lab_imports_the_engine_by_its_name_and_itself_relatively(path):
    """It always runs beside an engine that is a top-level package: in a clone, or installed; never in ComfyUI."""
    assert not roots(path) & (HOST | {"knot_live", "knot_lab"})
    assert not parts_imported(path, ROOT)


@pytest.mark.parametrize("path", sources(LIVE), ids=of_root)
def test_only_one_file_of_live_sessions_imports_the_engine(path):
    names = {name.split(".")[0] for _, name in imports(path)}
    assert not roots(path) & (HOST | {"knot_live", "knot_lab"})
    assert ("knot_core" in names) == (path == LIVE / "engine.py")


@pytest.mark.parametrize("path", sources(ROOT / "nodes"), ids=lambda path: path.name)
def test_nodes_import_relatively_and_never_training(path):
    assert not roots(path) & PACKAGES
    parts = [name.split(".") for level, name in imports(path) if level > 0]
    assert not [names for names in parts if names[0] == "knot_lab" or names[:2] == ["knot_core", "train"]]


def test_files_stay_short():
    """Length is a question above 300 lines, whether a file holds two things, and an error above 400."""
    paths = sources(CORE, LIVE, LAB, ROOT / "nodes")
    lengths = {of_root(path): path.read_text(encoding="utf-8").count("\n") for path in paths}
    long = {name: length for name, length in lengths.items() if length > MANY_LINES}
    if long:
        warnings.warn(f"does each of these hold one thing? {long}", stacklevel=1)
    assert len(lengths) > 100
    assert {name: length for name, length in long.items() if length > TOO_MANY_LINES} == {}


def test_no_two_files_share_a_name():
    """A name that stands twice says of neither file what is inside."""
    folders = [ROOT / name for name in (*sorted(PACKAGES), "nodes", "clients", "tests", "web")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    names = Counter(path.name for path in paths if path.suffix in {".py", ".js", ".css", ".html", ".md"})
    assert {"architecture", "session"} <= {name.removeprefix("test_").removesuffix(".py") for name in names}
    assert sorted(name for name, times in names.items() if times > 1 and name not in SHARED_NAMES) == []


@pytest.mark.parametrize("package", ROWS, ids=lambda package: package.name)
def test_no_two_classes_of_a_package_share_a_name(package):
    """One word, one thing: a reader who looks for a class by its name finds one."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources(package)]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert len(names) > 50
    assert sorted(name for name, times in names.items() if times > 1 and not name.startswith("_")) == []
