"""Optimisers: Muon for matrices, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# First and last layers of a Wan network
OUTER = ("patch_embedding", "text_embedding", "time_embedding", "time_projection", "head", "audio_proj")


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
