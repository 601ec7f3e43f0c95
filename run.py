#!/usr/bin/env python3
"""One command from a fresh machine: makes .venv, installs, runs. Needs Python 3.10 or later with pip, nothing else.

python3 run.py demo         a bundled portrait says a bundled sentence: out/demo.mp4, out/demo.png
python3 run.py live         talk to it, move it, change it while it runs: a page in your browser
python3 run.py test         the tests
python3 run.py bench        where the time goes
python3 run.py train ...    make the built-in model again
python3 run.py animate ...  your own portrait; also: inspect, evaluate. --help tells more
"""

from __future__ import annotations  # an older Python must get far enough to be told so

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
ASSETS = ROOT / "knot_core" / "assets"
OUT = ROOT / "out"
CORE_COMMANDS = ("animate", "bench", "inspect")
LAB_COMMANDS = ("evaluate", "train")
MOST_WORKERS = 4  # processes of the tests: each loads torch
EXTRAS = ("test", "live", "")  # what is installed beside the engine, most first: each is part of the one before it


def main(arguments: list[str]) -> int:
    """Run a command; its exit code."""
    if sys.version_info[:2] < (3, 10):
        return _fail(f"this is Python {sys.version.split()[0]}; use 3.10 or a later one")
    if not arguments or arguments[0] not in ("demo", "live", "test", *LAB_COMMANDS, *CORE_COMMANDS):
        sys.stderr.write(__doc__)
        return int(bool(arguments) and arguments[0] not in ("-h", "--help"))
    command, *options = arguments
    try:
        install(command if command in EXTRAS else "")
    except subprocess.CalledProcessError as problem:
        if torch_is_missing():
            return _fail(f"there is no {locked('torch')} for Python {sys.version.split()[0]} on this machine "
                         f"({platform.system()}, {platform.machine()}); use a Python that PyTorch has wheels for, "
                         "from 3.10 on, or an environment of your own with another torch (see README.md)")  # fmt: skip
        return _fail(f"installing failed ({problem}); fix the problem reported above (on Debian and Ubuntu "
                     "Python's venv is a package of its own, python3-venv) and run the same command again")  # fmt: skip
    except OSError as problem:
        return _fail(f"{VENV} cannot be created ({problem}); free some disk space, or remove what is there")
    codes = [run(line) for line in command_lines(command, options)]
    return next((code for code in codes if code), 0)


def command_lines(command: str, options: list[str]) -> list[list[str]]:
    """The arguments of each call of the environment's Python. All tests are two: they are shared among the processors,
    file by file, and those that measure time follow by themselves. So is the demo, where it can show a photo as well.
    """
    if command == "test":
        # isolated: the repository's root stays off the path, where nodes/ would hide ComfyUI's module of that name
        pytest = ["-I", "-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
        workers = str(min(os.cpu_count() or 1, MOST_WORKERS))
        shared = ["-m", "not alone", "-n", workers, "--dist", "loadfile"]
        return [[*pytest, *options]] if options else [[*pytest, *shared], [*pytest, "-m", "alone"]]
    if command in LAB_COMMANDS:
        return [["-m", "knot_lab", command, *options]]
    if command == "live":
        return [["-m", "knot_live", "serve", "--open", *options]]
    if command == "demo":
        return [["-m", "knot_core", "animate", *shown, *options] for shown in demo_options()[: 1 if options else None]]
    return [["-m", "knot_core", command, *options]]


def demo_options() -> list[list[str]]:
    """The first portrait says the first speech of the pack; so does a photo, where the model of photos is here."""
    speech, shown = str(sorted((ASSETS / "speech").glob("*.*"))[0]), [("portraits", "demo", [])]
    if all((ASSETS / f"knot-face{part}.safetensors").is_file() for part in ("", "-codec")):
        shown.append(("photos", "demo-photo", ["--model", "knot-face"]))
    return [
        [*model, "--reference", str(sorted((ASSETS / folder).glob("*.[jp]*g"))[0]), "--audio", speech,
         "--out", str(OUT / f"{name}.mp4"), "--sheet", str(OUT / f"{name}.png")]
        for folder, name, model in shown
    ]  # fmt: skip


def install(extra: str = "") -> None:
    """Make the environment, unless what it was made from has not changed."""
    wanted = made_from()
    stamps = [VENV / f"installed{name and '-with-'}{name}" for name in EXTRAS[: EXTRAS.index(extra) + 1]]
    if PYTHON.exists() and any(_holds(stamp, wanted) for stamp in stamps):
        return
    sys.stderr.write(f"installing into {VENV}: the first time takes minutes, torch is large\n")
    if not PYTHON.exists():
        _make_environment()
    pip("install", "-c", "constraints.txt", "setuptools", "torch")
    # by the setuptools of the lock: a build of its own environment would fetch whatever is newest
    package = f".[{extra}]" if extra else "."
    pip("install", "-c", "constraints.txt", "--no-build-isolation", "--editable", package)
    stamps[-1].write_text(wanted, encoding="utf-8")


def _make_environment() -> None:
    """Wholly or not at all: half of one, without pip, would look like one the next time."""
    there = VENV.exists()
    try:
        venv.create(VENV, with_pip=True)
    except BaseException:
        if not there:
            shutil.rmtree(VENV, ignore_errors=True)
        raise


def _holds(stamp: Path, text: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == text


def made_from() -> str:
    """A hash of everything that decides what is installed."""
    files = ("constraints.txt", "pyproject.toml")
    return hashlib.sha256(b"\0".join((ROOT / name).read_bytes() for name in files)).hexdigest()


def pip(*arguments: str) -> None:
    """Run pip with its output on the error stream; standard output belongs to the command."""
    subprocess.run(pip_command(*arguments), cwd=ROOT, check=True, stdout=sys.stderr)


def pip_command(command: str, *arguments: str) -> list[str]:
    """The environment's pip."""
    return [str(PYTHON), "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments]


def torch_is_missing() -> bool:
    """Whether there are packages for this Python, and no torch: it comes as wheels alone, months after a new Python."""
    return PYTHON.exists() and _can_get("einops") and not _can_get("torch")


def _can_get(name: str) -> bool:
    only = ("--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:")
    command = pip_command("install", "-c", "constraints.txt", *only, name)
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


def locked(name: str) -> str:
    """The line of a package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def run(arguments: list[str]) -> int:
    """The exit code of the environment's Python. Ctrl-C is the child's to handle: it ends its files first."""
    test = "pytest" in arguments
    with subprocess.Popen([str(PYTHON), *arguments], cwd=ROOT if test else None) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def _fail(sentence: str) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
