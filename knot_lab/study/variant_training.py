"""Models for the study: a network trained on for one way to stream, by the student's own stage.

All begin with the same weights and take the same steps; ``control`` takes them with the model's own settings, so that
what a variant gains is not taken for what more training gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from knot_core.config import StreamSettings
from knot_core.errors import SettingsError

from ..data.portraits import Portraits
from ..parallel import Team
from ..recipes import Recipe
from ..training.loop import Outputs, train_stage
from ..training.optimizers import role_state
from ..training.regression_stage import build_regression
from ..training.weights_file import network_of, save_student
from .ablations import as_set, restarting
from .variants import CONTROL, VARIANTS, differ


def trainable(stream: StreamSettings) -> tuple[str, ...]:
    """The variants that a rollout can be: a matter of settings, without sinks or window positions."""
    wanted = {CONTROL, *differ(stream)} - {"full"}
    return tuple(name for name in VARIANTS if name in wanted and _rolls_out(name, stream))


def train_variants(
    recipe: Recipe,
    names: Sequence[str],
    source: Portraits,
    folder: Path,
    start: Mapping[str, Tensor],
    team: Team,
) -> None:
    """Train each, or go on with it: checkpoints in ``folder/NAME``, then ``folder/models/NAME.safetensors``."""
    known = trainable(recipe.stream)
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"cannot train for {', '.join(unknown)}; choose of {', '.join(known)}")
    for name in names:
        (folder / "models").mkdir(parents=True, exist_ok=True)
        own = replace(recipe, stream=VARIANTS[name].settings(recipe.stream))
        stage = build_regression(own, recipe.variants, team, start)
        train_stage(stage, source, Outputs(folder=folder / name))
        network = network_of(own.network, role_state(stage.roles["average"]))
        if team.is_first:
            save_student(folder / "models" / f"{name}.safetensors", network, own.stream, own.variants.steps)


def _rolls_out(name: str, stream: StreamSettings) -> bool:
    variant = VARIANTS[name]
    settings = variant.settings(stream)
    return (
        variant.opened in (as_set, restarting)
        and settings.num_sink_frames == 0
        and settings.rope_positions == "absolute"
    )
