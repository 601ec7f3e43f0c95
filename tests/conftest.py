"""Before torch loads: threads of the tests, and of the processes that they begin, spin as briefly as our commands'."""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

# by its path: the package itself would load torch
_spec = spec_from_file_location("spinning", Path(__file__).resolve().parents[1] / "knot_core" / "spinning.py")
_spinning = module_from_spec(_spec)
_spec.loader.exec_module(_spinning)
_spinning.bound_spinning(os.environ)

LARGE = {"gpu", "host", "web"}  # folders of tests that time a device, or start ComfyUI and browsers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LARGE & set(item.path.parts[-2:-1]):
            item.add_marker(pytest.mark.alone)
