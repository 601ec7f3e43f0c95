"""A codec from a file: which one it is, and its weights."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, SettingsError, short
from ..wan.reading import read_stored, some
from .taehv import TAEHV, CodecConfig, read_config
from .wan_vae import WanVideoCodec
from .warping import WarpingCodec, is_warping

logger = logging.getLogger(__name__)

KINDS = ("auto", "taew2_1", "lighttaew2_1", "wan_vae", "warping")
_TINY = ("taew2_1", "lighttaew2_1")  # of the same tensors
_FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors")  # as diffusers saves
_PUBLIC_WIDTHS = CodecConfig().decoder


Codec = TAEHV | WanVideoCodec | WarpingCodec


def load_codec(path: str | os.PathLike[str], kind: str = "auto", *, mapped: bool = False) -> Codec:
    """A codec in float32 on the CPU, from a file or a folder that diffusers saved. `mapped`: the tensors of a tiny one
    that are in float32 stay in the file, and processes that load it share their memory.

    `kind`: taew2_1 (tiny, normalised latents), lighttaew2_1 (tiny, the VAE's own latents), wan_vae, warping
    (knot-face's, which moves the reference picture), or auto. The two tiny ones have the same tensors: see `tiny_kind`.

    Raises:
        CheckpointError: the file is no codec of that kind, or is damaged.
        SettingsError: `kind` is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise SettingsError(f"the codec's kind is {kind!r}; choose one of {', '.join(KINDS)}")
    file = _file(Path(path))
    stored = read_stored(file, header_only=False).tensors
    tensors = _in_float32(stored)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{file} holds values that are not finite (NaN or infinite) in {name}; get it again")
    found = codec_kind(file, stored)
    if kind not in ("auto", found) and not {kind, found} <= set(_TINY):
        raise CheckpointError(f"{file} is not of the kind {kind}, but of {found}; leave the choice on auto")
    kind = found if kind == "auto" else kind
    if kind == "wan_vae":
        codec: Codec = WanVideoCodec(_wan_vae(file, tensors))
    elif kind == "warping":
        codec = WarpingCodec.from_state_dict(tensors)
    else:
        codec = TAEHV.from_state_dict(tensors, vae_latents=kind == "lighttaew2_1", copy=not mapped)
    return codec.eval().requires_grad_(False)


def codec_kind(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """One of `KINDS`, by the tensors' names."""
    if {"decoder.middle.0.residual.0.gamma", "decoder.mid_block.resnets.0.norm1.gamma"} & set(tensors):
        return "wan_vae"
    if is_warping(tensors):
        return "warping"
    if not {"decoder.1.weight", "decoder.22.weight"} & set(tensors):
        found = some(list(tensors))
        raise CheckpointError(f"{file} is no TAEHV autoencoder and no Wan 2.1 VAE: it holds {found}; give taew2_1, "
                              "lighttaew2_1 or Wan2.1_VAE")  # fmt: skip
    return tiny_kind(file, tensors)


def tiny_kind(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """The kind of latents that a tiny decoder takes; nothing in the tensors' names or shapes says it.

    The file's name decides where it says `taew` or `lighttae`. Else other widths than the public ones are those of our
    own, which take normalised latents; and of the public widths taew2_1 is published in float16, lighttaew2_1 is not.
    """
    name = file.name.lower()
    if "lighttae" in name:
        return "lighttaew2_1"
    if "taew" in name or read_config(tensors).decoder != _PUBLIC_WIDTHS:
        return "taew2_1"
    dtype = tensors["decoder.1.weight"].dtype
    kind = "taew2_1" if dtype == torch.float16 else "lighttaew2_1"
    logger.warning("%s is taken for %s, because its numbers are %s; if colours are wrong, name the codec's kind",
                   file.name, kind, str(dtype).removeprefix("torch."))  # fmt: skip
    return kind


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"the folder {path} holds no {_FOLDER_FILES[0]}; give a codec's file, or a folder that "
                          "diffusers saved a VAE in")  # fmt: skip


def _in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in tensors.items()}


def _wan_vae(file: Path, tensors: dict[str, Tensor]) -> nn.Module:
    diffusers = _diffusers()
    try:
        if "decoder.middle.0.residual.0.gamma" in tensors:  # as Wan publishes it, and ComfyUI loads it
            from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

            tensors = convert_wan_vae_to_diffusers(tensors)
        with torch.device("meta"):
            tree = diffusers.AutoencoderKLWan(
                base_dim=tensors["decoder.norm_out.gamma"].shape[0], z_dim=tensors["post_quant_conv.weight"].shape[0]
            )
        tree.load_state_dict(tensors, assign=True)
    except (KeyError, RuntimeError, IndexError, ValueError, TypeError, ZeroDivisionError) as problem:
        last = short(str(problem).splitlines()[-1], str)
        raise CheckpointError(f"{file} is no Wan 2.1 VAE that is known here ({last}); give Wan2.1_VAE") from problem
    return tree


def _diffusers() -> ModuleType:
    try:
        import diffusers
    except ImportError as problem:
        raise CheckpointError(f"a Wan VAE file needs diffusers, which does not import ({problem}); "
                              "pip install diffusers, or use a tiny decoder such as taew2_1") from problem  # fmt: skip
    return diffusers
