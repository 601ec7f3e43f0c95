"""What travels on the wires, and the pack's place in the node menu."""

from comfy_api.latest import io

CATEGORY = "Knot Forcing"

# Every value on these wires is frozen: ComfyUI keeps outputs and serves the same object again.
KnotModel = io.Custom("KNOT_FORCING_MODEL")
KnotAnchor = io.Custom("KNOT_FORCING_ANCHOR")
KnotDriving = io.Custom("KNOT_FORCING_DRIVING")
KnotSettings = io.Custom("KNOT_FORCING_SETTINGS")
KnotState = io.Custom("KNOT_FORCING_STATE")
KnotStats = io.Custom("KNOT_FORCING_STATS")
