"""The scale of a LoRA file's products where its tensors do not give it: diffusers' metadata, PEFT's configuration.

scale = alpha / rank; with rank-stabilised LoRA alpha / sqrt(rank) (arXiv 2312.03732). Without an alpha anywhere it is
the rank, so the scale is 1.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, short

_CONFIG = "adapter_config.json"
_METADATA = "lora_adapter_metadata"  # diffusers'
_PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_PEFT_PREFIX = "base_model.model."
_NETWORK = "transformer."  # what diffusers puts before each name in its metadata


@dataclass(frozen=True, kw_only=True)
class LoraScale:
    """The scale that a configuration gives: one value for all modules, and others for modules whose names end so."""

    alpha: float | None = None
    rank: float | None = None
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False

    def of(self, module: str, rank: int | None, alpha: Tensor | None) -> float:
        """The scale of a module, by its name in the file; `rank` and `alpha` [1] of its own tensors take precedence."""
        said = alpha.item() if alpha is not None and alpha.numel() == 1 else self._named(self.alpha_pattern, module)
        said = self.alpha if said is None else said
        rank = self._named(self.rank_pattern, module) or self.rank if rank is None else rank
        if said is None or not rank:
            return 1.0
        return said / (math.sqrt(rank) if self.rank_stabilised else rank)

    def _named(self, pattern: Mapping[str, Any], module: str) -> Any:
        """The value of the first name that the module's own ends with: as PEFT matches them."""
        return next((value for name, value in pattern.items() if re.search(rf"(^|\.)({name})$", module)), None)


def read_scale(path: Path, metadata: Mapping[str, str], names: Collection[str]) -> LoraScale:
    """Read the configuration in the file, or beside it.

    Raises: CheckpointError if it is there and cannot be read.
    """
    if _METADATA in metadata:
        return _parsed(path, f"the metadata of {path}", metadata[_METADATA])
    config = (path if path.is_dir() else path.parent) / _CONFIG
    if config.is_file() and _belongs(path, names):
        return _parsed(path, str(config), config.read_bytes())
    return LoraScale()


def _belongs(path: Path, names: Collection[str]) -> bool:
    """Whether the configuration in its folder is this file's: PEFT's own file name, or its names of modules."""
    return path.is_dir() or path.name in _PEFT_FILES or any(name.startswith(_PEFT_PREFIX) for name in names)


def _parsed(path: Path, source: str, text: str | bytes) -> LoraScale:
    try:
        said = {str(name).removeprefix(_NETWORK): value for name, value in json.loads(text).items()}
        return LoraScale(
            alpha=_number(said.get("lora_alpha", said.get("alpha"))),  # LoRA's name of it; LoHa's and LoKr's
            rank=_number(said.get("r")),
            alpha_pattern=_patterns(said.get("alpha_pattern")),
            rank_pattern=_patterns(said.get("rank_pattern")),
            rank_stabilised=bool(said.get("use_rslora", False)),
        )
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
        raise CheckpointError(f"{source} does not say how {path.name} is scaled ({short(problem, str)}); "
                              "download it again") from problem  # fmt: skip


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{number} is no scale")
    return number


def _patterns(said: Mapping[str, Any] | None) -> dict[str, float]:
    """Values by names, or regular expressions, of modules; one that is no expression raises."""
    try:
        return {re.compile(name).pattern: _number(value) for name, value in (said or {}).items()}
    except re.error as problem:
        raise ValueError(str(problem)) from problem
