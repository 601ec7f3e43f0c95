"""What clients/farm.py consists of. `queue` is clients/queue.py, which says how a ComfyUI is talked to."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def _queue() -> object:
    """By its path: the standard library has a module of that name."""
    spec = spec_from_file_location("knot_forcing_queue", Path(__file__).resolve().parents[1] / "queue.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


queue = _queue()
