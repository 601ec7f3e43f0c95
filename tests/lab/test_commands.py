"""The lab's command line, and the old commands that start it for one release."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from knot_core.errors import SettingsError
from knot_lab import __main__ as lab
from knot_lab.commands import evaluate, train

OLD = {"evaluate": ("knot_core", "evaluate"), "train": ("knot_core.train",)}
# In place of the lab: `python -m` looks into the working folder first.
STAND_IN = """
import json, os, sys, time
print(json.dumps([sys.argv[1:], os.environ["RANK"], os.getpid()]), flush=True)
time.sleep(60 * ("wait" in sys.argv))
sys.exit(7)
"""


@pytest.fixture
def old(tmp_path):
    """`old(command, *arguments)` starts an old command where the lab is a stand-in."""
    (tmp_path / "knot_lab").mkdir()
    (tmp_path / "knot_lab" / "__init__.py").touch()
    (tmp_path / "knot_lab" / "__main__.py").write_text(STAND_IN, encoding="utf-8")

    def start(command, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", *OLD[command], *arguments],
            cwd=tmp_path, env=os.environ | {"RANK": "3"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.mark.parametrize("command", OLD)
def test_an_old_command_starts_the_new_one_and_names_it(old, command):
    """With its arguments and its environment, which `torchrun` speaks through; the exit code comes back."""
    with old(command, "--one", "2") as process:
        out, said = process.communicate(timeout=60)
    arguments, rank, _ = json.loads(out)
    assert (arguments, rank, process.returncode) == ([command, "--one", "2"], "3", 7)
    assert f"python -m knot_lab {command}" in said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that asks a process to end")
def test_who_asks_the_old_command_to_end_ends_the_new_one(old):
    with old("train", "wait") as process:
        *_, number = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while _is_running(number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_study_is_an_evaluation_of_its_own_form(monkeypatch):
    given = []
    monkeypatch.setattr(evaluate, "main", lambda arguments: given.append(arguments) or 2)
    for words in (["study"], ["study", "full", "--jobs", "2"], ["study", "--jobs", "2"]):
        assert lab.main(words) == 2
    assert given == [["--study", "short"], ["--study", "full", "--jobs", "2"], ["--study", "short", "--jobs", "2"]]


def test_a_user_s_mistake_is_one_sentence(capsys):
    assert lab.main(["evaluate", "--identities", "0"]) == 1
    assert capsys.readouterr().err == "error: --identities is 0; give at least 1\n"


def test_an_unknown_command_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        lab.main(["dance"])
    assert "dance" in capsys.readouterr().err


def recipe_of(stage, *changes):
    return train._recipe(train._parser().parse_args([stage, "--set", *changes]), stage)


def test_a_plain_name_changes_the_stage_s_own_part_and_a_dotted_one_any():
    assert recipe_of("student", "steps=7", "clips=3").student.clips == 3
    assert recipe_of("student", "steps=7").variants.steps == 200
    assert recipe_of("knot-lora", "rank=2").knot_lora.rank == 2
    assert recipe_of("clips", "first=9").clips.first == 9
    assert recipe_of("student", "clips.first=9").clips.first == 9
    assert recipe_of("teacher", "batch=4", "micro_batch=2", "teacher.steps=3").batch == 4
    assert recipe_of("student", "stream.num_knot_frames=0").stream.num_knot_frames == 0
    with pytest.raises(SettingsError, match="RegressionRecipe has steps"):
        recipe_of("student", "stepz=3")


def test_a_recipe_without_a_stage_says_so():
    with pytest.raises(SystemExit, match="has no stage student"):
        train.main(["student", "--recipe", "wan-1.3b"])
