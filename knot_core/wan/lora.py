"""LoRA files: changes of a network's weights, merged while the network is read.

Read are LoRA, LoHa, LoKr, each with DoRA's magnitude or without, and plain differences, under the names of PEFT,
diffusers, ComfyUI, kohya's trainers and LightX2V. What the tensors do not say (alpha) comes from the file's metadata
or PEFT's adapter_config.json.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, SettingsError
from .diffusers_names import wan_name
from .lora_scale import LoraScale, read_scale
from .reading import read_stored, some
from .weight_change import WeightChange, product

logger = logging.getLogger(__name__)

_WRAPPERS = ("generator_lora", "lora", "state_dict", "model")
_PREFIXES = (
    "base_model.model.", "diffusion_model.", "transformer.", "pipe.dit.", "pipe.", "dit.", "generator.", "model.",
    "module.", "net.", "unet.", "lora_unet_",
)  # fmt: skip
_ADAPTER = r"(\.\w+)?"  # PEFT's name of the adapter
_PARTS = {
    "down": rf"\.(lora_A|lora_down|lora\.down){_ADAPTER}\.weight",
    "up": rf"\.(lora_B|lora_up|lora\.up){_ADAPTER}\.weight",
    "mid": r"\.lora_mid\.weight",
    "up_b": rf"\.lora_B{_ADAPTER}\.bias",
    "magnitude": rf"\.(dora_scale|lora_magnitude_vector{_ADAPTER}(\.weight)?)",
    "alpha": r"\.alpha",
    "diff": r"\.diff",  # of a whole weight
    "diff_b": r"\.diff_b",  # of a bias
    "diff_m": r"\.diff_m",  # of a modulation
    **{part: rf"\.{part}{_ADAPTER}" for part in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
        "lokr_w1_a", "lokr_w1_b", "lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_w2", "lokr_t2")},
}  # fmt: skip
_PART = re.compile("(.*?)(" + "|".join(f"(?P<{part}>{pattern})" for part, pattern in _PARTS.items()) + ")")
_TELLTALE = re.compile(r"\.(lora_[AB]|lora_(up|down)|lora\.(up|down)|hada_w1_a|lokr_w[12](_a)?)\b")
_ENOUGH = 0.9  # of a file's tensors: if fewer were used, it was made for another network
_OF_BIASES, _OF_MODULATIONS = ("diff_b", "up_b"), ("diff_m",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lora:
    """The changes of a LoRA file, by the names of the weights that they change.

    num_tensors: the number of tensors in the file; `unused`: those that have no place in the network.
    """

    path: Path
    strength: float
    changes: Mapping[str, WeightChange]
    num_tensors: int
    unused: tuple[str, ...] = ()

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """The weight [O, ...] with its change, in float32 at least; unchanged if the file has nothing for it.

        Raises:
            CheckpointError: the change has another shape.
        """
        change = self.changes.get(name)
        if change is None or self.strength == 0:
            return weight
        shape = _shape_of(change)
        if shape.numel() != weight.numel():
            raise CheckpointError(f"{self.path} changes {name} by a matrix of shape {list(shape)}, and the "
                                  f"network has {list(weight.shape)}; it was made for another network")  # fmt: skip
        return change.applied(weight if weight.dtype == torch.float64 else weight.float(), self.strength)

    @cached_property
    def warning(self) -> str | None:
        """One sentence if part of the file has no effect; None if all of it is used."""
        name, used = self.path.name, self.num_tensors - len(self.unused)
        if self.strength == 0:
            return f"{name} changes nothing: its strength is 0"
        if all(change.is_zero for change in self.changes.values()):
            return f"{name} changes nothing: every change in it is zero; it was saved before it was trained"
        if not self.unused:
            return None
        found = f"{len(self.unused)} of {self.num_tensors} tensors have no place in this network and are ignored"
        doubt = "" if used >= _ENOUGH * self.num_tensors else "; it was probably made for another network"
        return f"{name}: {found}: {some(self.unused)}{doubt}"


def open_lora(path: str | Path, strength: float, weights: Collection[str]) -> Lora:
    """Read a LoRA file for a network whose weights have these names. A warning names tensors without a place in it.

    Raises:
        SettingsError: the strength is not between -100 and 100.
        CheckpointError: the file is damaged, or changes nothing in this network.
    """
    if not -100 <= strength <= 100:
        raise SettingsError(f"the LoRA's strength is {strength}; it must be a number between -100 and 100")
    path = Path(path)
    stored = read_stored(path, header_only=False, wrappers=_WRAPPERS)
    scale = read_scale(path, stored.metadata, stored.tensors)
    found, unused = _sorted_out(stored.tensors, frozenset(weights))
    changes = {name: parts.change(scale) for name, parts in found.items()}
    lora = Lora(path=path, strength=strength, changes=_checked(path, changes, unused), num_tensors=len(stored.tensors),
                unused=tuple(unused))  # fmt: skip
    if lora.warning is not None:
        logger.warning("%s", lora.warning)
    return lora


def is_lora(names: Collection[str]) -> bool:
    """Whether tensors of these names are changes rather than a network."""
    return any(_TELLTALE.search(name) for name in names)


@dataclass(frozen=True)
class _Parts:
    """The tensors of a file for one weight, by part, and the module's name in the file."""

    module: str
    tensors: dict[str, Tensor]
    names: list[str]  # of the tensors, as the file has them

    def change(self, scale: LoraScale) -> WeightChange:
        parts = {("diff" if part.startswith("diff") else part): tensor for part, tensor in self.tensors.items()}
        if "up_b" in parts:
            return WeightChange(parts={"diff": parts["up_b"]}, scale=scale.of(self.module, None, None))
        change = WeightChange(parts=parts)
        if change.kind == ("diff",):
            return change
        return replace(change, scale=scale.of(self.module, change.rank, parts.get("alpha")))


