"""The memory that a stream needs beside the weights, checked and reported before its first step."""

from dataclasses import dataclass, replace

import comfy.model_management as host

from ...knot_core import Anchor, KnotError, Model, StreamSettings
from ...knot_core.wan.memory import MemoryNeed, memory_needed
from .host_model import ROOM, HostModel
from .warnings import say

GIB = 2**30
ONE_FRAME = StreamSettings(num_chunk_frames=1, num_knot_frames=0, num_window_frames=0, use_anchor=False)


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes beside the weights."""

    whole: int  # before a stream begins: its cache, and what a pass takes
    a_pass: int  # once the cache is there


def needed_for_anchor(model: Model, size: tuple[int, int]) -> int:
    """Bytes beside the weights, for the one latent frame of a picture of (height, width) pixels."""
    return _beside_weights(_need(model, ONE_FRAME, size)) if isinstance(model, HostModel) else ROOM


def memory_budget(model: Model, anchor: Anchor, settings: StreamSettings) -> MemoryBudget:
    """The memory that a stream needs, constant over its length. Raises KnotError if the device has less.

    ComfyUI can offload weights, so only what must be there all the time is held against the device's memory.
    """
    if not isinstance(model, HostModel):
        return MemoryBudget(whole=ROOM, a_pass=0)
    height, width = anchor.size
    need, there = _need(model, settings, (height, width)), host.get_total_memory(model.device)
    beside = _beside_weights(need)
    what = f"{model.preset.title} at {width}x{height}, window {settings.num_window_frames}, needs {need}"
    if beside > there:
        raise KnotError(f"{what}; without the weights {beside / GIB:.2f} GiB, and {model.device} has "
                        f"{there / GIB:.2f} GiB: take a smaller size or num_window_frames")  # fmt: skip
    offloaded = "" if need.total <= there else "; some weights will be offloaded, which is slower"
    say(f"{what}; {model.device} has {there / GIB:.2f} GiB{offloaded}")
    return MemoryBudget(whole=beside, a_pass=max(need.activations, need.decoder))


def _need(model: HostModel, settings: StreamSettings, size: tuple[int, int]) -> MemoryNeed:
    weights = sum(patcher.model_size() for patcher in model.patchers)
    return memory_needed(model.config, settings, size, model.dtype, weights=weights)


def _beside_weights(need: MemoryNeed) -> int:
    return replace(need, weights=0).total
