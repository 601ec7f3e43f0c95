"""What the registry, its archive, comfy-test and the actions are told, against what is there."""

import ast
import re
import sys

import pytest
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from .. import archive

ROOT = archive.ROOT
ACTIONS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
KNOWN_TO_THE_REGISTRY = {  # of "Operating System" and "Environment"; one that it does not know, and it drops them all
    "Operating System :: OS Independent",
    "Environment :: GPU :: NVIDIA CUDA",
    "Environment :: GPU :: AMD ROCm",
    "Environment :: GPU :: Intel Arc",
    "Environment :: NPU :: Huawei Ascend",
    "Environment :: GPU :: Apple Metal",
}
READ_BY_COMFYUI = ("__init__.py", "requirements.txt", "pyproject.toml", "nodes/**/*.py", "web/**/*", "locales/**/*",
                   "workflows/**/*", "subgraphs/*", "knot_core/*.py", "knot_core/assets/**/*",
                   "knot_live/*.py", "knot_live/page/*")  # fmt: skip
SERVED_AS_TEMPLATES = {"example_workflows", "example", "examples", "workflow", "workflows"}  # by ComfyUI, in this order
LOADED = ("knot_core", "knot_live", "nodes")  # folders whose sources ComfyUI may load
VERSION = r"\d+\.\d+\.\d+"


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def left_out():
    """Files in git that the archive leaves out."""
    if not archive.can_be_read():
        pytest.skip(f"NOT TESTED: {archive.NO_CLONE}")
    return archive.left_out()


