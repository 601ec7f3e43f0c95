"""Clips on disc, read by every recipe: what `prepare` made of videos, or `clips` of drawn portraits.

A shard is a safetensors file: latents [N, F, 16, h, w], references [N, R, 16, h, w] (pictures, each encoded by itself),
reference_positions [N, R] (latent frames from the clip's first), signal [N, F, 4, S]. A file `text.safetensors` beside
them holds the prompt of all: text [1, T, D].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from knot_core.config import NetworkConfig
from knot_core.errors import SettingsError
from knot_core.geometry import SPATIAL, latent_size

from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice, DiceOf
from .batch import FULL_SIGNAL, Batch, Given, drop_driving

TEXT_FILE = "text.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """All clips of some shards; they are read when they are drawn."""

    shards: tuple[tuple[Path, int], ...]  # with the number of clips of each
    text_BTD: Tensor

    def __len__(self) -> int:
        return sum(count for _, count in self.shards)

    def draw(self, recipe: Recipe, team: Team, dice_of: DiceOf) -> Iterator[tuple[Batch, Dice]]:
        """This process's part of one update, so many clips at a time as the recipe says."""
        for rows in team.rows(recipe.batch, recipe.micro_batch):
            dice = dice_of(rows)
            yield self.batch(recipe, dice), dice

    def batch(self, recipe: Recipe, dice: Dice) -> Batch:
        """Clips drawn by their own dice: which, from which frame on, with which reference, with what driving."""
        parts = []
        for row, start_lot, reference_lot in zip(
            dice.below(len(self)), dice.uniform().tolist(), dice.uniform().tolist(), strict=True
        ):
            parts.append(_cut(self._read(row), recipe.example_frames, start_lot, reference_lot))
        latents, reference, position, signal = (torch.stack(part) for part in zip(*parts, strict=True))
        ahead = torch.tensor(dice.below(recipe.later + 1))
        position = torch.where(position < 0, recipe.clip_frames - 1 + ahead, position)
        given = Given(
            reference_B1CHW=reference[:, None],
            reference_position_B=position,
            signal_BFTS=drop_driving(signal, recipe.network.adapter, recipe.drop, dice),
            text_BTD=self.text_BTD,
        )
        return Batch(truth_BFCHW=latents, given=given)

    def _read(self, number: int) -> dict[str, Tensor]:
        for path, count in self.shards:
            if number < count:
                with safe_open(path, framework="pt") as file:
                    names = set(file.keys())
                    wanted = _NAMES & names
                    clip = {name: file.get_slice(name)[number : number + 1][0].float() for name in wanted}
                return clip if "signal" in names else _with_signal(clip)
            number -= count
        raise AssertionError("a clip's number is below the number of clips")


_NAMES = {"latents", "references", "reference_positions", "signal", "mel", "controls", "speaking"}


def _cut(
    clip: Mapping[str, Tensor], num_frames: int, start_lot: float, reference_lot: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A part of a clip from a random frame on: latents, reference, its position (-1: anywhere later), signal."""
    start = int(start_lot * (len(clip["latents"]) - num_frames + 1))
    number = int(reference_lot * len(clip["references"]))
    positions = clip.get("reference_positions")
    position = torch.tensor(-1) if positions is None else positions[number].long() - start
    frames = slice(start, start + num_frames)
    return clip["latents"][frames], clip["references"][number], position, clip["signal"][frames]


def _with_signal(clip: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the signal of a drawn portrait: speech where the mouth speaks, controls, and all flags set."""
    speaking = clip["speaking"]
    flags = torch.stack([speaking, torch.ones(()), torch.ones(())]).expand(*clip["mel"].shape[:2], 3)
    return clip | {"signal": torch.cat([clip["mel"] * speaking, clip["controls"], flags], dim=-1)}


def open_examples(folder: Path, recipe: Recipe) -> Examples:
    """The shards of a folder; refuses what does not fit the recipe."""
    paths = sorted(path for path in folder.glob("*.safetensors") if path.name != TEXT_FILE)
    if not paths:
        raise SettingsError(
            f"there are no clips in {folder}; make them with `python -m knot_lab train prepare VIDEOS --folder ...`, "
            "or with `clips` for drawn portraits"
        )
    shards, config = [], recipe.network
    for path in paths:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            count, frames, _, *size = file.get_slice("latents").get_shape()
            width = file.get_slice("signal").get_shape()[-1] if "signal" in names else FULL_SIGNAL
        if frames < recipe.example_frames:
            raise SettingsError(
                f"{path.name} has clips of {frames} latent frames, the recipe wants {recipe.example_frames}; "
                "prepare longer clips, or set clip_frames lower"
            )
        if tuple(size) != latent_size(recipe.height, recipe.width):
            raise SettingsError(
                f"{path.name} has latents of {size[0]}x{size[1]}, the recipe wants {recipe.height // SPATIAL}x"
                f"{recipe.width // SPATIAL}; prepare the clips for this recipe, or set its height and width"
            )
        if config.adapter is not None and config.adapter.signal_dim != width:
            raise SettingsError(
                f"{path.name} has signals of {width} numbers, the network takes {config.adapter.signal_dim}; "
                "prepare the clips for this recipe"
            )
        shards.append((path, count))
    return Examples(shards=tuple(shards), text_BTD=_text(folder, config))


def _text(folder: Path, config: NetworkConfig) -> Tensor:
    path = folder / TEXT_FILE
    if not path.exists():
        return torch.zeros(1, 1, config.text_dim)
    text = load_file(path)["text"].float()
    if text.dim() != 3 or text.shape[0] != 1 or text.shape[2] != config.text_dim:
        raise SettingsError(f"{path} holds a text of {list(text.shape)}; it must be [1, tokens, {config.text_dim}]")
    return text
