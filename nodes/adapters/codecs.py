"""Which video autoencoder a stream decodes with: a tiny one from a file, or a VAE that ComfyUI loaded."""

from typing import Any

import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

from ...knot_core import KnotError
from ...knot_core.codec import load_codec
from ...knot_core.stream import StreamCodec
from .host_model import HostVae

OWN_CODEC = "the model's own"  # of a Wan model: what AUTO says
AUTO = "auto"  # a tiny one if there is one, since it is fast; else the VAE
VAE = "vae"  # the connected one
CODEC_FOLDER = "vae_approx"  # of ComfyUI
TINY = "taew2_1"  # part of the names of the public tiny decoders for Wan 2.1: taew2_1, lighttaew2_1


def codec_names(first: str) -> list[str]:
    """`first`: the one that needs no choice."""
    return [first, VAE, *folder_paths.get_filename_list(CODEC_FOLDER)]


def codec_path(name: str) -> str | None:
    """The path of a codec file; None for the choices that are not files."""
    named = name not in (OWN_CODEC, AUTO, VAE)
    return folder_paths.get_full_path_or_raise(CODEC_FOLDER, name) if named else None


def choose_codec(
    name: str, vae: Any, device: torch.device, dtype: torch.dtype, beside: tuple[ModelPatcher, ...]
) -> StreamCodec:
    """`beside`: what must be in memory again once a VAE has computed."""
    path = codec_path(name) or (_tiny_path() if name != VAE else None)
    if path is not None:
        return load_codec(path).to(device, dtype)
    if vae is not None:
        return HostVae(vae, beside)
    raise KnotError(
        f"got the codec {name!r}, no VAE and no tiny decoder, wanted a decoder: put taew2_1 into "
        "ComfyUI's models/vae_approx folder, or connect a Wan 2.1 VAE"
    )


def _tiny_path() -> str | None:
    names = [name for name in folder_paths.get_filename_list(CODEC_FOLDER) if TINY in name.lower()]
    return folder_paths.get_full_path_or_raise(CODEC_FOLDER, names[0]) if names else None