def read(path):
    yaml = pytest.importorskip("yaml", reason="NOT TESTED, the actions: pip install pyyaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def archived_sources(left_out):
    """Name and tree of every Python file in the archive that ComfyUI may load."""
    for path in (path for folder in LOADED for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in left_out and "__pycache__" not in path.parts:
            yield name, [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def test_the_version_is_said_once(pyproject):
    """pyproject, the package, and the newest release in the changelog; unreleased changes stand above it."""
    version = pyproject["project"]["version"]
    assert re.fullmatch(VERSION, version)
    assert f'__version__ = "{version}"' in (ROOT / "knot_core" / "__init__.py").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings in (released, ["Unreleased", *released])
    assert released[0].split()[0] == version
    order = [tuple(map(int, re.match(VERSION, heading)[0].split("."))) for heading in released]
    assert order == sorted(set(order), reverse=True)


def test_the_registry_takes_name_licence_and_classifiers(pyproject):
    project = pyproject["project"]
    assert re.fullmatch(r"[a-z][a-z0-9._-]{0,99}", project["name"])
    assert "comfyui" not in project["name"]
    assert (ROOT / project["license"]["file"]).is_file()
    shown = {name for name in project["classifiers"] if name.startswith(("Operating System", "Environment"))}
    assert shown
    assert shown <= KNOWN_TO_THE_REGISTRY
    assert {"Repository", "Documentation", "Bug Tracker"} <= project["urls"].keys()
    assert all(url.startswith(project["urls"]["Repository"]) for url in project["urls"].values())
    assert not [name for name in project["dependencies"] if re.match(r"torch|comfyui", name)], "they are the host's"


def test_tool_comfy_says_where_the_pack_belongs(pyproject):
    comfy = pyproject["tool"]["comfy"]
    assert comfy.keys() >= {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"}
    assert re.fullmatch(f">={VERSION}", comfy["requires-comfyui"])
    assert "web" not in comfy, "WEB_DIRECTORY says it; with both, ComfyUI loads the extension twice"
    assert all((ROOT / name).exists() for name in comfy["includes"])


@pytest.mark.parametrize(
    ("key", "fits"), [("Icon", lambda w, h: w == h <= 400), ("Banner", lambda w, h: w * 9 == h * 21)]
)
def test_icon_and_banner_are_pictures_of_the_registrys_shape(pyproject, key, fits):
    url = pyproject["tool"]["comfy"][key]
    owner = pyproject["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    start = f"https://raw.githubusercontent.com/{owner}/main/"
    assert url.startswith(start)
    with Image.open(ROOT / url.removeprefix(start)) as picture:
        assert fits(*picture.size)
        assert picture.format == "PNG"


def test_the_archive_holds_all_that_comfyui_reads(left_out):
    needed = {path.relative_to(ROOT).as_posix() for pattern in READ_BY_COMFYUI for path in ROOT.glob(pattern)}
    assert len(needed) > 100
    assert needed & left_out == set()
    assert not {"README.md", "LICENSE", "CHANGELOG.md", "clients/queue.py"} & left_out


@pytest.mark.usefixtures("left_out")
def test_only_one_folder_of_the_archive_is_taken_for_templates():
    """ComfyUI serves all of these names under one address: the first folder that is there hides the others."""
    folders = {name.split("/")[0] for name in archive.archived() if "/" in name}
    assert folders & SERVED_AS_TEMPLATES == {"workflows"}


def test_the_archive_leaves_out_what_it_says(left_out):
    patterns = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in patterns if line and not line.startswith("#")]
    assert all(line.startswith("/") for line in patterns), "without it, docs/*.png would take web/docs/ too"
    for pattern in patterns:
        assert list(ROOT.glob(pattern[1:])), f"{pattern} names nothing"
    assert {"run.py", "CONTRIBUTING.md", "tests/nodes/test_registry.py", "docs/study.md", "docs/demo.jpg"} <= left_out
    assert "docs/nodes.md" not in left_out
    assert {"knot_lab/__main__.py", "knot_core/train/__main__.py"} <= left_out


@pytest.mark.usefixtures("left_out")
def test_the_archive_has_the_engine_live_sessions_and_clients_and_no_lab():
    folders = {name.split("/")[0] for name in archive.archived() if "/" in name}
    assert {"knot_core", "knot_live", "nodes", "clients"} <= folders
    assert {"knot_live/page/index.html", "docs/live.md"} <= set(archive.archived())
    assert not {"knot_lab", "deploy", "tests"} & folders


def test_nothing_in_the_archive_imports_what_is_left_out(left_out):
    """But for the two commands that need a clone, and import late."""
    importing = [
        name
        for name, nodes in archived_sources(left_out)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        and node.level
        and {"train", "busy_processes"} & set((node.module or "").split("."))
    ]
    assert sorted(importing) == ["knot_core/cli/bench/file_benchmark.py", "knot_core/cli/entry.py"]
    assert "knot_core/cli/bench/busy_processes.py" in left_out


SPEAKING = "knot_live/speaking.py"  # tests/live/test_speaking.py holds it to a list of arguments, without a shell


def test_nothing_in_the_archive_runs_code_that_it_was_given(left_out):
    """The registry's own rule: no eval or exec, and no process that could install something; one file speaks through
    espeak-ng, a program that it names itself.
    """
    sources = list(archived_sources(left_out))
    assert sources
    for name, nodes in sources:
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        assert not {call.id for call in calls if isinstance(call, ast.Name)} & {"eval", "exec"}, name
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        assert imported & {"subprocess", "ctypes"} == ({"subprocess"} if name == SPEAKING else set()), name


def test_comfy_test_runs_every_workflow_that_needs_neither_a_download_nor_a_driver():
    test = tomllib.loads((ROOT / "comfy-test.toml").read_text(encoding="utf-8"))["test"]
    without = {name.removeprefix("!") for name in test["workflows"]["cpu"]}
    shipped = {path.name for path in (ROOT / "workflows").glob("*.json")}
    assert without == {name for name in shipped if not name.startswith("portrait_")} | {"portrait_live.json"}
    assert set(test["platforms"]["platforms"]) >= {"linux-cpu", "macos-cpu", "windows-cpu"}
    assert {"install", "registration", "execution_light"} <= set(test["levels"])


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.name)
def test_an_action_is_whole_and_may_only_read(path):
    action = read(path)
    assert action[True], "`on`, which YAML takes for a truth value"
    assert action["permissions"] == {"contents": "read"}
    assert action["jobs"]
    for job in action["jobs"].values():
        assert job["runs-on"]
        assert job["steps"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "@" in step.get("uses", "@")


def test_ci_covers_every_system_the_python_versions_at_both_ends_and_the_oldest_comfyui(pyproject):
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert min(matrix["python"], key=_numbers) == pyproject["project"]["requires-python"].removeprefix(">=")
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(pyproject["project"]["classifiers"]), re.MULTILINE)
    assert {min(named, key=_numbers), max(named, key=_numbers)} == set(matrix["python"])
    floor = pyproject["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    assert f"v{floor}" in jobs["comfyui"]["strategy"]["matrix"]["comfyui"]
    assert len(jobs["comfyui"]["strategy"]["matrix"]["comfyui"]) >= 2


def test_the_publish_action_is_for_this_publisher(pyproject):
    action = read(ROOT / ".github" / "workflows" / "publish_action.yml")
    assert action[True]["push"] == {"branches": ["main"], "paths": ["pyproject.toml"]}
    (job,) = action["jobs"].values()
    assert pyproject["tool"]["comfy"]["PublisherId"] in job["if"]
    assert job["steps"][-1]["with"] == {"personal_access_token": "${{ secrets.REGISTRY_ACCESS_TOKEN }}"}


def _numbers(version):
    return tuple(map(int, version.split(".")))
