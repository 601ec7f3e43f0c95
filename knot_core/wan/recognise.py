"""Which family a file is of: by its structure, then by its names, then by what wraps its weights."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..config import LAYOUT_CHANNELS, AdapterConfig, AudioCrossConfig
from ..errors import CheckpointError
from .families import LARGE, ROWS, SMALL, AdapterKind, Preset

_SIZE_NAMES = {SMALL: "1.3B", LARGE: "14B"}


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a file's names and shapes say."""

    in_channels: int
    dim: int
    num_layers: int
    adapter: AdapterKind | None
    tail: str  # the last parts of its path
    wrappers: Collection[str]  # key and prefix that its weights were found under


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A family, why it is taken for that, and whether something says so or it is only the nearest."""

    preset: Preset
    why: str
    sure: bool


def recognise(traits: Traits) -> Recognised:
    """The family by structure, then by names, then by what wraps the weights; else the nearest."""
    rows = [row for row in ROWS if LAYOUT_CHANNELS[row.layout] == traits.in_channels]
    if not rows:
        known = ", ".join(f"{channels} ({layout})" for layout, channels in LAYOUT_CHANNELS.items())
        raise CheckpointError(f"it has {traits.in_channels} input channels; networks with {known} can stream")
    rows = [row for row in rows if row.adapter == traits.adapter] or rows
    named = _named(rows, traits.tail)
    if named is not None:
        return Recognised(preset=named, why=f"{_structure(traits)}; its name says {named.title}", sure=True)
    best = max(rows, key=lambda row: (_is_wrapped_so(row, traits), traits.dim in row.widths))
    if len(rows) == 1 and best.adapter == traits.adapter and traits.dim in best.widths:
        return Recognised(preset=best, why=f"{_structure(traits)}, as only {best.title} has", sure=True)
    return Recognised(preset=best, why=f"{_structure(traits)}; {_guess(best, rows, traits)}", sure=False)


def adapter_kind(adapter: AdapterConfig | AudioCrossConfig | None) -> AdapterKind | None:
    """Of a configuration."""
    if adapter is None:
        return None
    return "pack" if isinstance(adapter, AdapterConfig) else "cross"


def _named(rows: Sequence[Preset], tail: str) -> Preset | None:
    """The row that the file's name says, with its folders' names before it; else the one that a folder's name says."""
    path = re.sub(r"[^a-z0-9/]+", "-", tail.lower())
    file_at = path.rfind("/") + 1
    found = [(row, match) for row in rows if row.names for match in re.finditer(row.names, path)]
    by_file = [row for row, match in found if match.end() > file_at]
    return next(iter(by_file or [row for row, _ in found]), None)


def _is_wrapped_so(row: Preset, traits: Traits) -> bool:
    return bool(set(row.wrappers) & set(traits.wrappers))


def _structure(traits: Traits) -> str:
    size = _SIZE_NAMES.get(traits.dim, "no published size")
    sound = {None: "no audio modules", "pack": "packed audio", "cross": "audio cross-attention"}[traits.adapter]
    return (f"Wan2.1 structure with {traits.in_channels} input channels, width {traits.dim} ({size}), "
            f"{traits.num_layers} blocks, {sound}")  # fmt: skip


def _guess(best: Preset, rows: Sequence[Preset], traits: Traits) -> str:
    if len(rows) == 1:
        return f"{best.title} is the nearest; name the family if it is another"
    alike = ", ".join(row.family for row in rows)
    wrapped = sorted(set(best.wrappers) & set(traits.wrappers))
    hint = f"the weights lie under {wrapped[0]!r}, as {best.title}'s do" if wrapped else "no name says which"
    return (f"the weights of {alike} cannot be told apart by structure, and {hint}: taken for {best.title} as the "
            "nearest; name the family if it is another")  # fmt: skip
