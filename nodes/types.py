"""The types on the wires, the pack's place in the node menu, and node schemas for every version of ComfyUI."""

from typing import Any

from comfy_api.latest import io

from . import adapters

CATEGORY = "Knot Forcing"
SEED_RANGE = {"default": 0, "min": 0, "max": 2**64 - 1}

# Every value on these wires is frozen: ComfyUI keeps outputs and serves the same object again.
KnotModel = io.Custom("KNOT_FORCING_MODEL")
KnotAnchor = io.Custom("KNOT_FORCING_ANCHOR")
KnotDriving = io.Custom("KNOT_FORCING_DRIVING")
KnotSettings = io.Custom("KNOT_FORCING_SETTINGS")
KnotState = io.Custom("KNOT_FORCING_STATE")
KnotStats = io.Custom("KNOT_FORCING_STATS")
KnotPlacement = io.Custom("KNOT_FORCING_PLACEMENT")

# For a widget that a beginner never touches: the editor folds it away, where it can.
ADVANCED = adapters.known_to(io.Int.Input, {"advanced": True})


def node_schema(**said: Any) -> io.Schema:
    """The schema of a node, reduced to the arguments that this version of ComfyUI knows."""
    return io.Schema(**adapters.known_to(io.Schema, said))
