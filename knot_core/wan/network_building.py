"""The network of a checkpoint, with the file's weights in it; and what a file must hold for that."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError, short
from .checkpoint import Checkpoint
from .lora import Lora
from .network import WanNetwork, cast_weights
from .network_sizes import stranger
from .reading import some


def build_network(
    checkpoint: Checkpoint,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    lora: Lora | None = None,
    *,
    mapped: bool = False,
) -> WanNetwork:
    """The network with the file's weights, its matrices in `dtype`, in inference mode and without gradients.

    Tensors go from the file into their places one by one: memory never holds a second copy of the weights. The file may
    go afterwards; unless it is `mapped`, when on a CPU tensors that have their dtype in the file stay there, and
    processes that load it share their memory.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape, or not finite.
    """
    with torch.device("meta"):
        network = WanNetwork(checkpoint.config)
    outline = cast_weights(network, dtype).state_dict()
    check_tensors(checkpoint, outline)
    weights = {
        name: _checked(checkpoint, name, _placed(checkpoint, name, like.dtype, device, lora, copy=not mapped), lora)
        for name, like in outline.items()
    }
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def _placed(
    checkpoint: Checkpoint,
    name: str,
    dtype: torch.dtype,
    device: torch.device | str,
    lora: Lora | None,
    *,
    copy: bool,
) -> Tensor:
    if lora is None or name not in lora.changes:
        return checkpoint.weight(name, dtype, device, copy=copy)
    return lora.merged(name, checkpoint.weight(name, torch.promote_types(dtype, torch.float32), device)).to(dtype)


def _checked(checkpoint: Checkpoint, name: str, weight: Tensor, lora: Lora | None) -> Tensor:
    if not weight.isfinite().all():
        raise CheckpointError(_not_finite(checkpoint, name, weight.dtype, lora))
    return weight


def _not_finite(checkpoint: Checkpoint, name: str, dtype: torch.dtype, lora: Lora | None) -> str:
    """A sentence that names the file, or the dtype, that is to blame."""
    path, weight = checkpoint.path, checkpoint.weight(name, torch.float32)
    if weight.isfinite().all():
        if lora is None or lora.merged(name, weight).isfinite().all():
            return f"{path} holds values in {name} that {dtype} cannot hold; choose bfloat16 or float32"
        path = lora.path
    return f"{path} holds values that are not finite (NaN or infinite) in {name}; download or train it again"


def check_tensors(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> None:
    """Refuse a file whose tensors are not exactly those wanted, by name and shape.

    Raises:
        CheckpointError: tensors are missing, left over, or of another shape.
    """
    path, (missing, unexpected) = checkpoint.path, differences(checkpoint, wanted)
    if missing:
        raise CheckpointError(f"{path} lacks {some(missing)}; it is incomplete: download or export it again")
    if unexpected:
        raise CheckpointError(
            f"{path} holds {some(unexpected)} that the network has no place for; it is {stranger(unexpected)}"
        )
    for name, tensor in wanted.items():
        if checkpoint.tensors[name].shape != tensor.shape:
            shape = short(list(checkpoint.tensors[name].shape))
            raise CheckpointError(
                f"{path} has {name} of shape {shape}, wanted {list(tensor.shape)}; it is another model"
            )


def differences(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Names missing from the file, and names in it that are not wanted."""
    return sorted(set(wanted) - set(checkpoint.tensors)), sorted(set(checkpoint.tensors) - set(wanted))
