"""run.py and the packaging: small, stdlib only, and never in the way of the host's torch."""

import ast
import importlib.metadata
import importlib.util
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def name_of(line: str) -> str:
    return canonicalize_name(Requirement(line).name)


def wanted(python: dict[str, str]) -> list[str]:
    """The requirements of the package and its tests under this Python."""
    lines = PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["test"]
    return [line for line in lines if (marker := Requirement(line).marker) is None or marker.evaluate(python)]


@pytest.fixture
def runner(tmp_path, monkeypatch) -> ModuleType:
    """run.py in an empty folder, where pip only writes down what it was asked for."""
    spec = importlib.util.spec_from_file_location("runner", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.asked = []
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "python")
    monkeypatch.setattr(module, "pip", lambda *arguments: module.asked.append(arguments))
    monkeypatch.setattr(module, "_can_get", lambda _: True)
    monkeypatch.setattr(module.venv, "create", lambda path, **_: (path.mkdir(), (path / "python").touch()))
    return module


def test_run_needs_nothing_but_the_standard_library():
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
    assert (ROOT / "run.py").read_text(encoding="utf-8").count("\n") < 170


def test_an_environment_that_was_not_finished_is_made_anew(runner, monkeypatch, capsys):
    whole = runner.venv.create

    def fails(path, **_):
        whole(path)
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(runner.venv, "create", fails)
    assert runner.main(["demo"]) == 1
    assert "python3-venv" in capsys.readouterr().err
    assert not runner.VENV.exists()
    monkeypatch.setattr(runner.venv, "create", whole)
    runner.install()
    assert runner.asked


def test_an_old_python_is_told_so(runner, monkeypatch, capsys):
    monkeypatch.setattr(runner.sys, "version_info", (3, 9, 1))
    assert runner.main(["demo"]) == 1
    assert "use 3.10 or a later one" in capsys.readouterr().err


@pytest.mark.parametrize(("there", "said"), [(("einops",), "no torch=="), (("einops", "torch"), "installing failed"),
                                             ((), "installing failed")])  # fmt: skip
def test_a_python_that_torch_has_no_wheel_for_is_told_so(runner, monkeypatch, capsys, there, said):
    """But not where nothing can be installed at all, nor where something else is the matter."""

    def fails(*_: str) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(runner.sys, "version_info", (3, 99, 0))
    monkeypatch.setattr(runner, "pip", fails)
    monkeypatch.setattr(runner, "_can_get", lambda name: name in there)
    assert runner.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_it_installs_once_and_again_when_what_is_wanted_changes(runner):
    runner.install()
    assert all(asked[1:3] == ("-c", "constraints.txt") for asked in runner.asked)
    assert [asked[-1] for asked in runner.asked] == ["torch", "."]
    runner.install()
    assert len(runner.asked) == 2
    runner.install("test")
    assert runner.asked[3][-1] == ".[test]"
    runner.install()
    runner.install("test")
    assert len(runner.asked) == 4
    runner.install("live")
    assert len(runner.asked) == 4, "the tests need all that live sessions need"
    (runner.ROOT / "constraints.txt").write_text("torch==9.9")
    runner.install()
    assert len(runner.asked) == 6
    runner.install("live")
    assert runner.asked[7][-1] == ".[live]"
    runner.install()
    assert len(runner.asked) == 8


def test_an_installation_that_failed_is_tried_again(runner, monkeypatch, capsys):
    def fail(*_: str) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    with monkeypatch.context() as broken:
        broken.setattr(runner, "pip", fail)
        assert runner.main(["bench"]) == 1
    assert "installing failed" in capsys.readouterr().err
    runner.install()
    assert len(runner.asked) == 2


def test_commands_and_their_options_are_passed_on(runner, monkeypatch):
    called = []
    monkeypatch.setattr(runner, "run", lambda arguments: called.append(arguments) or 7)
    assert runner.main(["animate", "--idle", "--seconds", "3"]) == 7
    runner.main(["train", "codec"])
    runner.main(["test", "-k", "media"])
    runner.main(["evaluate", "--study"])
    assert called[0] == ["-m", "knot_core", "animate", "--idle", "--seconds", "3"]
    assert called[1] == ["-m", "knot_lab", "train", "codec"]
    assert called[2][:3] == ["-I", "-m", "pytest"]
    assert called[2][-2:] == ["-k", "media"]
    assert called[3] == ["-m", "knot_lab", "evaluate", "--study"]
    runner.main(["live", "--port", "0"])
    assert called[4] == ["-m", "knot_live", "serve", "--open", "--port", "0"]
    assert runner.asked[-1][-1] == ".[test]", "by then the tests' environment has what it needs"


