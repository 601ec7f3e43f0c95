"""A role's optimiser, and the states of both as a checkpoint holds them: whole, whatever number of processes trains."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from knot_core.errors import SettingsError

from ..recipes import Recipe, StageRecipe
from .optim import OUTER, MatrixOptimizer
from .parallel import Team
from .roles import Role

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Optimizer(Protocol):
    """What updates a role."""

    def step(self, factor: float, max_norm: float = 1.0) -> Tensor:
        """Clip, update with the learning rates times ``factor``, clear the gradients; returns the gradient's norm."""


class AdamOptimizer:
    """AdamW; works on weights that are spread over processes, too."""

    def __init__(self, role: nn.Module, stage: StageRecipe, lr: float) -> None:
        weights = [weight for weight in role.parameters() if weight.requires_grad]
        self.adam = torch.optim.AdamW(weights, lr=lr, betas=stage.betas, weight_decay=stage.weight_decay)
        self._rate, self._weights = lr, weights

    def step(self, factor: float, max_norm: float = 1.0) -> Tensor:
        norm = nn.utils.clip_grad_norm_(self._weights, max_norm)
        self.adam.param_groups[0]["lr"] = self._rate * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return norm


def make_optimizer(role: Role, recipe: Recipe, stage: StageRecipe, lr: float, team: Team) -> Optimizer:
    """As the recipe says. `lr`: the critic's differs from its stage's."""
    if recipe.optimizer == "adamw":
        return AdamOptimizer(role, stage, lr)
    if team.size > 1:
        raise SettingsError(
            f"the recipe's optimiser is muon, which updates whole matrices, but these lie apart on {team.size} "
            "processes; use --set optimizer=adamw, with lower rates, or one process"
        )
    weights = ((name, weight) for name, weight in role.network.named_parameters() if weight.requires_grad)
    return MatrixOptimizer(weights, OUTER, lr, stage.muon_lr * lr / stage.lr)


def role_state(role: Role) -> dict[str, Tensor]:
    """A role's weights, whole, on the first process."""
    return get_model_state_dict(role, options=_WHOLE)


def load_role(role: Role, state: dict[str, Tensor]) -> None:
    set_model_state_dict(role, state, options=_WHOLE)


def optimizer_state(role: Role, optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser's state, whole, on the first process."""
    if isinstance(optimizer, MatrixOptimizer):
        return optimizer.state_dict()
    return get_optimizer_state_dict(role, optimizer.adam, options=_WHOLE)


def load_optimizer(role: Role, optimizer: Optimizer, state: dict[str, Any]) -> None:
    if isinstance(optimizer, MatrixOptimizer):
        optimizer.load_state_dict(state)
    else:
        set_optimizer_state_dict(role, optimizer.adam, state, options=_WHOLE)
