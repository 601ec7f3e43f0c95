"""The result of a stage as a file that streams, and that the next stage starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from knot_core.config import NetworkConfig, StreamSettings
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS, find_family
from knot_core.wan.network import WanNetwork, cast_weights
from knot_core.wan.preset import Preset

from .stage import Stage


def write_network(stage: Stage, weights: Mapping[str, Tensor], path: Path, steps: int) -> None:
    """A Wan network's weights in float32; of a role's names."""
    recipe = stage.recipe
    network = network_of(recipe.network, weights)
    preset = dataclasses.replace(find_family(recipe.family), settings=recipe.stream, height=recipe.height,
                                 width=recipe.width, fps=25)  # fmt: skip
    save_network(path.with_suffix(".part"), network, preset, recipe=recipe.name, stage=stage.name, steps=str(steps))
    path.with_suffix(".part").replace(path)


def network_of(config: NetworkConfig, weights: Mapping[str, Tensor]) -> WanNetwork:
    """A network of a role's weights."""
    network = WanNetwork(config)
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in weights.items()})
    return network


def save_student(
    path: Path, network: WanNetwork, settings: StreamSettings, steps: int, preset: Preset = PRESETS["knot-tiny"]
) -> None:
    """Save the student's weights, in half precision, with the settings that it was trained to stream by."""
    streams = dataclasses.replace(preset, settings=settings)
    save_network(path, cast_weights(network, torch.bfloat16), streams, compact=True, steps=str(steps))
