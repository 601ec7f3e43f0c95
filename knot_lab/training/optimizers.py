"""Optimisers: AdamW, or Muon for inner matrices; and the states of a role and its optimiser as a checkpoint holds them:
whole, whatever number of processes trains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
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

from ..stage_recipes import StageRecipe
from .roles import Role

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_PARTS = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)  # of the weights that change
# First and last layers of a Wan network
OUTER = ("patch_embedding", "text_embedding", "time_embedding", "time_projection", "head", "audio_proj")


def cosine(step: int, steps: int, warmup: int, floor: float = 0.01) -> float:
    """Learning-rate factor: a linear rise over ``warmup`` steps, then half a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


class Optimizer(Protocol):
    """An optimizer of one role's weights."""

    def step(self, factor: float, max_norm: float = 1.0) -> Tensor:
        """Clip, update with the learning rates times ``factor``, clear the gradients; returns the norm before clipping,
        [].
        """


class MatrixOptimizer:
    """Muon (Jordan et al., 2024) on every inner weight, convolutions flattened to [out, in * kh * kw]; AdamW elsewhere.

    ``outer`` parameters (first and last layers) and vectors go to AdamW, as Muon's authors advise. The learning rates
    are given once and scaled together by ``step``.
    """

    def __init__(
        self, parameters: Iterable[tuple[str, nn.Parameter]], outer: tuple[str, ...], lr: float, muon_lr: float
    ) -> None:
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        vectors = []
        for name, parameter in parameters:
            if parameter.ndim < 2 or name.startswith(outer):
                vectors.append(parameter)
            else:
                # shares its storage: an update of the flat view is an update of the weight
                flat = nn.Parameter(parameter.detach().view(parameter.shape[0], -1))
                self._pairs.append((parameter, flat))
        self._adam = torch.optim.AdamW(vectors, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
        self._muon = torch.optim.Muon(
            [flat for _, flat in self._pairs], lr=muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )
        self._rates = ((self._adam, lr), (self._muon, muon_lr))

    def step(self, factor: float, max_norm: float = 1.0) -> Tensor:
        """Clip, update with the learning rates times ``factor``, clear the gradients; returns the gradient's norm."""
        weights = [weight for weight, _ in self._pairs] + self._adam.param_groups[0]["params"]
        norm = nn.utils.clip_grad_norm_([weight for weight in weights if weight.grad is not None], max_norm)
        for weight, flat in self._pairs:
            flat.grad = None if weight.grad is None else weight.grad.view_as(flat)
        for optimizer, rate in self._rates:
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
        for weight, flat in self._pairs:
            weight.grad = flat.grad = None
        self._adam.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict:
        return {"adam": self._adam.state_dict(), "muon": self._muon.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self._adam.load_state_dict(state["adam"])
        self._muon.load_state_dict(state["muon"])


class AdamOptimizer:
    """AdamW; works on weights that are spread over processes, too."""

    def __init__(self, role: nn.Module, stage: StageRecipe, lr: float) -> None:
        weights = [weight for weight in role.parameters() if weight.requires_grad]
        self.adam = torch.optim.AdamW(weights, lr=lr, betas=stage.betas, weight_decay=stage.weight_decay)
        self._rate, self._weights = lr, weights

    def step(self, factor: float, max_norm: float = 1.0) -> Tensor:
        """Do a step as `Optimizer.step` does; returns the norm of the gradient before it was clipped, []."""
        norm = nn.utils.clip_grad_norm_(self._weights, max_norm)
        self.adam.param_groups[0]["lr"] = self._rate * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return norm


def make_optimizer(kind: str, role: Role, stage: StageRecipe, lr: float, outer: tuple[str, ...] = OUTER) -> Optimizer:
    """`kind`: adamw or muon. `lr`: the critic's differs from its stage's. `outer`: what Muon leaves to AdamW."""
    if kind == "adamw":
        return AdamOptimizer(role, stage, lr)
    weights = ((name, weight) for name, weight in role.network.named_parameters() if weight.requires_grad)
    return MatrixOptimizer(weights, outer, lr, stage.muon_lr * lr / stage.lr)


def role_state(role: Role) -> dict[str, Tensor]:
    """A role's weights, whole, on the first process."""
    return get_model_state_dict(role, options=_WHOLE)


def load_role(role: Role, state: dict[str, Tensor]) -> None:
    set_model_state_dict(role, state, options=_PARTS)


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


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
