"""A stage of training: its roles, what updates them, and one step of it.

A step is one update, or several, each of one role, by its own clips and its own dice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from knot_core.config import NetworkConfig

from ..data.batch import Batch
from ..parallel import Team, average_gradients, share_weights
from ..precision import compute_dtype
from ..recipes import Recipe
from ..rng import Dice, DiceOf
from ..stage_recipes import StageRecipe
from .optimizers import Optimizer
from .roles import Role

Feed = Callable[[int, int], Iterable[tuple[Batch, Dice]]]  # (step, part) -> the micro-batches of one update
Losses = dict[str, Tensor]  # of which `loss` has the gradient
_MOST_NUMBERS = 64  # of a tensor, that tell it from another


class NotFiniteError(ArithmeticError):
    """A loss or a gradient that is no number."""

    def __init__(self, step: int, part: int, values: Mapping[str, float]) -> None:
        super().__init__(f"step {step}, part {part}: {dict(values)}")
        self.step, self.part, self.values = step, part, values


class Source(Protocol):
    """A source of batches."""

    def draw(self, recipe: Recipe, team: Team, dice_of: DiceOf) -> Iterator[tuple[Batch, Dice]]:
        """This process's micro-batches of one update, each with its dice."""

    def batch(self, recipe: Recipe, dice: Dice) -> Batch:
        """Clips to look at, one for each of the dice's; only of stages that show samples."""


class Stateful(Protocol):
    """A part with a state of its own that learns beside the roles."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Update:
    """One update of a role: by these losses, which are logged with this before their names."""

    role: str
    losses: Callable[[Stage, Batch, Dice], Losses]
    prefix: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Roles under names, optimisers of those that learn, and the updates of a step; `average` follows `learner`."""

    name: str
    recipe: Recipe
    own: StageRecipe  # this stage's part of the recipe
    team: Team
    roles: Mapping[str, Role]
    optimizers: Mapping[str, Optimizer]
    learner: str
    updates: tuple[Update, ...]
    fixed: Mapping[str, str]  # what a training cannot change on its way
    write: Callable[[Stage, Mapping[str, Tensor], Path, int], None]  # the result's weights, after so many steps
    sample: Callable[[Stage, Batch, Dice], Tensor] | None = None  # clips by the averaged weights, to look at
    sheet: Callable[[Path, Batch, Tensor], np.ndarray] | None = None  # draws them; None: as latents
    measure: Callable[[Stage], dict[str, float]] | None = None  # figures of what is saved
    beside: Mapping[str, Stateful] = field(default_factory=dict)
    is_saved: Callable[[str], bool] = lambda _: True  # whether a weight of this name changes
    numbered: bool = False  # whether the result is written with every checkpoint, under its step's number

    @property
    def result(self) -> str:
        """The role whose weights the stage is about."""
        return "average" if "average" in self.roles else self.learner

    @property
    def saved(self) -> tuple[str, ...]:
        """The roles that change."""
        return (*self.optimizers, *(["average"] if "average" in self.roles else []))


def make_role(network: nn.Module, recipe: Recipe, team: Team, *, learns: bool = True) -> Role:
    """A role on the team's device, computing in the recipe's precision; with AdamW spread over the processes."""
    if not learns:
        network.requires_grad_(False)
    role = Role(network, dtype=compute_dtype(recipe.precision, team.device), device=team.device)
    return role if recipe.optimizer == "muon" else share_weights(role, team)


def fixed_by(network: NetworkConfig, recipe: Recipe, starts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """The settings that a training run cannot change once it has begun: the network, how it streams, its initial
    weights.
    """
    return {
        "network": json.dumps(network.to_dict()),
        "settings": json.dumps(recipe.stream.to_dict()),
        "start": json.dumps({role: sampled(tensors) for role, tensors in sorted(starts.items())}),
    }


def sampled(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and some numbers of each tensor, which distinguishes weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().reshape(-1)
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(flat[:: max(1, flat.numel() // _MOST_NUMBERS)].float().cpu().numpy().tobytes())
    return found.hexdigest()


def run_step(stage: Stage, step: int, factor: float, feed: Feed) -> dict[str, float]:
    """All updates of one step, with the learning rates times `factor`; their losses' means over all processes."""
    values: dict[str, float] = {}
    for part, update in enumerate(stage.updates):
        found = _update(stage, update, (step, part), factor, feed)
        values |= {update.prefix + name: value for name, value in found.items()}
    return values


def _update(stage: Stage, update: Update, at: tuple[int, int], factor: float, feed: Feed) -> dict[str, float]:
    sums: Losses = {}
    parts = list(feed(*at))
    for batch, dice in parts:
        losses = update.losses(stage, batch, dice)
        (losses["loss"] / len(parts)).backward()
        sums = {name: sums.get(name, 0) + value.detach() / len(parts) for name, value in losses.items()}
    average_gradients(stage.roles[update.role], stage.team)
    values = stage.team.mean(sums)
    _require_finite(values, at)
    values |= stage.team.mean({"norm": stage.optimizers[update.role].step(factor)})
    _require_finite(values, at)
    return values


def _require_finite(values: Mapping[str, float], at: tuple[int, int]) -> None:
    if not all(torch.isfinite(torch.tensor(value)) for value in values.values()):
        raise NotFiniteError(*at, values)
