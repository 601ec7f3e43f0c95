"""Weights of small networks that come with the project: a file of safetensors each, in half precision, or with what
layers multiply by in whole numbers of eight bits and a scale for each of their outputs.
"""

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .errors import CheckpointError

ASSETS = Path(__file__).parent / "assets"
_SCALE = ".scale"  # beside the name of a tensor in eight bits
_MOST = 127
Network = TypeVar("Network", bound=nn.Module)


def read_shipped(network: Network, path: Path, what: str) -> Network | None:
    """The network with the file's weights, for inference; None where there is no file. `what` names it in an error.

    Raises:
        CheckpointError: the file is damaged, or holds other weights.
    """
    if not path.is_file():
        return None
    try:
        stored = load_file(path)
        scales = {name: stored.pop(name + _SCALE) for name in list(stored) if name + _SCALE in stored}
        network.load_state_dict({name: tensor.float() * scales.get(name, 1) for name, tensor in stored.items()})
    except (RuntimeError, OSError, SafetensorError) as problem:
        raise CheckpointError(f"{path} holds no weights of {what}; put back the file that ships") from problem
    return network.eval().requires_grad_(False)


def write_shipped(network: nn.Module, path: Path, family: str, *, eight_bits: bool = False) -> None:
    """Write the network's weights as they ship, those of layers in eight bits if that is said."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if eight_bits and tensor.dtype.is_floating_point and tensor.ndim > 1:
            largest = tensor.abs().flatten(1).amax(dim=1).clamp_min(1e-6).view(-1, *[1] * (tensor.ndim - 1))
            tensors[name + _SCALE] = largest / _MOST
            tensors[name] = (tensor / tensors[name + _SCALE]).round().clamp(-_MOST, _MOST).to(torch.int8)
        else:
            tensors[name] = tensor.half() if tensor.dtype.is_floating_point else tensor
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"family": family, "licence": "Apache-2.0"})
