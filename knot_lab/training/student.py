"""Train the few-step streaming student: first to turn the reference, then to stream.

With clean past frames at hand the network copies them and does not learn to turn the reference, so most steps at first
are single frames; rollouts take over later (see rollout.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from knot_core.driving.audio import MEL_DIM
from knot_core.driving.controls import CONTROLS
from knot_core.errors import StateError
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.model import WanNetwork, init_weights

from ..data.clips import Clips
from .discriminator import Adversary
from .optim import OUTER, MatrixOptimizer
from .roles import unread_text
from .rollout import StudentRecipe, rollout, singles
from .training_state import cosine, load_checkpoint, log_line, save_checkpoint


def train(
    recipe: StudentRecipe, clips: Clips, folder: Path, start_from: Path | None = None, stills: Clips | None = None
) -> WanNetwork:
    """Train, or go on from the folder's checkpoint; returns the network with averaged weights.

    ``stills``: more people, of whom there are pictures only. ``start_from``: a weights file, such as the one that
    ships, whose network is trained further.
    """
    network = init_weights(WanNetwork(recipe.network), torch.Generator().manual_seed(recipe.seed))
    pass_noise_through(network)
    weigh_signal(network)
    average = WanNetwork(recipe.network).requires_grad_(False)
    if start_from is not None:
        network.load_state_dict({name: tensor.float() for name, tensor in open_checkpoint(start_from).tensors.items()})
    average.load_state_dict(network.state_dict())
    network.to(recipe.device), average.to(recipe.device)
    optimizer = MatrixOptimizer(
        ((key, weight) for key, weight in network.named_parameters() if not unread_text(key)),
        OUTER,
        recipe.lr,
        recipe.muon_lr,
    )
    adversary = None
    if recipe.adversarial > 0:
        adversary = Adversary(recipe.network.out_channels, recipe.adversarial, recipe.seed, recipe.device)
    start, path, began, of = 0, folder / "student.ckpt", time.time(), _made_of(recipe, start_from)
    if (state := load_checkpoint(path)) is not None:
        require_same(path, state.get("of", of), of)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
        if adversary is not None and "adversary" in state:  # it may join a training that began without
            adversary.load_state_dict(state["adversary"])
    for step in range(start, recipe.steps):
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        losses = step_losses(network, recipe, clips, clips if stills is None else stills, step, rng, adversary)
        losses["loss"].backward()
        norm = optimizer.step(cosine(step, recipe.steps, recipe.warmup, floor=0.02))
        follow(average, network, min(recipe.decay, (step + 1) / (step + 10)))
        if (step + 1) % 10 == 0:
            figures = {key: value.item() for key, value in losses.items()}
            log_line(folder / "student.log", step=step + 1, **figures, norm=norm.item(), seconds=time.time() - began)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save_checkpoint(path, {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "of": of,
                **({} if adversary is None else {"adversary": adversary.state_dict()}),
            })  # fmt: skip
    return average


def _made_of(recipe: StudentRecipe, start_from: Path | None) -> dict[str, str]:
    """What a training cannot change on its way."""
    return {
        "network": json.dumps(recipe.network.to_dict()),
        "settings": json.dumps(recipe.settings.to_dict()),
        "start": "" if start_from is None else hashlib.sha256(start_from.read_bytes()).hexdigest(),
    }


def require_same(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse to go on with a training that began otherwise."""
    other = [name for name in wanted if found[name] != wanted[name]]
    if other:
        what = " and ".join(other)
        raise StateError(f"{path} is a training of another {what}; train in another folder, or remove it to begin anew")


def turned(recipe: StudentRecipe, step: int) -> float:
    """How far the training has turned from single chunks to streams: 0 before, 1 after."""
    begin, end = recipe.turn
    return min(1.0, max(0.0, (step / recipe.steps - begin) / (end - begin)))


def step_losses(  # noqa: PLR0913, PLR0917 - who learns, from what, against whom
    network: WanNetwork,
    recipe: StudentRecipe,
    clips: Clips,
    stills: Clips,
    step: int,
    rng: torch.Generator,
    adversary: Adversary | None,
) -> dict[str, Tensor]:
    """One step's losses: of single frames, or of streams."""
    turn = turned(recipe, step)
    alone = recipe.alone_first + turn * (recipe.alone_last - recipe.alone_first)
    if recipe.settings.use_anchor and torch.rand((), generator=rng) < alone:
        people = stills if torch.rand((), generator=rng) < recipe.still else clips
        batch = people.pick(torch.randint(len(people.latents), (recipe.alone_clips,), generator=rng))
        return singles(network, recipe, *batch.apart(recipe.alone_frames, rng), rng, adversary)
    batch = clips.pick(torch.randint(len(clips.latents), (recipe.clips,), generator=rng))
    return rollout(network, recipe, batch, recipe.chunks, recipe.own_most * turn, rng, adversary)


def pass_noise_through(network: WanNetwork) -> None:
    """Start the network as `velocity = x`: the noise, of which a velocity is mostly made, needs no learning."""
    patch, head = network.patch_embedding.weight, network.head.head.weight
    channels = 4 * network.config.out_channels
    assert network.config.dim >= channels, (
        f"a width of {network.config.dim} has no room for a patch of {channels} values"
    )
    with torch.no_grad():
        patch[:channels].zero_()
        for row in range(channels):  # head rows are (row, column, channel), patch columns (channel, row, column)
            place, channel = divmod(row, network.config.out_channels)
            patch[row, channel, 0, place // 2, place % 2] = 1
        patch[channels:, : network.config.out_channels] *= 0.2
        head.zero_()
        head[:, :channels] = torch.eye(channels) * 0.6


def weigh_signal(network: WanNetwork) -> None:
    """Start the adapter with the few controls as loud as the many bands of sound, which would drown them."""
    adapter = network.config.adapter
    with torch.no_grad():
        columns = network.audio_proj.proj.weight.unflatten(1, (adapter.num_packed, adapter.signal_dim))
        columns[..., :MEL_DIM] *= 0.35
        columns[..., MEL_DIM : MEL_DIM + len(CONTROLS)] *= 8.0


@torch.no_grad()
def follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
