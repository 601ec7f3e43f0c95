"""Modules of the nodes' adapters without the rest of the pack, whose packages would import ComfyUI."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[2]


def adapters(package: str, *modules: str) -> ModuleType:
    """The package of adapters with those modules imported, in a pack of that name."""
    for name in ("", ".nodes", ".nodes.adapters"):
        part = ModuleType(f"{package}{name}")
        part.__path__ = [str(_ROOT.joinpath(*name.split(".")))]
        sys.modules[part.__name__] = part
    for name in modules:
        importlib.import_module(f"{package}.nodes.adapters.{name}")
    return sys.modules[f"{package}.nodes.adapters"]
