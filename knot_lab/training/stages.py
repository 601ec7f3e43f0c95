"""The three stages from teacher to student: which roles each has, and what their updates minimise.

In the last stage the critic is updated several times before the student (DMD2, arXiv 2405.14867, sec. 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from knot_core.flow import add_noise, schedule

from ..data.batch import Batch, Given
from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice
from ..stage_recipes import StageRecipe
from .causal import causal_loss
from .losses import dmd_gradient, dmd_loss, flow_matching_loss
from .optimizers import make_optimizer
from .roles import freeze_unused, new_network, pretrained_network
from .self_forcing import Length, roll_out
from .stage import Losses, Stage, Update, fixed_by, make_role
from .weights_file import write_network
from .whole_clip import clip_velocity, clip_x0, follow_ode, noise_level, teacher_loss, teacher_path

STAGES = ("teacher", "causal", "distill")
SAMPLE_STEPS = 20  # of the teacher, when it is looked at
_MOST_START = 1 << 16  # latent frames: streams begin anywhere in time


def build_stage(
    name: str, recipe: Recipe, team: Team, starts: Mapping[str, Mapping[str, Tensor]], *, with_text: bool = False
) -> Stage:
    """A stage at its beginning. `starts`: the weights that `learner`, `teacher` and `critic` begin with, by role."""
    own: StageRecipe = getattr(recipe, name)
    learner = "teacher" if name == "teacher" else "student"
    frozen = {"average"} | ({"teacher"} if name != "teacher" else set())
    wanted = [learner, *(["critic"] if name == "distill" else []), "average"]
    if name == "distill" or (name == "causal" and recipe.causal.objective == "ode"):
        wanted.append("teacher")
    roles = {}
    for role in wanted:
        source = learner if role == "average" else role
        tensors = starts.get(source) or starts.get("teacher")
        network = new_network(recipe.network, own.seed)
        if tensors is not None:
            network = pretrained_network(recipe.network, tensors, f"the start of the {source}")
        freeze_unused(network, with_text=with_text)
        network.gradient_checkpointing = recipe.recompute
        roles[role] = make_role(network, recipe, team, learns=role not in frozen)
    rates = {learner: own.lr} | ({"critic": recipe.distill.critic_lr} if "critic" in roles else {})
    return Stage(
        name=name,
        recipe=recipe,
        own=own,
        team=team,
        roles=roles,
        optimizers={role: make_optimizer(recipe.optimizer, roles[role], own, rate)
                    for role, rate in rates.items()},
        learner=learner,
        updates=_updates(name, recipe, learner),
        fixed=fixed_by(recipe.network, recipe, starts),
        write=write_network,
        sample=draw_sample,
    )  # fmt: skip


def _updates(name: str, recipe: Recipe, learner: str) -> tuple[Update, ...]:
    losses = {"teacher": _teacher_losses, "causal": _causal_losses, "distill": _student_losses}[name]
    critics = recipe.distill.critic_updates if name == "distill" else 0
    return (
        *(Update(role="critic", losses=_critic_losses, prefix="critic_") for _ in range(critics)),
        Update(role=learner, losses=losses),
    )


def _teacher_losses(stage: Stage, batch: Batch, dice: Dice) -> Losses:
    return stage.roles["teacher"](teacher_loss, batch, stage.recipe, dice)


def _causal_losses(stage: Stage, batch: Batch, dice: Dice) -> Losses:
    path = None
    if stage.recipe.causal.objective == "ode":
        size = (stage.recipe.example_frames, *batch.truth_BFCHW.shape[2:])
        noise = dice.normal(*size).to(stage.team.device)
        path = stage.roles["teacher"](teacher_path, batch.given, noise, stage.recipe)
    return stage.roles["student"](causal_loss, batch, stage.recipe, dice, path)


def _student_losses(stage: Stage, batch: Batch, dice: Dice) -> Losses:
    x0, given = _rolled(stage, batch.given, dice)
    gradient = score_difference(stage, x0.detach(), given, dice)
    return {"loss": dmd_loss(x0, gradient), "gradient": gradient.abs().mean()}


def _critic_losses(stage: Stage, batch: Batch, dice: Dice) -> Losses:
    with torch.no_grad():
        x0, given = _rolled(stage, batch.given, dice)
    noise, sigma = _noise(stage, x0, dice)
    x = add_noise(x0, noise, sigma)
    return {"loss": flow_matching_loss(stage.roles["critic"](clip_velocity, given, x, sigma), x0, noise)}


@torch.no_grad()
def score_difference(stage: Stage, x0: Tensor, given: Given, dice: Dice) -> Tensor:
    """The gradient of distribution matching, [B, F, C, H, W], at a random noise level of each clip."""
    noise, sigma = _noise(stage, x0, dice)
    x = add_noise(x0, noise, sigma)
    real = stage.roles["teacher"](clip_x0, given, x, sigma[:, 0], stage.recipe.distill.guidance)
    fake = stage.roles["critic"](clip_x0, given, x, sigma[:, 0])
    return dmd_gradient(x0, fake, real)


def _noise(stage: Stage, x0: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Noise, and one level for all frames of a clip: [B, F]."""
    sigma = noise_level(dice.uniform(), stage.recipe.stream.shift).to(x0)
    return dice.normal(*x0.shape[1:]).to(x0), sigma[:, None].expand(x0.shape[:2])


def _rolled(stage: Stage, given: Given, dice: Dice) -> tuple[Tensor, Given]:
    """The student's own clip from somewhere in a stream, and what belongs to it.

    For teacher and critic the reference stands where the student's anchor did, as far as they have learnt such places.
    """
    recipe = stage.recipe
    length = Length(
        chunks=recipe.num_chunks,
        lead=dice.shared_below(recipe.distill.most_lead + 1),
        start=dice.shared_below(_MOST_START),
        last_step=dice.shared_below(num_steps(recipe)),
    )
    x0, position = stage.roles["student"](roll_out, given, recipe.stream, length, dice)
    position = min(max(position, recipe.clip_frames - 1), recipe.clip_frames - 1 + recipe.later)
    return x0, replace(given, reference_position_B=torch.full_like(given.reference_position_B, position))


def num_steps(recipe: Recipe) -> int:
    """Denoising steps of a chunk."""
    return len(recipe.stream.timesteps) or recipe.stream.steps


@torch.no_grad()
def draw_sample(stage: Stage, batch: Batch, dice: Dice) -> Tensor:
    """Clips by the averaged weights, [B, F, C, H, W]: the teacher's by its ODE, the student's by streaming."""
    recipe, average = stage.recipe, stage.roles["average"]
    if stage.name != "teacher":
        return average(roll_out, batch.given, recipe.stream, Length(chunks=recipe.num_chunks), dice)[0]

    def velocity(x: Tensor, sigma: float) -> Tensor:
        return average(clip_velocity, batch.given, x, x.new_full(x.shape[:2], sigma))

    noise = dice.normal(recipe.clip_frames, *batch.truth_BFCHW.shape[2:]).to(stage.team.device)
    return follow_ode(velocity, noise, schedule(SAMPLE_STEPS, recipe.stream.shift))[-1]
