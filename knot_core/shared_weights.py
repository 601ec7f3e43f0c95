"""A model's weights as several processes of one machine share them: in files, in the dtype that they are computed in.

A weights file can stay mapped, and its memory shared, where nothing has to be cast (wan/checkpoint.py). Where the dtype
is another (float32, of a file in bfloat16), each process would hold a copy of its own. So one process writes a file for
all, which is named by its content and never changed.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from .codec.taehv import TAEHV
from .codec.warping import WarpingCodec
from .errors import SettingsError
from .model import Model
from .model_loading import load_model
from .stream import fingerprint
from .stream.reference_check import Cloud
from .wan.checkpoint import save_network
from .wan.network import WanNetwork

_ALIGNED = 64  # bytes


@dataclass(frozen=True, kw_only=True)
class SharedWeights:
    """The files of a model, as plain values that can be sent to another process."""

    path: str
    codec: str
    codec_kind: str
    dtype: str
    good_references: Cloud | None = None  # as in `Model`

    def load(self) -> Model:
        """The model, on the CPU, whose weights are shared by all processes that load it from here.

        Raises:
            CheckpointError: the files are not there any more, or damaged.
        """
        dtype = getattr(torch, self.dtype)
        model = load_model(self.path, "cpu", dtype, self.codec, codec_kind=self.codec_kind, mapped=True)
        return replace(model, good_references=self.good_references)


def share_weights(model: Model, folder: str | os.PathLike[str]) -> SharedWeights:
    """Write the model's weights, as it computes with them, into the folder, unless they lie there already.

    Raises:
        SettingsError: the model is not on the CPU, or not of our own network and one of our own autoencoders.
    """
    network, codec = model.network, model.codec
    if model.device.type != "cpu" or not isinstance(network, WanNetwork) or not isinstance(codec, TAEHV | WarpingCodec):
        raise SettingsError(f"the weights of {model!r} cannot be shared; share those of a model on the CPU that was "
                            "loaded by load_model, with a tiny autoencoder or a warping one")  # fmt: skip
    stem = Path(folder) / fingerprint(model)
    path, beside = stem.with_suffix(".safetensors"), Path(f"{stem}-codec.safetensors")
    _write(beside, lambda file: save_file({name: x.contiguous() for name, x in codec.state_dict().items()}, file))
    _write(path, lambda file: save_network(file, network, model.preset))
    return SharedWeights(
        path=str(path),
        codec=str(beside),
        codec_kind=_kind_of(codec),
        dtype=str(model.dtype).removeprefix("torch."),
        good_references=model.good_references,
    )


def _kind_of(codec: TAEHV | WarpingCodec) -> str:
    if isinstance(codec, WarpingCodec):
        return "warping"
    return "lighttaew2_1" if codec.config.vae_latents else "taew2_1"


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Whole or not at all: others may be reading it, or writing the same."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished, aligned = Path(folder) / "unfinished", Path(folder) / "aligned"
        write(unfinished)
        _align(unfinished, aligned)
        aligned.replace(path)


def _align(source: Path, target: Path) -> None:
    """The same file of safetensors with spaces behind its header, so that tensors begin where torch would have put
    them: elsewhere, products round differently.
    """
    with source.open("rb") as read, target.open("wb") as written:
        length = int.from_bytes(read.read(8), "little")
        header = read.read(length)
        header += b" " * (-(8 + length) % _ALIGNED)
        written.write(len(header).to_bytes(8, "little") + header)
        shutil.copyfileobj(read, written)
