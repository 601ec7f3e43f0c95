"""The Wan2.1 network: module tree, forward pass, positions, channel layouts, driving adapters, weights files."""

from .adapters import DrivingFeatures, NetworkAdapter, SoundKeys, adapter_of, encode_signal
from .checkpoint import Checkpoint, open_checkpoint, save_network
from .families import PRESETS, find_family
from .forward import CrossContext, FrameInputs, encode_context, wan_forward
from .layouts import Layout, get_layout, layout_of
from .lora import Lora, open_lora
from .memory import MemoryNeed, check_memory, memory_needed
from .module_contract import missing_parts, require_parts
from .network import WanNetwork, cast_weights, init_weights
from .network_building import build_network
from .network_flops import ChunkFlops, chunk_flops
from .preset import Preset, with_settings
from .recognise import Recognised, Traits, recognise
from .rope import RopeTable, rope_table, rotate, rotate_time

__all__ = [
    "PRESETS",
    "Checkpoint",
    "ChunkFlops",
    "CrossContext",
    "DrivingFeatures",
    "FrameInputs",
    "Layout",
    "Lora",
    "MemoryNeed",
    "NetworkAdapter",
    "Preset",
    "Recognised",
    "RopeTable",
    "SoundKeys",
    "Traits",
    "WanNetwork",
    "adapter_of",
    "build_network",
    "cast_weights",
    "check_memory",
    "chunk_flops",
    "encode_context",
    "encode_signal",
    "find_family",
    "get_layout",
    "init_weights",
    "layout_of",
    "memory_needed",
    "missing_parts",
    "open_checkpoint",
    "open_lora",
    "recognise",
    "require_parts",
    "rope_table",
    "rotate",
    "rotate_time",
    "save_network",
    "wan_forward",
    "with_settings",
]
