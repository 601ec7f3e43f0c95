"""What `wan_forward` requires of a module tree, ours or a host's, and how its leaves are fed."""

import torch
from torch import Tensor, nn

from ..config import AudioCrossConfig, NetworkConfig
from ..errors import CheckpointError, listed

_ATTENTION = ("q", "k", "v", "o", "norm_q", "norm_k")
_OUTSIDE = (
    "patch_embedding", "text_embedding", "time_embedding.0.in_features", "time_projection", "head.norm", "head.head",
    "head.modulation",
)  # fmt: skip
_BLOCK = (
    "norm1", "norm2", "norm3", "ffn", "modulation",
    *(f"self_attn.{name}" for name in _ATTENTION), *(f"cross_attn.{name}" for name in _ATTENTION),
)  # fmt: skip
_BLOCK_IMAGE = ("cross_attn.k_img", "cross_attn.v_img", "cross_attn.norm_k_img")
_BLOCK_SOUND = ("norm_x", "audio_cross_attn.q_linear", "audio_cross_attn.kv_linear", "audio_cross_attn.proj")
_SOUND = tuple(f"audio_proj.{name}" for name in ("proj1", "proj1_vf", "proj2", "proj3", "norm"))


def wanted_parts(config: NetworkConfig) -> tuple[str, ...]:
    """Dotted names of every part that the forward pass of such a network uses."""
    outside, block, adapter = list(_OUTSIDE), list(_BLOCK), config.adapter
    if config.image_dim is not None:
        outside.append("img_emb.proj")
        block += _BLOCK_IMAGE
    if isinstance(adapter, AudioCrossConfig):
        outside += _SOUND
        block += _BLOCK_SOUND
    elif adapter is not None:
        outside += ["audio_proj.proj", "audio_proj.norm_out"]
        outside += [f"audio_cond_projs.{number}" for number in range(len(adapter.blocks))]
    return (*outside, *(f"blocks.{number}.{name}" for number in range(config.num_layers) for name in block))


def missing_parts(network: nn.Module, config: NetworkConfig) -> list[str]:
    """What `wan_forward`, for a network of this configuration, would look for in this tree and not find.

    An empty list says that the tree can be driven: `encode_context`, `encode_driving` or `encode_sound`, and
    `wan_forward` use nothing else of it. Leaves are called; `modulation` is cast to the activations where it is used.
    """
    missing = [name for name in wanted_parts(config) if not _has(network, name)]
    if len(getattr(network, "blocks", ())) > config.num_layers:
        missing.append(f"an end after {config.num_layers} blocks")
    return missing


def require_parts(network: nn.Module, config: NetworkConfig) -> None:
    """Refuse a tree that lacks a part, by name."""
    missing = missing_parts(network, config)
    if missing:
        raise CheckpointError(
            f"this {type(network).__name__} cannot stream: it lacks {listed(missing)}; give a Wan2.1 network, and if "
            "it is one, a version of this software that knows the host's new names"
        )


def feed(leaf: nn.Module, x: Tensor, compute_dtype: torch.dtype) -> Tensor:
    """Run a leaf on `x` as it stands where its weights are that precise, or it has none; else on `compute_dtype`."""
    weight = getattr(leaf, "weight", None)
    precise = weight is None or weight.dtype in (torch.float32, torch.float64)
    return leaf(x if precise else x.to(compute_dtype))


def _has(network: nn.Module, name: str) -> bool:
    part: object = network
    for step in name.split("."):
        if step.isdigit():
            number = int(step)
            if not isinstance(part, nn.Sequential | nn.ModuleList | list | tuple) or number >= len(part):
                return False
            part = part[number]
        else:
            part = getattr(part, step, None)
        if part is None:
            return False
    return True
