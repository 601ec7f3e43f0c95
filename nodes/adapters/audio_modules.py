"""Audio modules (LiveTalk's, InfiniteTalk's) beside a network that ComfyUI loaded without them."""

from collections.abc import Mapping
from dataclasses import replace

import comfy.model_management as host
import comfy.model_patcher
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...knot_core import KnotError
from ...knot_core.wan.checkpoint import Checkpoint
from ...knot_core.wan.network import WanNetwork
from .versions import patcher_class

_NAMES = ("audio_proj.", "audio_cond_projs.", ".audio_cross_attn.", ".norm_x.")
_CASTING = {nn.Linear: comfy.ops.manual_cast.Linear, nn.LayerNorm: comfy.ops.manual_cast.LayerNorm}


def audio_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of audio modules, out of a network's."""
    return {name: tensor for name, tensor in tensors.items() if _is_audio(name)}


def network_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network, without those of audio modules."""
    return {name: tensor for name, tensor in tensors.items() if not _is_audio(name)}


def _is_audio(name: str) -> bool:
    return any(part in f".{name}" for part in (f".{_NAMES[0]}", f".{_NAMES[1]}", *_NAMES[2:]))


def managed_audio_modules(checkpoint: Checkpoint) -> ModelPatcher:
    """The audio modules of a checkpoint, in float32, as ComfyUI manages a model: it may move them, also in part."""
    config = checkpoint.config
    with torch.device("meta"):
        whole, bare = WanNetwork(config), WanNetwork(replace(config, adapter=None))
    wanted = {name: like for name, like in whole.state_dict().items() if name not in bare.state_dict()}
    whole.load_state_dict(_checked(checkpoint, wanted), strict=False, assign=True)
    _keep_loaded(whole)
    for module in whole.modules():
        module.__class__ = _CASTING.get(type(module), type(module))  # ComfyUI's own, of the same parameters
    return patcher_class(comfy.model_patcher)(
        whole.eval().requires_grad_(False),
        load_device=host.get_torch_device(),
        offload_device=host.unet_offload_device(),
    )


def _checked(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors of those names, in float32."""
    missing = sorted(wanted.keys() - checkpoint.tensors.keys())
    if missing:
        raise KnotError(f"got audio modules without {missing[0]}, wanted all {len(wanted)} of their tensors: get the "
                        "file again")  # fmt: skip
    for name, like in wanted.items():
        if checkpoint.tensors[name].shape != like.shape:
            raise KnotError(f"got audio modules with {name} of {list(checkpoint.tensors[name].shape)}, wanted "
                            f"{list(like.shape)} for this network: choose those made for it")  # fmt: skip
    found = {name: checkpoint.weight(name, torch.float32) for name in wanted}
    broken = next((name for name, tensor in found.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise KnotError(f"got audio modules with values in {broken} that are not finite (NaN or infinite): get the "
                        "file again")  # fmt: skip
    return found


def _keep_loaded(module: nn.Module) -> None:
    """Drop, in place, every parameter without data and every module that had nothing else."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.is_meta:
            delattr(module, name)
    for name, child in list(module.named_children()):
        parameters = list(child.parameters())
        if parameters and all(parameter.is_meta for parameter in parameters):
            delattr(module, name)
        else:
            _keep_loaded(child)
