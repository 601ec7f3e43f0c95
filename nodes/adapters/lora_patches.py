"""A LoRA's change of one weight as a patch of ComfyUI's, computed by the engine: every format that the engine reads.

ComfyUI's own adapters take the norm of a DoRA over the unchanged weight in some versions, and know fewer formats.
"""

from dataclasses import replace
from typing import Any

from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

from ...knot_core.wan.lora import Lora


class MergedByEngine(WeightAdapterBase):
    """ComfyUI calls it where it patches a weight: while it loads, or at use where the weight is offloaded."""

    name = "knot_forcing_lora"

    def __init__(self, lora: Lora, weight_name: str) -> None:
        self.lora, self.weight_name = lora, weight_name
        self.loaded_keys: set[str] = set()
        self.weights = tuple(lora.changes[weight_name].parts.values())  # ComfyUI counts their memory

    def calculate_weight(self, weight: Tensor, _key: str, strength: float, *_: Any, **_others: Any) -> Tensor:
        """[*weight] in the weight's dtype, changed by `strength` times what the file holds; computed in float32."""
        return replace(self.lora, strength=strength).merged(self.weight_name, weight).to(weight.dtype)
