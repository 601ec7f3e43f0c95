"""One process, or several that `torchrun` started: who trains which clips, and FSDP2 around a network.

A role is one FSDP unit: weights, gradients, averages and optimiser states lie apart on the processes, and a role's
weights come together while it is called. That suits networks of a few billion weights; a 14 B network would want one
unit a block. With Muon, which updates whole matrices, every process has all weights, and gradients are averaged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from knot_core.errors import SettingsError


@dataclass(frozen=True)
class Team:
    """The processes of a training run, seen from one of them."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """The one that writes."""
        return self.rank == 0

    def rows(self, batch: int, micro_batch: int) -> list[range]:
        """The clips of a batch that this process trains, so many at a time."""
        if batch % (self.size * micro_batch):
            raise SettingsError(
                f"a batch of {batch} clips does not divide among {self.size} processes with {micro_batch} clips at a "
                f"time; set batch to a multiple of {self.size * micro_batch}, or micro_batch lower"
            )
        mine = batch // self.size
        first = self.rank * mine
        return [range(start, start + micro_batch) for start in range(first, first + mine, micro_batch)]

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Over all processes; of one that holds no number, none."""
        names = sorted(values)
        numbers = torch.stack([_whole(values[name]).detach().float() for name in names])
        if self.size > 1:
            dist.all_reduce(numbers)
        return dict(zip(names, (numbers / self.size).tolist(), strict=True))

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join_team(device: str) -> Team:
    """Join the team that `torchrun`'s environment variables describe; a team of one without them. `device`: cpu or
    cuda.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1:
        return Team(device=torch.device(device))
    at = torch.device(device)
    if at.type == "cuda":
        at = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(at)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if at.type == "cuda" else "gloo")
    return Team(rank=rank, size=size, device=at)


def leave_team(team: Team) -> None:
    """End what `join_team` began."""
    if team.size > 1:
        dist.destroy_process_group()


def share_weights(role: nn.Module, team: Team) -> nn.Module:
    """Spread a role's weights over the processes (FSDP2)."""
    if team.size > 1:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(team.device.type, (team.size,))
        # together only while it is called: an average's weights change between two calls
        fully_shard(role, mesh=mesh, reshard_after_forward=True)
    return role


def average_gradients(role: nn.Module, team: Team) -> None:
    """Give every process the mean gradient of the weights that are not spread; FSDP2 does so with those that are."""
    gradients = [weight.grad for weight in role.parameters() if weight.grad is not None]
    whole = [gradient for gradient in gradients if not hasattr(gradient, "full_tensor")]
    if team.size > 1 and whole:
        together = torch.cat([gradient.flatten() for gradient in whole])
        dist.all_reduce(together)
        parts = (together / team.size).split([gradient.numel() for gradient in whole])
        for gradient, part in zip(whole, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _whole(value: Tensor) -> Tensor:
    """A norm of spread gradients is spread, too."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value
