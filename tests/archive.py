"""What a user installs: the registry's archive, which is a clean checkout less what .comfyignore leaves out."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_CLONE = "what the archive holds is not known: this is no clone, or there is no git"


def can_be_read() -> bool:
    """Only a clone knows which of its files belong to it."""
    return shutil.which("git") is not None and (ROOT / ".git").exists()


@cache
def left_out() -> frozenset[str]:
    """Files in git that the archive leaves out; git reads the patterns as the registry's tool does."""
    return _listed("--cached", "--ignored", "--exclude-from=.comfyignore")


def archived() -> list[str]:
    """Files of the archive, as the working tree has them: edited ones, too, but none that git does not know yet."""
    return sorted(name for name in _listed("--cached") - left_out() if (ROOT / name).is_file())


def install(target: Path) -> None:
    """Unpack the archive; a copy, so that edits made during a run cannot change it."""
    for name in archived():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)


def _listed(*options: str) -> frozenset[str]:
    command = ["git", "ls-files", "-z", *options]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    return frozenset(name for name in listed.split("\0") if name)