def test_the_demo_speaks_by_a_photo_too_where_its_model_is_here_and_no_options_are_given(runner, tmp_path, monkeypatch):
    for folder, name in (("portraits", "ada.png"), ("photos", "hopper.jpg"), ("speech", "hello.wav")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    monkeypatch.setattr(runner, "ASSETS", tmp_path)
    (drawn,) = runner.command_lines("demo", [])
    (tmp_path / "knot-face.safetensors").touch()
    assert runner.command_lines("demo", []) == [drawn], "its codec is missing"
    (tmp_path / "knot-face-codec.safetensors").touch()
    first, photo = runner.command_lines("demo", [])
    assert first == drawn
    assert photo[:5] == ["-m", "knot_core", "animate", "--model", "knot-face"]
    assert str(tmp_path / "photos" / "hopper.jpg") in photo
    assert not {str(runner.OUT / "demo.mp4"), str(runner.OUT / "demo.png")} & set(photo)
    assert runner.command_lines("demo", ["--seconds", "2"]) == [[*drawn, "--seconds", "2"]]


@pytest.mark.parametrize(("codes", "code"), [((0, 0), 0), ((0, 3), 3), ((1, 0), 1)])
def test_all_tests_are_shared_among_processors_but_those_that_measure_time(runner, monkeypatch, codes, code):
    called, left = [], list(codes)
    monkeypatch.setattr(runner.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(runner, "run", lambda arguments: called.append(arguments) or left.pop(0))
    assert runner.main(["test"]) == code
    chosen = [line[line.index("-m", 2) + 1] for line in called]
    assert chosen == ["not alone", "alone"], "each test is in one of them"
    assert [line[line.index("-n") + 1] for line in called if "-n" in line] == ["4"]


def test_no_command_and_an_unknown_one_show_the_help(runner, capsys):
    assert runner.main(["--help"]) == 0
    assert runner.main([]) == 0
    assert runner.main(["dance"]) == 1
    assert "run.py demo" in capsys.readouterr().err


@pytest.mark.alone
def test_the_second_start_is_quick(runner):
    runner.install()
    began = time.perf_counter()
    runner.install()
    assert time.perf_counter() - began < 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="WINDOWS SENDS NO SIGINT TO ONE PROCESS: Ctrl-C is not tested")
def test_ctrl_c_waits_for_the_child(tmp_path):
    child = "import signal, time; signal.signal(2, lambda *_: None); open('ready', 'w'); time.sleep(1); print('ended')"
    code = f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("runner", {str(ROOT / "run.py")!r})
        runner = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(runner)
        runner.PYTHON = sys.executable
        sys.exit(runner.run(["-c", {child!r}]))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True,
                               cwd=tmp_path)  # fmt: skip
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert said.strip() == "ended"
    assert process.returncode == 0


def test_the_host_keeps_its_torch():
    names = {name_of(line) for line in requirements("requirements.txt") + PYPROJECT["project"]["dependencies"]}
    assert not names & {"torch", "torchvision", "torchaudio", "xformers", "accelerate", "triton"}


@pytest.mark.parametrize("minor", range(10, 15))
def test_everything_that_is_installed_is_locked(minor):
    """Once for each Python, and as a version alone: no address, no folder, no build for one machine."""
    lines = [Requirement(line) for line in requirements("constraints.txt")]
    python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0"}
    for system in ("linux", "win32", "darwin"):
        where = python | {"sys_platform": system}
        held = [line for line in lines if line.marker is None or line.marker.evaluate(where)]
        names = [canonicalize_name(line.name) for line in held]
        assert len(names) == len(set(names))
        assert {name_of(line) for line in wanted(where)} | {"torch", "setuptools"} <= set(names)
        assert all(re.fullmatch(r"==[\w.]+", str(line.specifier)) and line.url is None for line in held)
        assert wanted(where)
        for line in map(Requirement, wanted(where)):
            locked = next(held for held in held if canonicalize_name(held.name) == canonicalize_name(line.name))
            assert line.specifier.contains(str(locked.specifier).removeprefix("=="))


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="NOT IN THE ENVIRONMENT OF run.py: what it holds")
def test_the_environment_holds_what_is_locked():
    """Whatever is installed in another version was not tried when the lock was made."""
    locked = {canonicalize_name(line.name): line.specifier for line in map(Requirement, requirements("constraints.txt"))
              if line.marker is None or line.marker.evaluate()}  # fmt: skip
    package = importlib.metadata.requires("knot-forcing")
    assert package
    for line in map(Requirement, package):
        if line.marker is not None and not line.marker.evaluate({"extra": "test"}):
            continue
        assert locked[canonicalize_name(line.name)].contains(importlib.metadata.version(line.name)), line.name


def test_the_package_says_the_same_as_the_requirements():
    """But for the first releases with wheels for newer Pythons: a host has its own already."""
    plain = [line for line in PYPROJECT["project"]["dependencies"] if ";" not in line]
    assert plain == requirements("requirements.txt")
    assert {name_of(line) for line in PYPROJECT["project"]["dependencies"]} == {name_of(line) for line in plain}
    version = re.search(r'__version__ = "(.+)"', (ROOT / "knot_core" / "__init__.py").read_text(encoding="utf-8"))[1]
    assert PYPROJECT["project"]["version"] == version


def test_the_tests_need_all_that_live_sessions_need():
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert extras["live"]
    assert set(extras["live"]) <= set(extras["test"])


def test_the_registry_takes_the_package():
    project, comfy = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,98}", project["name"])
    assert "comfyui" not in project["name"]
    assert project["license"] == {"file": "LICENSE"}
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert comfy["requires-comfyui"] == ">=0.8.0"
    assert {"PublisherId", "DisplayName"} <= set(comfy)
