"""A description of a weights file and of its needs, from its header alone, before anything is loaded."""

import os
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from .codec import warping
from .codec.taehv import TAEHV, read_config
from .config import NetworkConfig, StreamSettings
from .errors import KnotError
from .flow import noise_levels, timesteps
from .geometry import latent_size, num_tokens
from .model_loading import open_model_file
from .wan.checkpoint import Checkpoint
from .wan.memory import frame_bytes, memory_needed
from .wan.network import WanNetwork
from .wan.network_building import check_tensors, differences
from .wan.preset import Preset, with_settings


def inspect_checkpoint(
    path: str | os.PathLike[str],
    *,
    family: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    weights: str | None = None,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    **settings: object,
) -> dict[str, Any]:
    """A description in plain values; `problem` says why it would not load.

    Memory is that of `size` (height, width) and settings.
    """
    checkpoint = open_model_file(path, header_only=True, family=family, overlay=overlay, weights=weights)
    tensors = checkpoint.tensors.values()
    found: dict[str, Any] = {
        "file": checkpoint.path.name,
        "family": None,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}),
        "scaled": bool(checkpoint.scales),
        "quantization": checkpoint.metadata.get("gguf"),
        "sets": list(checkpoint.sets),
        "wrapper": checkpoint.wrapper,
        "prefix": checkpoint.prefix,
        "ignored": list(checkpoint.ignored),
    }
    try:
        found["family"] = checkpoint.family
        wanted = _codec(checkpoint, found) if checkpoint.codec else _network(checkpoint, found)
        found["missing"], found["unexpected"] = differences(checkpoint, wanted.state_dict())
        found["problem"] = None
        if not checkpoint.codec:
            found |= _preset(checkpoint.preset, checkpoint.config, size, dtype, settings)
        check_tensors(checkpoint, wanted.state_dict())
    except KnotError as problem:
        found["problem"] = str(problem)
    return found


def _codec(checkpoint: Checkpoint, found: dict[str, Any]) -> nn.Module:
    warps = checkpoint.codec == "warping"
    config = (warping.read_config if warps else read_config)(checkpoint.tensors)
    found |= asdict(config)
    with torch.device("meta"):
        return (warping.WarpingCodec if warps else TAEHV)(config)


def _network(checkpoint: Checkpoint, found: dict[str, Any]) -> nn.Module:
    recognised = checkpoint.recognised
    found |= {"why": recognised.why, "sure": recognised.sure} | checkpoint.config.to_dict()
    with torch.device("meta"):
        return WanNetwork(checkpoint.config)


def _preset(
    preset: Preset,
    config: NetworkConfig,
    size: tuple[int, int] | None,
    dtype: torch.dtype,
    given: dict[str, object],
) -> dict[str, Any]:
    settings = with_settings(preset.settings, **given)
    first = timesteps(settings, first_chunk=True, dtype=config.timestep_dtype)
    fed = timesteps(settings, dtype=config.timestep_dtype)
    return {
        "title": preset.title,
        "schedule": [round(sigma, 4) for sigma in noise_levels(settings)],
        "timesteps": [round(timestep, 2) for timestep in fed],
        "first_timesteps": [round(timestep, 2) for timestep in first],
        "settings": settings.to_dict(),
        "fps": preset.fps,
        "width": preset.width,
        "height": preset.height,
        "needs_text": preset.needs_text,
        "speech": preset.speech if config.adapter else None,
        "licence": preset.licence,
        "notes": preset.notes,
        "memory": _memory(preset, config, settings, size or (preset.height, preset.width), dtype),
    }


def _memory(
    preset: Preset, config: NetworkConfig, settings: StreamSettings, size: tuple[int, int], dtype: torch.dtype
) -> dict[str, Any]:
    """Memory in MiB."""
    need = memory_needed(config, settings, size, dtype, has_text=preset.needs_text, spatial=preset.spatial)
    height, width = size
    per_frame = frame_bytes(config, num_tokens(*latent_size(*size, preset.spatial)), dtype)
    return {
        "size": f"{width}x{height}",
        "dtype": str(dtype).removeprefix("torch."),
        **{f"{name}_mib": round(size / 2**20, 1) for name, size in need.to_dict().items()},
        "cache_mib_per_latent_frame": round(per_frame / 2**20, 1),
    }
