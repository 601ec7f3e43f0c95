"""run.py and the packaging: small, stdlib only, and never in the way of the host's torch."""

import ast
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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


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
    monkeypatch.setattr(module.venv, "create", lambda path, **_: (path.mkdir(), (path / "python").touch()))
    return module


def test_run_needs_nothing_but_the_standard_library():
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
    assert (ROOT / "run.py").read_text(encoding="utf-8").count("\n") < 150


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
    runner.install(with_tests=False)
    assert runner.asked


def test_an_old_python_is_told_so(runner, monkeypatch, capsys):
    monkeypatch.setattr(runner.sys, "version_info", (3, 9, 1))
    assert runner.main(["demo"]) == 1
    assert "use one from 3.10 to 3.13" in capsys.readouterr().err


def test_it_installs_once_and_again_when_what_is_wanted_changes(runner):
    runner.install(with_tests=False)
    assert runner.asked == [("-c", "constraints.txt", "torch", "--editable", ".")]
    runner.install(with_tests=False)
    assert len(runner.asked) == 1
    runner.install(with_tests=True)
    assert runner.asked[1][-1] == ".[test]"
    runner.install(with_tests=False)
    runner.install(with_tests=True)
    assert len(runner.asked) == 2
    (runner.ROOT / "constraints.txt").write_text("torch==9.9")
    runner.install(with_tests=False)
    assert len(runner.asked) == 3


def test_an_installation_that_failed_is_tried_again(runner, monkeypatch, capsys):
    def fail(*_: str) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    with monkeypatch.context() as broken:
        broken.setattr(runner, "pip", fail)
        assert runner.main(["bench"]) == 1
    assert "installing failed" in capsys.readouterr().err
    runner.install(with_tests=False)
    assert len(runner.asked) == 1


def test_commands_and_their_options_are_passed_on(runner, monkeypatch):
    called = []
    monkeypatch.setattr(runner, "run", lambda arguments: called.append(arguments) or 7)
    assert runner.main(["animate", "--idle", "--seconds", "3"]) == 7
    runner.main(["train", "codec"])
    runner.main(["test", "-k", "media"])
    assert called[0] == ["-m", "knot_core", "animate", "--idle", "--seconds", "3"]
    assert called[1] == ["-m", "knot_core.train", "codec"]
    assert called[2][:3] == ["-I", "-m", "pytest"]
    assert called[2][-2:] == ["-k", "media"]


def test_no_command_and_an_unknown_one_show_the_help(runner, capsys):
    assert runner.main(["--help"]) == 0
    assert runner.main([]) == 0
    assert runner.main(["dance"]) == 1
    assert "run.py demo" in capsys.readouterr().err


def test_the_second_start_is_quick(runner):
    runner.install(with_tests=False)
    began = time.perf_counter()
    runner.install(with_tests=False)
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
    names = {re.match(r"[\w-]+", line)[0].lower() for line in requirements("requirements.txt")}
    assert not names & {"torch", "torchvision", "torchaudio", "xformers", "accelerate", "triton"}
    assert requirements("constraints.txt") == ["torch==2.13.0"]


def test_the_package_says_the_same_as_the_requirements():
    assert PYPROJECT["project"]["dependencies"] == requirements("requirements.txt")
    version = re.search(r'__version__ = "(.+)"', (ROOT / "knot_core" / "__init__.py").read_text(encoding="utf-8"))[1]
    assert PYPROJECT["project"]["version"] == version


def test_the_registry_takes_the_package():
    project, comfy = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,98}", project["name"])
    assert "comfyui" not in project["name"]
    assert project["license"] == {"file": "LICENSE"}
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert comfy["requires-comfyui"] == ">=0.8.0"
    assert {"PublisherId", "DisplayName"} <= set(comfy)
