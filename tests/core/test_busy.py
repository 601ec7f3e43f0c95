"""The bench beside busy processes, and what bounds the spinning of OpenMP's threads."""

import json
import os
import subprocess
import sys
import time

import pytest

from knot_core import cli
from knot_core.cli.bench.busy_processes import busy_processes
from knot_core.spinning import BOUNDS, bound_spinning


def test_busy_processes_compute_and_end_with_the_measurement():
    with busy_processes(1) as (process,):
        before = os.times().children_user
        time.sleep(0.3)
        assert process.is_alive()
    assert not process.is_alive()
    assert os.times().children_user > before


@pytest.mark.parametrize("change", [("--busy", "-1"), ("--busy", "1", "--pairs", "0"), ("--busy", "1", "--engine")])
def test_what_cannot_be_measured_is_refused(change, capsys):
    assert cli.main(["bench", *change]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_bench_tells_pairs_and_their_middle(capsys):
    assert (
        cli.main(["bench", "--model", "knot-tiny", "--chunks", "1", "--busy", "1", "--pairs", "2", "--size", "32"]) == 0
    )
    figures = json.loads(capsys.readouterr().out)
    ratios = [pair["ratio"] for pair in figures["pairs"]]
    assert len(ratios) == 2
    assert min(ratios) <= figures["ratio"] <= max(ratios)
    for pair in figures["pairs"]:
        assert pair["ratio"] == pytest.approx(pair["busy"]["fps"] / pair["quiet"]["fps"], rel=0.01)
    assert (figures["busy_processes"], figures["threads"]) == (1, 1)


# --- spinning


def of_a_process(arguments, **environment):
    """What it says on standard output; the variables that bound spinning are not inherited."""
    clean = {name: value for name, value in os.environ.items() if name not in {*BOUNDS, "OMP_WAIT_POLICY"}}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout


TELL = "import os, sys; from {package} import *; print([os.environ.get(name) for name in {names}])"


def test_our_own_commands_bound_it_before_torch_loads(tmp_path):
    tell = "import os, sys, json; json.dump([dict(os.environ), 'torch' in sys.modules], open({path!r}, 'w'))"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        f"            {tell.format(path=str(tmp_path / 'seen'))}\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    of_a_process(["-m", "knot_core", "inspect", "knot-tiny"], PYTHONPATH=str(tmp_path))
    environment, torch_was_there = json.loads((tmp_path / "seen").read_text())
    assert not torch_was_there
    assert {name: environment[name] for name in BOUNDS} == BOUNDS


def test_a_host_that_imports_the_package_decides_for_itself():
    told = of_a_process(["-c", TELL.format(package="knot_core", names=list(BOUNDS))])
    assert told.strip() == str([None] * len(BOUNDS))


@pytest.mark.parametrize(
    ("given", "left"),
    [({"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": "5", "KMP_BLOCKTIME": "1"}), ({"OMP_WAIT_POLICY": "active"}, {})],
)
def test_what_the_user_has_set_stays(given, left):
    environment = dict(given)
    bound_spinning(environment)
    assert environment == given | left
