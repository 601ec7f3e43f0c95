"""A network's sizes, read from the shapes of its tensors; and a description of files without such tensors."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..config import LAYOUT_CHANNELS, Adapter, AdapterConfig, AudioCrossConfig, NetworkConfig
from ..errors import CheckpointError, short
from ..geometry import PATCH, TEMPORAL
from .lora import is_lora
from .reading import some

HEAD_DIM = 128  # of every Wan2.1 network; shapes do not show it
_LIVETALK_FIRST_BLOCK = 2  # LiveTalk and OmniAvatar feed blocks 2 .. 15 of 30
_CROSS = AudioCrossConfig()  # how many entries a latent frame's sound has; shapes show only their product with the size
_LAYOUTS = {channels: layout for layout, channels in LAYOUT_CHANNELS.items()}
# Names that belong to relatives which do not stream here
_STRANGERS: Mapping[str, str] = {
    "vace_blocks.": "a Wan VACE network",
    "control_adapter.": "a Wan network with camera control",
    "face_adapter.": "a Wan Animate network",
    "casual_audio_encoder.": "a Wan S2V network",
    "double_blocks.": "a Flux or HunyuanVideo network",
    "transformer_blocks.": "a network in diffusers' names; give a Wan2.1 network in its original names",
    "model.diffusion_model.input_blocks.": "a Stable Diffusion network",
    "encoder.downsamples.": "a Wan video autoencoder",
    "token_embedding.": "a text encoder",
}


def shape_of(tensors: Mapping[str, Tensor], name: str, num_dims: int = 2) -> torch.Size:
    """The shape of a tensor that the network must have.

    Raises:
        CheckpointError: the file lacks the tensor, or its number of dimensions is not `num_dims`.
    """
    if name not in tensors and "patch_embedding.weight" in tensors:
        raise CheckpointError(f"it lacks {name}; it is incomplete: download or export it again")
    if name not in tensors:
        raise CheckpointError(f"it is no Wan network: {_what_else(tensors, name)}; give a Wan2.1 diffusion model")
    shape = tensors[name].shape
    if len(shape) != num_dims or 0 in shape:
        raise CheckpointError(
            f"it has {name} of shape {short(list(shape))}, wanted {num_dims} dimensions; it is another model"
        )
    return shape


def num_blocks(tensors: Collection[str]) -> int:
    """The number of transformer blocks."""
    return _count(tensors, r"blocks\.(\d+)\.")


def network_config(tensors: Mapping[str, Tensor], **untold: Any) -> NetworkConfig:
    """The sizes of a network; `untold` are the fields that shapes do not tell."""
    dim, in_channels = shape_of(tensors, "patch_embedding.weight", 5)[:2]
    return NetworkConfig(
        dim=dim,
        ffn_dim=shape_of(tensors, "blocks.0.ffn.0.weight")[0],
        num_heads=dim // HEAD_DIM,
        num_layers=num_blocks(tensors),
        in_channels=in_channels,
        out_channels=shape_of(tensors, "head.head.weight")[0] // PATCH**2,
        text_dim=shape_of(tensors, "text_embedding.0.weight")[1],
        freq_dim=shape_of(tensors, "time_embedding.0.weight")[1],
        layout=_LAYOUTS[in_channels],
        adapter=adapter_config(tensors),
        image_dim=shape_of(tensors, "img_emb.proj.0.weight", 1)[0] if "img_emb.proj.0.weight" in tensors else None,
        **untold,
    )


def adapter_config(tensors: Mapping[str, Tensor]) -> Adapter | None:
    """The adapter that the tensors' shapes describe, or None."""
    if "audio_proj.proj.weight" in tensors:
        return _pack_config(tensors)
    return _cross_config(tensors) if "audio_proj.proj1.weight" in tensors else None


def stranger(names: Collection[str]) -> str:
    """A description of a file whose names belong to no network that streams."""
    return next((what for mark, what in _STRANGERS.items() if any(name.startswith(mark) for name in names)),
                "another model")  # fmt: skip


def _pack_config(tensors: Mapping[str, Tensor]) -> AdapterConfig:
    hidden_dim, packed = shape_of(tensors, "audio_proj.proj.weight")
    count = _count(tensors, r"audio_cond_projs\.(\d+)\.")
    # as many as there are blocks feed all of them, as in the built-in model; an overlay alone holds no blocks
    first = min(_LIVETALK_FIRST_BLOCK, max(0, num_blocks(tensors) - count) if num_blocks(tensors) else math.inf)
    return AdapterConfig(
        signal_dim=packed // TEMPORAL,
        num_packed=TEMPORAL,
        hidden_dim=hidden_dim,
        blocks=tuple(range(first, first + count)),
    )


def _cross_config(tensors: Mapping[str, Tensor]) -> AudioCrossConfig:
    hidden_dim, first = shape_of(tensors, "audio_proj.proj1.weight")
    token_dim = shape_of(tensors, "blocks.0.audio_cross_attn.kv_linear.weight")[1]
    return AudioCrossConfig(
        signal_dim=first // _CROSS.num_first,
        num_packed=_CROSS.num_packed,
        num_first=_CROSS.num_first,
        hidden_dim=hidden_dim,
        num_tokens=shape_of(tensors, "audio_proj.proj3.weight")[0] // token_dim,
        token_dim=token_dim,
        norm_input="blocks.0.norm_x.weight" in tensors,
        norm_output="audio_proj.norm.weight" in tensors,
    )


def _what_else(tensors: Mapping[str, Tensor], name: str) -> str:
    names: Sequence[str] = list(tensors)
    if "audio_proj.proj1.weight" in tensors:
        return ("it holds InfiniteTalk's audio modules without the network that they belong to; name Wan2.1 I2V 14B "
                "as the model and this file as its overlay")  # fmt: skip
    if is_lora(names):
        return "it is a LoRA; name the network that it changes as the model and this file as its lora"
    kind = stranger(names)
    looks = "" if kind == "another model" else f" and looks like {kind}"
    return f"it has no {name} but {some(names) or 'nothing'}{looks}"


def _count(names: Collection[str], pattern: str) -> int:
    """One more than the highest number. A block of 10^9 would have a network of so many made, to find them missing."""
    count = 1 + max((int(found[1][:9]) for name in names if (found := re.match(pattern, name))), default=-1)
    if count > len(names):
        raise CheckpointError(f"it numbers its blocks up to {count - 1} and holds {len(names)} tensors; get it again")
    return count
