"""Recognising the family of a file: by its structure, then by its names, then by the key that its weights lie under."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..config import LAYOUT_CHANNELS, UNITS, WINDOWS, Adapter
from ..errors import CheckpointError
from .families import ROWS
from .preset import LARGE, SMALL, AdapterKind, Preset

_SIZE_NAMES = {SMALL: "1.3B", LARGE: "14B"}
_DOUBT = "; name the family if it is another"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The structure and the names of a weights file, as far as they tell its family."""

    in_channels: int
    dim: int
    num_layers: int
    adapter: AdapterKind | None
    tail: str  # the last parts of its path
    wrappers: Collection[str]  # key and prefix that its weights were found under


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A family, the reason for it, and whether that is certain or only the closest match."""

    preset: Preset
    why: str
    sure: bool


def recognise(traits: Traits) -> Recognised:
    """The family by structure, then by names, then by the key that the weights lie under; else the closest match.

    It is sure if the structure, or a name that only one family uses, tells it.

    Raises:
        CheckpointError: no family has its number of input channels.
    """
    rows = [row for row in ROWS if LAYOUT_CHANNELS[row.layout] == traits.in_channels]
    if not rows:
        known = ", ".join(f"{channels} ({layout})" for layout, channels in LAYOUT_CHANNELS.items())
        raise CheckpointError(f"it has {traits.in_channels} input channels; networks with {known} can stream")
    rows = [row for row in rows if row.adapter == traits.adapter] or rows
    named = _matching(rows, traits.tail, lambda row: row.names)
    if named:
        return _by_name(named, traits)
    of_width = [row for row in rows if traits.dim in row.widths]
    hinted = [match.row for match in _matching(of_width or rows, traits.tail, lambda row: row.hints)]
    alike = hinted[::-1] or of_width or rows  # of those that a hint fits the most special ones come first in the table
    best = max(alike, key=lambda row: _is_wrapped_so(row, traits))
    if len(rows) == 1 and best.adapter == traits.adapter and traits.dim in best.widths:
        return Recognised(preset=best, why=f"{_structure(traits)}, as only {best.title} has", sure=True)
    return Recognised(preset=best, why=f"{_structure(traits)}; {_guess(best, alike, traits)}", sure=False)


def adapter_kind(adapter: Adapter | None) -> AdapterKind | None:
    """The kind of adapter that a configuration describes; None without an adapter."""
    if adapter is None:
        return None
    return {WINDOWS: "cross", UNITS: "units"}.get(adapter.name, "pack")


@dataclass(frozen=True)
class _Match:
    """A row whose pattern stands in a path, from one character to another."""

    row: Preset
    start: int
    end: int

    def overlaps(self, other: "_Match") -> bool:
        return self.start < other.end and other.start < self.end


def _matching(rows: Sequence[Preset], tail: str, pattern: Callable[[Preset], str]) -> list[_Match]:
    """A match for each row that the file's name says, with its folders' names before it; else the folders' names."""
    path = re.sub(r"[^a-z0-9/]+", "-", tail.lower())
    file_at = path.rfind("/") + 1
    found = [_Match(row, *match.span()) for row in rows if pattern(row) for match in re.finditer(pattern(row), path)]
    found = [match for match in found if match.end > file_at] or found
    return list({match.row.family: match for match in reversed(found)}.values())[::-1]


def _by_name(named: Sequence[_Match], traits: Traits) -> Recognised:
    """The first row; not sure if another part of the name says another family, or its published sizes are others."""
    best = named[0].row
    rivals = [match.row for match in named if not match.overlaps(named[0]) and not match.row.is_base]
    says = f"its name says {' and '.join(row.title for row in (best, *rivals))}"
    published = traits.dim not in _SIZE_NAMES or traits.dim in best.widths
    if not published:
        says += f", which has another width ({', '.join(map(str, best.widths))})"
    sure = published and not rivals
    return Recognised(preset=best, why=f"{_structure(traits)}; {says}" + ("" if sure else _DOUBT), sure=sure)


def _is_wrapped_so(row: Preset, traits: Traits) -> bool:
    return bool(set(row.wrappers) & set(traits.wrappers))


def _structure(traits: Traits) -> str:
    size = _SIZE_NAMES.get(traits.dim, "no published size")
    kinds = {None: "no audio modules", "pack": "packed audio", "units": "packed audio and face units",
             "cross": "audio cross-attention"}  # fmt: skip
    sound = kinds[traits.adapter]
    return (f"Wan2.1 structure with {traits.in_channels} input channels, width {traits.dim} ({size}), "
            f"{traits.num_layers} blocks, {sound}")  # fmt: skip


def _guess(best: Preset, alike: Sequence[Preset], traits: Traits) -> str:
    if len(alike) == 1:
        return f"{best.title} is the nearest{_DOUBT}"
    names = ", ".join(row.family for row in alike)
    wrapped = sorted(set(best.wrappers) & set(traits.wrappers))
    hint = f"the weights lie under {wrapped[0]!r}, as {best.title}'s do" if wrapped else "no name says which"
    return (f"the weights of {names} cannot be told apart by structure, and {hint}: taken for {best.title} as the "
            f"nearest{_DOUBT}")  # fmt: skip
