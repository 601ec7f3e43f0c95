"""The regression stage computes what it computed when its losses were recorded: 20 steps from the same weights.

Weights, batches and noise are handed in, drawn by NumPy's frozen `RandomState`, so that they are the same with every
version. The losses were recorded by this very test and say that nothing has changed since; that they are right, the
other tests of training say.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.wan.network import WanNetwork
from knot_lab.data.batch import Batch, Given
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_TINY
from knot_lab.rng import Dice
from knot_lab.training.optimizers import cosine
from knot_lab.training.regression_stage import build_regression
from knot_lab.training.stage import run_step

NETWORK = NetworkConfig(
    dim=72, ffn_dim=32, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
)  # fmt: skip
STEPS, CLIPS, SIDE = 20, 2, 8
OWN = replace(KNOT_TINY.student, steps=STEPS, warmup=2, chunks=2, adversarial=0.0)
RECIPE = replace(KNOT_TINY, network=NETWORK, student=OWN, precision="float32")
RECORDED = (
    3.968205, 3.586997, 3.580623, 3.246479, 3.019423, 1.912396, 2.711554, 2.57121, 2.716674, 2.654469,
    2.754105, 2.558905, 2.454003, 2.212413, 2.342683, 2.093797, 2.183621, 2.398959, 2.412259, 2.310787,
)  # fmt: skip


class Drawn(Dice):
    """Random numbers of NumPy's frozen generator, in place of torch's."""

    def __init__(self, step: int) -> None:
        super().__init__(0, step, range(CLIPS))
        self._frozen = np.random.RandomState(1000 + step)

    def normal(self, *shape: int) -> torch.Tensor:
        return normal(self._frozen, CLIPS, *shape)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._frozen.random_sample((CLIPS, *shape))).float()

    def shared_below(self, limit: int) -> int:
        return int(self._frozen.randint(limit))

    def shared_uniform(self) -> float:
        return float(self._frozen.random_sample())


def normal(frozen: np.random.RandomState, *shape: int) -> torch.Tensor:
    return torch.from_numpy(frozen.standard_normal(shape)).float()


def weights() -> dict[str, torch.Tensor]:
    frozen, shapes = np.random.RandomState(0), WanNetwork(NETWORK).state_dict()
    return {
        name: normal(frozen, *shape.shape) * (0.02 if shape.ndim < 2 else shape[0].numel() ** -0.5)
        for name, shape in sorted(shapes.items())
    }


def batches(step: int, _part: int) -> Iterator[tuple[Batch, Dice]]:
    """Single frames at first, then streams."""
    frozen = np.random.RandomState(step)
    frames = 1 if step < STEPS // 4 else OWN.chunks * RECIPE.stream.num_chunk_frames + RECIPE.stream.num_knot_frames
    given = Given(
        reference_B1CHW=normal(frozen, CLIPS, 1, 16, SIDE, SIDE),
        reference_position_B=torch.tensor([frames] * CLIPS),
        signal_BFTS=normal(frozen, CLIPS, frames, 4, NETWORK.adapter.signal_dim),
        text_BTD=torch.zeros(1, 1, NETWORK.text_dim),
    )
    truth = normal(frozen, CLIPS, frames, 16, SIDE, SIDE)
    yield Batch(truth_BFCHW=truth, given=given, weight_BF1HW=torch.ones(CLIPS, frames, 1, SIDE, SIDE)), Drawn(step)


def losses() -> list[float]:
    stage = build_regression(RECIPE, OWN, Team(), weights())
    return [run_step(stage, step, cosine(step, STEPS, OWN.warmup, OWN.floor), batches)["loss"] for step in range(STEPS)]


def test_twenty_steps_of_the_regression_give_the_recorded_losses() -> None:
    assert losses() == pytest.approx(RECORDED, rel=1e-4)  # weights off by 1e-6 move them by 2e-5
