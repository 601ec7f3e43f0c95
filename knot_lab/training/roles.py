"""Student, teacher, critic: one network each, of one structure.

A role is called with a function of its model: `role(function, *inputs)`. So whatever hangs on the call of a module,
such as gathering its sharded weights, happens around everything that the function does with them.
Shapes: B clips, F latent frames, T packed pixel frames, S signal dim.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from knot_core.config import NetworkConfig
from knot_core.errors import CheckpointError
from knot_core.wan.network import WanNetwork, init_weights

# What a pretrained network may lack; all else must be there.
_NEW = ("audio_proj.", "audio_cond_projs.")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The properties of a model that the engine's passes use."""

    network: nn.Module
    config: Any  # the network's own
    device: torch.device
    dtype: torch.dtype
    codec: None = None


class Role(nn.Module):
    """A network that is trained, or that others are trained by."""

    def __init__(self, network: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.network = network.to(device)
        self._model = TrainedModel(network, network.config, device, dtype)

    def forward(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """`function(model, *inputs)`, in the role's precision; weights stay in float32."""
        mixed = self._model.dtype != torch.float32
        with torch.autocast(self._model.device.type, self._model.dtype, enabled=mixed):
            return function(self._model, *inputs)


def new_network(config: NetworkConfig, seed: int) -> WanNetwork:
    """A network with initial weights, as Wan2.1's training has them."""
    return init_weights(WanNetwork(config), torch.Generator().manual_seed(seed))


def pretrained_network(config: NetworkConfig, tensors: Mapping[str, Tensor], source: str) -> WanNetwork:
    """A network of this configuration from another's weights: input channels and adapters that it lacks start at zero.

    So Wan2.1 T2V with its 16 input channels becomes one that also sees known frames and driving, and at first does
    exactly what it did.
    """
    network = new_network(config, 0)
    wanted, found = network.state_dict(), dict(tensors)
    patch = "patch_embedding.weight"
    if patch in found and found[patch].shape[1] < config.in_channels:
        missing = config.in_channels - found[patch].shape[1]
        found[patch] = torch.cat([found[patch].float(), torch.zeros(config.dim, missing, 1, 2, 2)], dim=1)
    for name, tensor in wanted.items():
        if name.startswith(_NEW) and name not in found:
            found[name] = torch.zeros_like(tensor) if name.startswith("audio_cond_projs.") else tensor
    wrong = [name for name in wanted if name not in found or found[name].shape != wanted[name].shape]
    if wrong or set(found) - set(wanted):
        odd = wrong or sorted(set(found) - set(wanted))
        raise CheckpointError(
            f"{source} does not fit the recipe's network: {odd[0]} and {len(odd) - 1} more differ; give weights of "
            f"{config.num_layers} blocks of width {config.dim}, or change the recipe's network"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    return network


def freeze_unused(network: WanNetwork, *, with_text: bool) -> None:
    """No gradients for what a text of one token never reaches."""
    for name, weight in network.named_parameters():
        if not with_text and unread_text(name):
            weight.requires_grad_(False)


def unread_text(name: str) -> bool:
    """Whether a text of one token never reaches this weight: one key's softmax is 1, whatever query and key are."""
    parts = ("norm3", "cross_attn.q.", "cross_attn.k.", "cross_attn.norm_q", "cross_attn.norm_k")
    return any(part in name for part in parts)
