"""How much memory a recipe's stages take on each device, before anything is run: an estimate, from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from knot_core.geometry import latent_size, num_tokens
from knot_core.wan.network import WanNetwork

from ..recipes import Recipe
from .stages import STAGES

_FLOAT32, _BFLOAT16 = 4, 2  # bytes
_WIDTHS_KEPT = 56  # bytes a token and unit of width that one block keeps for its gradient: 12 in bfloat16, 8 in float32
_HIDDEN_KEPT = 6  # the same for the feed-forward's hidden layer: before and after GELU, and its gradient


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device."""

    states: int  # weights, averages, optimisers' moments: spread over the devices
    gradients: int
    together: int  # a role's weights while it is called, its autocast copies, its gradients before they are spread
    activations: int

    @property
    def total(self) -> int:
        return self.states + self.gradients + self.together + self.activations


def estimate_memory(recipe: Recipe, stage: str, devices: int) -> Memory:
    """The memory of one training stage, per device."""
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in WanNetwork(recipe.network).parameters())
    networks, trained = {"teacher": (2, 1), "causal": (2, 1), "distill": (4, 2)}[stage]
    networks += stage == "causal" and recipe.causal.objective == "ode"
    copies = _BFLOAT16 if recipe.precision == "bfloat16" else 0
    apart = devices > 1
    return Memory(
        states=_FLOAT32 * weights * (networks + 2 * trained) // devices,
        gradients=_FLOAT32 * weights // devices,
        together=weights * (copies + 2 * _FLOAT32 * apart),
        activations=_activations(recipe, stage),
    )


def _activations(recipe: Recipe, stage: str) -> int:
    """Activations that one update keeps for the gradient, for the micro-batch of one device."""
    net, stream = recipe.network, recipe.stream
    tokens = num_tokens(*latent_size(recipe.height, recipe.width)) * recipe.micro_batch
    chunk = stream.num_chunk_frames + stream.num_knot_frames
    frames_of_passes = {
        "teacher": [recipe.clip_frames],
        "causal": [recipe.num_chunks * stream.num_chunk_frames, recipe.num_chunks * chunk],
        "distill": [chunk] * recipe.num_chunks,
    }[stage]
    block = net.dim * _WIDTHS_KEPT + net.ffn_dim * _HIDDEN_KEPT
    window = net.num_layers * 2 * _BFLOAT16 * net.dim * (stream.num_window_frames + 1)
    if recipe.recompute:
        kept = sum(frames_of_passes) * net.num_layers * net.dim * _FLOAT32 + max(frames_of_passes) * block
    else:
        kept = sum(frames_of_passes) * net.num_layers * block
    if stage == "distill":  # the critic's own update sees the clip at once
        clip = net.num_layers * net.dim * _FLOAT32 + block if recipe.recompute else net.num_layers * block
        kept = max(kept, recipe.clip_frames * clip)
    return tokens * (kept + window)


def memory_table(recipe: Recipe, devices: Sequence[int] = (1, 8, 64), stages: Sequence[str] = STAGES) -> str:
    """GiB on each device, stage by stage, as lines to print."""
    size = f"{recipe.width}x{recipe.height}, {recipe.clip_frames} latent frames, {recipe.micro_batch} at a time"
    heads = ("states", "gradients", "together", "activations", "total")
    lines = [f"{recipe.name} ({size}): GiB on each device, estimated"]
    lines.append(f"{'stage':10}{'devices':>8}" + "".join(f"{head:>13}" for head in heads))
    for stage in stages:
        for count in devices:
            found = estimate_memory(recipe, stage, count)
            numbers = (found.states, found.gradients, found.together, found.activations, found.total)
            columns = "".join(f"{number / 2**30:>13.1f}" for number in numbers)
            lines.append(f"{stage:10}{count:>8}{columns}")
    return "\n".join(lines)
