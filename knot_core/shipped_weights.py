"""Weights of small networks that come with the project, in half precision: a file of safetensors each."""

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .errors import CheckpointError

ASSETS = Path(__file__).parent / "assets"
Network = TypeVar("Network", bound=nn.Module)


def read_shipped(network: Network, path: Path, what: str) -> Network | None:
    """The network with the file's weights, for inference; None where there is no file. `what` names it in an error.

    Raises:
        CheckpointError: the file is damaged, or holds other weights.
    """
    if not path.is_file():
        return None
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (RuntimeError, OSError, SafetensorError) as problem:
        raise CheckpointError(f"{path} holds no weights of {what}; put back the file that ships") from problem
    return network.eval().requires_grad_(False)


def write_shipped(network: nn.Module, path: Path, family: str) -> None:
    """Write the network's weights as they ship."""
    tensors = {name: (tensor.half() if tensor.dtype.is_floating_point else tensor).contiguous()
               for name, tensor in network.state_dict().items()}  # fmt: skip
    save_file(tensors, path, metadata={"family": family, "licence": "Apache-2.0"})
