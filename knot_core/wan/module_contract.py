"""The parts that `wan_forward` requires of a module tree, ours or a host's."""

from torch import nn

from ..config import NetworkConfig
from ..errors import CheckpointError, listed
from .adapters import adapter_of

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


def wanted_parts(config: NetworkConfig) -> tuple[str, ...]:
    """Dotted names of every part that the forward pass of such a network uses."""
    adapter = adapter_of(config)
    outside, block = [*_OUTSIDE, *adapter.parts], [*_BLOCK, *adapter.block_parts]
    if config.image_dim is not None:
        outside.append("img_emb.proj")
        block += _BLOCK_IMAGE
    return (*outside, *(f"blocks.{number}.{name}" for number in range(config.num_layers) for name in block))


def missing_parts(network: nn.Module, config: NetworkConfig) -> list[str]:
    """Dotted names of the parts that `wan_forward` would use, for a network of this configuration, and this tree lacks.

    An empty list means that the tree can be used: `encode_context`, `encode_signal` and `wan_forward` use nothing else
    of it. Leaves are called; `modulation` is cast to the activations where it is used.
    """
    missing = [name for name in wanted_parts(config) if not _has(network, name)]
    if len(getattr(network, "blocks", ())) > config.num_layers:
        missing.append(f"an end after {config.num_layers} blocks")
    return missing


def require_parts(network: nn.Module, config: NetworkConfig) -> None:
    """Refuse a module tree that lacks a part, and name it.

    Raises:
        CheckpointError: a part is missing.
    """
    missing = missing_parts(network, config)
    if missing:
        raise CheckpointError(
            f"this {type(network).__name__} cannot stream: it lacks {listed(missing)}; give a Wan2.1 network, and if "
            "it is one, a version of this software that knows the host's new names"
        )


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
