"""A model loaded from its files, on a device that works here."""

import logging
import os
from pathlib import Path

import torch

from .codec.codec_files import load_codec
from .errors import CheckpointError, SettingsError, listed, short
from .files import parts_of_weights
from .model import Model
from .shipped_weights import ASSETS
from .stream.reference_check import read_cloud
from .wan.checkpoint import Checkpoint, open_checkpoint
from .wan.lora import open_lora
from .wan.network_building import build_network
from .wan.preset import Preset

logger = logging.getLogger(__name__)

BUILT_IN = ("knot-tiny", "knot-face")
DEFAULT_MODEL = "knot-tiny"  # of the engine, the command line and the loader node; the live page has a photo's
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def load_model(  # noqa: PLR0913 - the public door; all but the first may be left out
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    codec: str | os.PathLike[str] | None = None,
    *,
    codec_kind: str = "auto",
    family: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    lora: str | os.PathLike[str] | None = None,
    lora_strength: float = 1.0,
    weights: str | None = None,
    mapped: bool = False,
) -> Model:
    """A built-in model by name, or a weights file. `dtype` None: bfloat16 where the device computes it natively.

    `codec` is the weights file of a video autoencoder, for models that do not bring their own. `family` names the
    checkpoint's family where neither its structure nor its name tells it. `overlay` is a file of further tensors
    (InfiniteTalk's audio modules), `lora` one of low-rank changes, merged while the weights are read. `weights` is the
    key of the set of weights, for training checkpoints that hold several; None: the set that the family streams with.
    `mapped`: on a CPU weights that have their dtype in the file stay there, and processes that load it share their
    memory; it must then not be written into. `share_weights` writes such a file for any dtype.

    Raises:
        CheckpointError: the weights, codec, overlay or LoRA cannot be read or do not belong together.
        SettingsError: the device or dtype cannot be used.
    """
    device = pick_device(device)
    dtype = native_dtype(device) if dtype is None else dtype
    if dtype not in DTYPES:
        raise SettingsError(f"dtype is {dtype}; choose one of {', '.join(map(str, DTYPES))}")
    checkpoint = open_model_file(name_or_path, family=family, overlay=overlay, weights=weights)
    preset = checkpoint.preset
    if not checkpoint.recognised.sure:
        logger.warning("%s: %s", checkpoint.path.name, checkpoint.recognised.why)
    codec_file = _codec_file(checkpoint.path, preset, codec)
    changes = None if lora is None else open_lora(lora, lora_strength, checkpoint.tensors)
    network = build_network(checkpoint, dtype, device, changes, mapped=mapped)
    return Model(
        network=network,
        # in bfloat16 decoded pictures differ from float32's by 54 dB, and take half the time
        codec=load_codec(codec_file, codec_kind, mapped=mapped).to(device, dtype),
        config=network.config,
        preset=preset,
        device=device,
        dtype=dtype,
        good_references=read_cloud(checkpoint.path.with_name(f"{checkpoint.path.stem}-reference.json")),
    )


def open_model_file(
    name_or_path: str | os.PathLike[str],
    *,
    header_only: bool = False,
    family: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """The checkpoint of a built-in model by name, or of a weights file or folder.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or a built-in model's files are not in this copy.
    """
    path = built_in_file(str(name_or_path)) if str(name_or_path) in BUILT_IN else Path(name_or_path)
    if not path.exists():
        raise CheckpointError(f"there is no model {str(name_or_path)!r}; give {' or '.join(BUILT_IN)}, or the path of "
                              "a weights file")  # fmt: skip
    return open_checkpoint(path, header_only=header_only, family=family, overlay=overlay, weights=weights)


def built_in_models() -> tuple[str, ...]:
    """The built-in models whose files are in this copy."""
    return tuple(name for name in BUILT_IN if not _missing(name))


def built_in_file(name: str) -> Path:
    """The weights file of a built-in model.

    Raises:
        CheckpointError: it or its codec is not in this copy.
    """
    if missing := _missing(name):
        others = [other for other in BUILT_IN if other != name]
        raise CheckpointError(f"the model {name} is not in this copy: {ASSETS} lacks {listed(missing)}; take "
                              f"{' or '.join(others)}, or put what is missing there")  # fmt: skip
    return ASSETS / f"{name}.safetensors"


def _missing(name: str) -> list[str]:
    files = (f"{name}.safetensors", f"{name}-codec.safetensors")
    return [file for file in files if not (ASSETS / file).is_file()]


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device's arithmetic has it, else float32."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Dot products of bfloat16 in hardware: AVX512-BF16 or AMX. Elsewhere torch emulates them, slower than float32."""
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def pick_device(device: str | torch.device) -> torch.device:
    """A device that works here, or an error that says why it does not."""
    name = short(str(device))
    try:
        found = torch.device(device)
    except RuntimeError as problem:
        raise SettingsError(f"device {name} is unknown to PyTorch; choose {_devices_here()}") from problem
    try:
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as problem:
        why = _NEEDS.get(found.type, "PyTorch does not compute there, as it is installed")
        raise SettingsError(f"device {name} cannot be used here: {why}; choose {_devices_here()}") from problem
    return found


_NEEDS = {
    "cuda": "it needs a PyTorch built for CUDA and a graphics card of that number",
    "mps": "it needs a Mac with Apple's own processor",
    "meta": "its tensors hold no values",
}


def _devices_here() -> str:
    found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return " or ".join([*found, "mps"] if torch.backends.mps.is_available() else found)


def _codec_file(weights: Path, preset: Preset, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    if preset.has_own_codec:
        beside = [weights.with_name(f"{weights.stem}-codec{suffix}") for suffix in (".safetensors", ".sft")]
        return next((file for file in beside if file.is_file()), beside[0])
    raise CheckpointError(f"{weights} brings no video autoencoder; name the weights file of one that fits it, such as "
                          "taew2_1 for Wan2.1, as codec")  # fmt: skip


def model_files(model: str) -> dict[str, Path]:
    """The model's files, by what they are called; a name that is no file is refused later, by those who load it."""
    path = ASSETS / f"{model}.safetensors" if model in BUILT_IN else Path(model)
    if not path.exists():
        return {}
    return {"--model": path} | {f"the model's {part.name}": part for part in parts_of_weights(path)}