def _sorted_out(tensors: Mapping[str, Tensor], weights: frozenset[str]) -> tuple[dict[str, _Parts], list[str]]:
    """Parts by the weight that they change; names that have no place."""
    modules = frozenset(name.rpartition(".")[0] for name in weights) | weights
    found: dict[str, _Parts] = {}
    unused = []
    for name, tensor in tensors.items():
        match = _PART.fullmatch(name)
        part = match and next(part for part in _PARTS if match[part])
        module = match and _module(match[1], modules)
        weight = module and _weight(module, part, weights)
        if not weight:
            unused.append(name)
            continue
        parts = found.setdefault(weight, _Parts(match[1], {}, []))
        parts.tensors[part] = tensor
        parts.names.append(name)
    whole = {weight: parts for weight, parts in found.items() if _is_whole(parts)}
    unused += [name for weight, parts in found.items() if weight not in whole for name in parts.names]
    return whole, unused


def _is_whole(parts: _Parts) -> bool:
    return "up_b" in parts.tensors or any(part.startswith("diff") for part in parts.tensors) or (
        WeightChange(parts=parts.tensors).kind is not None
    )  # fmt: skip


def _weight(module: str, part: str, weights: frozenset[str]) -> str | None:
    """The name of the weight that a part of a module changes; None if the network has none."""
    if part in _OF_MODULATIONS:
        candidates = [f"{module}.modulation"]
    elif part in _OF_BIASES:
        candidates = [f"{module}.bias"]
    else:
        candidates = [f"{module}.weight", module]  # ComfyUI's names: of a parameter without a module, its own
    return next((name for name in candidates if name in weights), None)


def _checked(path: Path, changes: Mapping[str, WeightChange], unused: Sequence[str]) -> Mapping[str, WeightChange]:
    unfit = [name for name, change in changes.items() if not _fits(change)]
    if unfit:
        raise CheckpointError(f"{path} holds changes of {some(unfit)} whose parts do not fit each other; "
                              "download it again")  # fmt: skip
    if not changes:
        raise CheckpointError(f"{path} changes nothing of this network: it holds {some(unused) or 'nothing'}; "
                              "give a LoRA that was made for it")  # fmt: skip
    return changes


def _shape_of(change: WeightChange) -> torch.Size:
    """The shape of the matrix that the change's parts multiply to, found on the meta device."""
    parts = {name: part.to("meta") for name, part in change.parts.items()}
    return product(parts, change.kind, torch.device("meta")).shape


def _fits(change: WeightChange) -> bool:
    """Whether its parts make one matrix, with a rank above 0 and a magnitude along one of its axes."""
    try:
        shape = _shape_of(change)
    except (RuntimeError, ValueError, IndexError):
        return False
    magnitude, alpha = change.parts.get("magnitude"), change.parts.get("alpha")
    fits = magnitude is None or (len(shape) > 1 and magnitude.numel() in shape[:2])
    fits = fits and (alpha is None or alpha.numel() == 1)
    return fits and change.rank != 0 and shape.numel() > 0 and (change.kind == ("diff",) or len(shape) > 1)


def _module(name: str, modules: frozenset[str]) -> str | None:
    """The network's module, or parameter, that a LoRA means by `name`."""
    for candidate in _stripped(name):
        for spelled in (candidate, wan_name(candidate)):
            if spelled in modules:
                return spelled
    flat = re.sub(r"^(lora_unet_+|lora_transformer_|lycoris_|diffusion_model_)+", "", name.replace(".", "_"))
    return next((module for module in modules if module.replace(".", "_") == flat), None)


def _stripped(name: str) -> Iterator[str]:
    """The name, and what is left of it as known prefixes are taken off."""
    yield name
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
        yield name
