"""LoRA files: low-rank changes of a network's matrices, merged while the network is read.

W' = W + strength * (alpha / rank) * up @ down (Hu et al., arXiv 2106.09685); a file without alpha means alpha = rank.
Names are read in the styles of PEFT, of ComfyUI and diffusers, and of kohya's trainers.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, SettingsError
from .reading import read_stored, some

logger = logging.getLogger(__name__)

_WRAPPERS = ("generator_lora", "lora", "state_dict", "model")
_PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "generator.", "model.", "unet.", "lora_unet_")
_PARTS = {
    "down": r"\.(lora_A|lora_down|lora\.down)(\.\w+)?\.weight",  # \w+: PEFT's name of the adapter
    "up": r"\.(lora_B|lora_up|lora\.up)(\.\w+)?\.weight",
    "alpha": r"\.alpha",
    "diff": r"\.diff",  # of a whole weight
    "diff_b": r"\.diff_b",  # of a bias
}
_PART = re.compile("(.*?)(" + "|".join(f"(?P<{part}>{pattern})" for part, pattern in _PARTS.items()) + ")")
# diffusers' names of Wan's modules
_DIFFUSERS = (
    (r"\battn1\b", "self_attn"),
    (r"\battn2\b", "cross_attn"),
    (r"\bto_([qkv])\b", r"\1"),
    (r"\bto_out\.0\b", "o"),
    (r"\bffn\.net\.0\.proj\b", "ffn.0"),
    (r"\bffn\.net\.2\b", "ffn.2"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lora:
    """Changes by the names of the weights that they change."""

    path: Path
    strength: float
    changes: Mapping[str, Mapping[str, Tensor]]  # weight -> down and up, perhaps alpha; or diff

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """The weight with its change, in float32 at least; as it is if the file does not change it."""
        parts = self.changes.get(name)
        if parts is None or self.strength == 0:
            return weight
        weight = weight if weight.dtype == torch.float64 else weight.float()
        change = _change(parts, weight.device)
        if change.numel() != weight.numel():
            raise CheckpointError(f"{self.path} changes {name} by a matrix of shape {list(change.shape)}, and the "
                                  f"network has {list(weight.shape)}; it was made for another network")  # fmt: skip
        return torch.add(weight, change.view_as(weight), alpha=self.strength)


def open_lora(path: str | Path, strength: float, weights: Collection[str]) -> Lora:
    """Read a LoRA file for a network whose weights have these names; what finds no place in it is said."""
    if not -100 <= strength <= 100:
        raise SettingsError(f"the LoRA's strength is {strength}; it must be a number between -100 and 100")
    path = Path(path)
    stored = read_stored(path, header_only=False, wrappers=_WRAPPERS)
    modules = {name.rpartition(".")[0] for name in weights}
    found: dict[str, dict[str, Tensor]] = {}
    homeless = []
    for name, tensor in stored.tensors.items():
        match = _PART.fullmatch(name)
        module = match and _module(match[1], modules)
        if not match or not module:
            homeless.append(name)
            continue
        part = next(part for part in _PARTS if match[part])
        weight = f"{module}.bias" if part == "diff_b" else f"{module}.weight"
        found.setdefault(weight, {})[part.removesuffix("_b")] = tensor
    return Lora(path=path, strength=strength, changes=_checked(path, found, homeless, weights))


def is_lora(names: Collection[str]) -> bool:
    """Whether tensors of these names are changes rather than a network."""
    return any(re.search(r"\.(lora_[AB]|lora_(up|down)|lora\.(up|down))\b", name) for name in names)


def _checked(
    path: Path, found: Mapping[str, Mapping[str, Tensor]], homeless: list[str], weights: Collection[str]
) -> Mapping[str, Mapping[str, Tensor]]:
    whole = {name: parts for name, parts in found.items() if "diff" in parts or {"up", "down"} <= set(parts)}
    homeless = homeless + sorted((set(found) - set(whole)) | (set(whole) - set(weights)))
    whole = {name: parts for name, parts in whole.items() if name in weights}
    unfit = [name for name, parts in whole.items() if not _fit(parts)]
    if unfit:
        raise CheckpointError(f"{path} holds changes of {some(unfit)} whose parts do not fit each other; "
                              "download it again")  # fmt: skip
    if not whole:
        raise CheckpointError(f"{path} changes nothing of this network: it holds {some(homeless) or 'nothing'}; "
                              "give a LoRA that was made for it")  # fmt: skip
    if homeless:
        logger.warning("%s: %d tensors have no place in this network and are ignored: %s",
                       path.name, len(homeless), some(homeless))  # fmt: skip
    return whole


def _fit(parts: Mapping[str, Tensor]) -> bool:
    """Whether they make one matrix: up [out, rank], down [rank, in], and a number alpha."""
    if "diff" in parts:
        return True
    up, down = parts["up"], parts["down"]
    made = min(up.dim(), down.dim()) >= 2 and down.shape[0] > 0 and up.flatten(1).shape[1] == down.shape[0]
    return made and ("alpha" not in parts or parts["alpha"].numel() == 1)


def _module(name: str, modules: Collection[str]) -> str | None:
    """The network's module that a LoRA means by `name`."""
    for candidate in _stripped(name):
        for spelled in (candidate, _from_diffusers(candidate)):
            if spelled in modules:
                return spelled
    flat = re.sub(r"^(lora_unet_+|lycoris_|diffusion_model_)+", "", name.replace(".", "_"))
    return next((module for module in modules if module.replace(".", "_") == flat), None)


def _stripped(name: str) -> Iterator[str]:
    """The name, and what is left of it as known prefixes are taken off."""
    yield name
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
        yield name


def _from_diffusers(name: str) -> str:
    for pattern, ours in _DIFFUSERS:
        name = re.sub(pattern, ours, name)
    return name


def _change(parts: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """alpha / rank * up @ down, or the difference itself; in float32"""
    if "diff" in parts:
        return parts["diff"].to(device, torch.float32)
    down, up = (parts[name].to(device, torch.float32).flatten(1) for name in ("down", "up"))
    rank = down.shape[0]
    scale = parts["alpha"].item() / rank if "alpha" in parts else 1.0
    return scale * (up @ down)
