"""Reading a network's tensors from a weights file of any kind: under Wan's own names, the set that its family uses.

A training checkpoint may hold the same network twice, averaged (`generator_ema`) and as it ended (`generator`). Which
of them its family streams with stands in the family's row, so the file is recognised first.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError, SettingsError, listed
from .diffusers_names import are_diffusers_names, wan_name
from .preset import Preset
from .reading import SETS, WRAPPERS, Stored, read_stored, without_prefix

logger = logging.getLogger(__name__)

_SCALES = (".scale_weight", ".weight_scale")  # ComfyUI's scaled fp8, older and newer
_NO_WEIGHTS = (".scale_input", ".input_scale", "scaled_fp8", ".comfy_quant")
_OF_TRAINING = ("_cls_pred_branch.", "_register_tokens", "_gan_ca_blocks.")  # Self-Forcing's GAN runs leave them
_TABLES = re.compile(r"(rope\.)?freqs(_\w+)?")  # of rotary positions, which are computed here
_OF_NVFP4 = (".weight_scale_2", ".weight_global_scale")  # the second of its scales: ComfyUI's name, LightX2V's


def read_network(
    path: Path, *, header_only: bool, weights: str | None, recognise: Callable[[Stored], Preset | None]
) -> Stored:
    """Read the tensors of one network. `weights`: the key of a set; None: the set that the family uses.

    `recognise` tells the family of the tensors that were read; None if it cannot.

    Raises:
        CheckpointError: the file is damaged, or lacks that set.
        SettingsError: `weights` is not the key of a set of weights.
    """
    if weights is not None and weights not in SETS:
        raise SettingsError(f"got weights {weights!r}, wanted one of {listed(SETS)}, or none to take the family's own")
    stored = _read(path, header_only, (weights,) if weights else ())
    if not stored.sets:
        return stored if weights is None else _only(path, stored, weights)
    if weights is None:
        preset = recognise(stored)
        first = tuple(key for key in preset.wrappers if key in SETS) if preset else ()
        stored = _read(path, header_only, first) if first and first[0] != chosen_set(stored) else stored
    logger.info("%s holds the weights %s; %s is used", path.name, " and ".join(stored.sets), chosen_set(stored))
    return stored


def chosen_set(stored: Stored) -> str | None:
    """The key of the set of weights that was read; None where the file names none."""
    return next((key for key in SETS if key in (stored.wrapper, stored.prefix.partition(".")[0])), None)


def weights_and_scales(path: Path, stored: Stored, ignored: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights, and scales by the names of the weights; what belongs to no network goes to `ignored`.

    Raises: CheckpointError for NVFP4.
    """
    if _is_nvfp4(stored):
        raise CheckpointError(f"{path} holds its weights in NVFP4, NVIDIA's packing of 4-bit floating-point numbers "
                              "for Blackwell GPUs, which is not read here; take the same model in bfloat16, fp8 or "
                              "GGUF")  # fmt: skip
    weights: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for name, tensor in stored.tensors.items():
        suffix = next((suffix for suffix in _SCALES if name.endswith(suffix)), None)
        if suffix is not None:
            scales[name.removesuffix(suffix) + ".weight"] = tensor
        elif name.startswith(_OF_TRAINING) or _TABLES.fullmatch(name):
            ignored.append(name)
        elif not name.endswith(_NO_WEIGHTS):
            weights[name] = tensor
    return weights, scales


def _is_nvfp4(stored: Stored) -> bool:
    said = stored.metadata.get("_quantization_metadata", "")  # ComfyUI's
    return "nvfp4" in said.lower() or any(name.endswith(_OF_NVFP4) for name in stored.tensors)


def _read(path: Path, header_only: bool, first: tuple[str, ...]) -> Stored:
    order = (*first, *(key for key in WRAPPERS if key not in first))
    stored = without_prefix(read_stored(path, header_only=header_only, wrappers=order), order)
    if not are_diffusers_names(stored.tensors):
        return stored
    tensors = {wan_name(name): tensor for name, tensor in stored.tensors.items()}
    return replace(stored, tensors=tensors, packed={wan_name(name): unpack for name, unpack in stored.packed.items()})


def _only(path: Path, stored: Stored, weights: str) -> Stored:
    """A file with one set, which must be the one that was asked for."""
    found = chosen_set(stored)
    if found != weights:
        holds = "which names no set" if found is None else f"which holds {found} alone"
        raise CheckpointError(f"got weights {weights!r} for {path}, {holds}; leave weights out")
    return stored
