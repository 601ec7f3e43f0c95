"""Live sessions find the engine beside them: as a top-level package, and under the name that ComfyUI gives the pack."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# As ComfyUI loads a pack: under its path, with dots written otherwise; its root is never on the path.
PACK = "/home/somebody/custom_nodes/knot-forcing_x_0_x_1"
TOLD = """
import json, sys, types
engine = sys.modules[NAME + "knot_live.engine"]
found = [getattr(engine, name) for name in engine.__all__ if not name.endswith("Error")]  # whose names hide the pack
named = [one for one in found if isinstance(one, type | types.FunctionType)]
print(json.dumps({
    "from": sorted({one.__module__.split(".knot_core")[0].split(".")[0] for one in named}),
    "top-level": sorted({name.split(".")[0] for name in sys.modules} & {"knot_core", "knot_live", "knot_lab"}),
}))
"""
IN_A_PACK = f"""
import importlib, sys, types
NAME = {PACK + "."!r}
pack = types.ModuleType({PACK!r})
pack.__path__ = [{str(ROOT)!r}]
sys.modules[{PACK!r}] = pack
importlib.import_module(NAME + "knot_live.engine")
"""
ALONE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
NAME = ""
import knot_live.engine
"""


def told(program):
    """Isolated: neither the working folder nor an environment variable puts anything on the path."""
    command = [sys.executable, "-I", "-c", program + TOLD]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "docs").stdout)


def test_under_a_parent_package_the_engine_is_the_pack_s_and_nothing_is_top_level():
    assert told(IN_A_PACK) == {"from": [PACK], "top-level": []}


def test_alone_the_engine_is_the_top_level_package():
    assert told(ALONE) == {"from": ["knot_core"], "top-level": ["knot_core", "knot_live"]}
