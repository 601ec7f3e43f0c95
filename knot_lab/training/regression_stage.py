"""The regression as a stage: the few-step streaming student, first to turn the reference, then to stream."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor

from knot_core.codec.landmark_code import LandmarkCode
from knot_core.config import UNITS, UNITS_DIM, takes_controls
from knot_core.driving.audio import MEL_DIM
from knot_core.driving.expression_controls import CONTROLS
from knot_core.driving.signal_form import NUM_FLAGS
from knot_core.errors import SettingsError
from knot_core.wan.network import WanNetwork

from ..data.batch import Batch
from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice
from ..stage_recipes import RegressionRecipe
from .discriminator import Adversary
from .judges import Judges
from .optimizers import make_optimizer
from .regression import regression_loss
from .roles import freeze_unused, new_network, pretrained_network
from .stage import Losses, Stage, Update, fixed_by, make_role
from .stages import draw_sample
from .weights_file import write_network


def build_regression(
    recipe: Recipe,
    own: RegressionRecipe,
    team: Team,
    start: Mapping[str, Tensor] | None = None,
    code: LandmarkCode | None = None,
) -> Stage:
    """The stage `student` at its beginning. `start`: weights of the recipe's network to go on from; `code`: by
    which the latents that it predicts tell how landmarks move.
    """
    network = student_at_start(recipe, own.seed)
    if start is not None:
        network = pretrained_network(recipe.network, start, "the start of the student")
    freeze_unused(network, with_text=False)
    network.gradient_checkpointing = recipe.recompute
    average = make_role(deepcopy(network), recipe, team, learns=False)
    student = make_role(network, recipe, team)
    judges = Judges(adversary=make_adversary(recipe, own, team), code=code)
    return Stage(
        name="student",
        recipe=recipe,
        own=own,
        team=team,
        roles={"student": student, "average": average},
        optimizers={"student": make_optimizer(recipe.optimizer, student, own, own.lr)},
        learner="student",
        updates=(regression_update(own, judges),),
        fixed=fixed_by(recipe.network, recipe, {} if start is None else {"student": start}),
        write=write_network,
        sample=draw_sample,
        beside={} if judges.adversary is None else {"adversary": judges.adversary},
    )


def regression_update(own: RegressionRecipe, judges: Judges) -> Update:
    """The one update of a step of the regression."""

    def losses(stage: Stage, batch: Batch, dice: Dice) -> Losses:
        return stage.roles["student"](regression_loss, batch, stage.recipe.stream, own, dice, judges)

    return Update(role="student", losses=losses)


def make_adversary(recipe: Recipe, own: RegressionRecipe, team: Team) -> Adversary | None:
    """The discriminator, where the recipe has one."""
    if own.adversarial <= 0:
        return None
    if team.size > 1:
        raise SettingsError(
            f"adversarial is {own.adversarial}, but each of {team.size} processes would train a discriminator of its "
            "own; use one process, or --set adversarial=0.0"
        )
    return Adversary(recipe.network.out_channels, own.adversarial, own.seed, team.device)


def student_at_start(recipe: Recipe, seed: int) -> WanNetwork:
    """A network that begins as noise passed through, with its few controls as loud as its many bands of sound."""
    if not takes_controls(recipe.network.adapter):
        raise SettingsError(
            f"the stage student learns from drawn portraits, whose signal the network of recipe {recipe.name} does not "
            "take; choose the stages teacher, causal and distill"
        )
    network = new_network(recipe.network, seed)
    pass_noise_through(network)
    weigh_signal(network)
    return network


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
        num_controls = UNITS_DIM - MEL_DIM - NUM_FLAGS if adapter.name == UNITS else len(CONTROLS)
        columns[..., MEL_DIM : MEL_DIM + num_controls] *= 8.0
