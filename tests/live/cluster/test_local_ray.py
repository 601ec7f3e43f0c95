"""A Ray of this process begins whatever other processes have begun before."""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec

import pytest

BEGINS = """
import sys
from pathlib import Path
from knot_live.cluster.local_ray import import_ray, local_ray

import_ray()  # while there is no token
token = Path.home() / ".ray" / "auth_token"
token.parent.mkdir()
token.write_text("a" * 64)  # as another process's Ray writes it
with local_ray(1, 0, sys.argv[1]) as address:
    print("begun at", address)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="RAY IS NOT INSTALLED: its start is not tested")
def test_a_token_that_appears_after_the_import_keeps_no_ray_from_starting(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="knot-") as sockets:  # their path must be short
        done = subprocess.run(
            [sys.executable, "-c", BEGINS, sockets], capture_output=True, text=True, timeout=300, check=False,
            env={**environment, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)},
        )  # fmt: skip
    assert "begun at" in done.stdout, done.stderr[-2000:]
