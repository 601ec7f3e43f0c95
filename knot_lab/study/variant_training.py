"""Models for the study: a network trained on for one way to stream, by the student's own recipe.

All begin with the same weights and take the same steps; ``control`` takes them with the model's own settings, so that
what a variant gains is not taken for what more training gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from knot_core.errors import SettingsError

from ..data.clips import Clips
from ..training.export import save_student
from ..training.rollout import StudentRecipe
from ..training.student import train
from .ablations import as_set, restarting
from .variants import CONTROL, VARIANTS, differ


@dataclass(frozen=True, kw_only=True)
class VariantRecipe(StudentRecipe):
    """A short training of a network that has learnt to stream: streams from the first step on, at lower rates."""

    steps: int = 200
    warmup: int = 20
    lr: float = 5e-4
    muon_lr: float = 1.3e-3
    alone_last: float = 0.2
    turn: tuple[float, float] = (0.0, 0.01)
    seed: int = 7  # not the dice that the weights were trained with


def trainable(recipe: StudentRecipe) -> tuple[str, ...]:
    """The variants that a rollout of the recipe can be: a matter of settings, without sinks or window positions."""
    wanted = {CONTROL, *differ(recipe.settings)} - {"full"}
    return tuple(name for name in VARIANTS if name in wanted and _rolls_out(name, recipe))


def train_variants(
    recipe: StudentRecipe,
    names: Sequence[str],
    clips: Clips,
    stills: Clips | None,
    folder: Path,
    start_from: Path,
) -> None:
    """Train each, or go on with it: checkpoints in ``folder/NAME``, then ``folder/models/NAME.safetensors``."""
    known = trainable(recipe)
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"cannot train for {', '.join(unknown)}; choose of {', '.join(known)}")
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "models").mkdir(exist_ok=True)
        own = replace(recipe, settings=VARIANTS[name].settings(recipe.settings))
        network = train(own, clips, folder / name, start_from, stills)
        save_student(folder / "models" / f"{name}.safetensors", network, own)


def _rolls_out(name: str, recipe: StudentRecipe) -> bool:
    variant = VARIANTS[name]
    settings = variant.settings(recipe.settings)
    return (
        variant.opened in (as_set, restarting)
        and settings.num_sink_frames == 0
        and settings.rope_positions == "absolute"
    )
