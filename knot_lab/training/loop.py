"""The loop of every stage: steps, averages, checkpoints, logs, samples.

A run is a pure function of its recipe and its clips: each step's randomness is made from the recipe's seed and the
step's number, so a run that goes on from a checkpoint does, bit for bit, what it would have done.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from knot_core.errors import KnotError, StateError
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import find_family
from knot_core.wan.model import WanNetwork

from ..data.batch import Batch
from ..data.examples import Examples
from ..rng import Dice
from .optimizers import load_optimizer, load_role, optimizer_state, role_state
from .sheets import Pictures, draw_sheet
from .stages import NotFiniteError, Stage, draw_sample, run_step
from .student import follow
from .training_state import cosine, load_checkpoint, log_line, save_checkpoint

_SPARE = 1 << 26  # bytes for logs and sample sheets
_SHOWN = 4  # clips of a sample sheet
_SAMPLES = 1 << 20  # the part of a step's dice that samples are drawn with: no update has it


class TrainingError(KnotError):
    """A run that cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a run writes, and what it draws samples with."""

    folder: Path
    pictures: Pictures | None = None  # latents to pictures; None shows the latents themselves
    log: Callable[..., None] = field(default=log_line)

    def path(self, stage: Stage, suffix: str) -> Path:
        """`teacher.ckpt`, `teacher.log`, `teacher.safetensors` ..."""
        return self.folder / f"{stage.name}{suffix}"


def train_stage(stage: Stage, examples: Examples, outputs: Outputs) -> None:
    """Train, or go on from the folder's checkpoint, until the recipe's number of steps."""
    first, own = load_stage(stage, outputs), stage.own
    check_disc(stage, outputs.folder)
    feed, began = make_feed(stage, examples), time.time()
    board = _board(outputs.folder / "tensorboard" / stage.name) if stage.team.is_first else None
    for step in range(first, own.steps):
        try:
            values = run_step(stage, step, cosine(step, own.steps, own.warmup, floor=0.02), feed)
        except NotFiniteError as problem:
            raise _stopped(stage, problem, feed, outputs) from problem
        follow(stage.roles["average"], stage.roles[stage.learner], min(own.average, (step + 1) / (step + 10)))
        done = step + 1
        if stage.team.is_first and (done % own.log_every == 0 or done == own.steps):
            outputs.log(outputs.path(stage, ".log"), step=done, **values, seconds=time.time() - began)
            if board is not None:
                for name, value in values.items():
                    board.add_scalar(name, value, done)
        if done % own.save_every == 0 or done == own.steps:
            save_stage(stage, done, outputs)
        if done % own.sample_every == 0 or done == own.steps:
            _draw(stage, examples, done, outputs, board)
    if board is not None:
        board.close()
    write_weights(stage, outputs)


def make_feed(stage: Stage, examples: Examples) -> Callable[[int, int], Iterator[tuple[Batch, Dice]]]:
    """(step, part) -> this process's micro-batches of that update, each with its dice."""
    recipe, team = stage.recipe, stage.team

    def feed(step: int, part: int) -> Iterator[tuple[Batch, Dice]]:
        for rows in team.rows(recipe.batch, recipe.micro_batch):
            dice = Dice(recipe.seed, step, rows, part)
            yield examples.batch(recipe, dice).to(team.device), dice

    return feed


def save_stage(stage: Stage, step: int, outputs: Outputs) -> None:
    """One file with everything that changes; written whole before it replaces the last one."""
    state = {
        "step": step,
        "recipe": _plain(stage),
        "roles": {name: role_state(stage.roles[name]) for name in stage.saved},
        "optimizers": {name: optimizer_state(stage.roles[name], found) for name, found in stage.optimizers.items()},
    }
    if stage.team.is_first:
        save_checkpoint(outputs.path(stage, ".ckpt"), state)
    stage.team.wait()


def load_stage(stage: Stage, outputs: Outputs) -> int:
    """Put back what `save_stage` wrote; the number of steps that are done."""
    state = load_checkpoint(outputs.path(stage, ".ckpt"))
    if state is None:
        return 0
    if json.loads(state["recipe"])["network"] != json.loads(_plain(stage))["network"]:
        raise StateError(
            f"{outputs.path(stage, '.ckpt')} was trained with another network; go on with that one, or choose another "
            "folder"
        )
    for name in stage.saved:
        load_role(stage.roles[name], state["roles"][name])
    for name, optimizer in stage.optimizers.items():
        load_optimizer(stage.roles[name], optimizer, state["optimizers"][name])
    return state["step"]


def check_disc(stage: Stage, folder: Path) -> None:
    """Refuse to begin where the checkpoints would not fit: a new one lies beside the old until it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = sum(
        weight.numel() * 4 * (3 if name in stage.optimizers else 1)
        for name in stage.saved
        for weight in stage.roles[name].parameters()
    )
    there = folder / f"{stage.name}.ckpt"
    weights = saved // (3 * len(stage.optimizers) + 1)
    needed = saved * (1 if there.exists() else 2) + weights + _SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"{folder} has {free / 2**30:.1f} GiB free, this stage needs {needed / 2**30:.1f} GiB for its checkpoints; "
            "free some room or choose another --folder"
        )


def write_weights(stage: Stage, outputs: Outputs) -> None:
    """The averaged weights as a file that streams, and that the next stage starts from."""
    state = role_state(stage.roles["average"])
    if not stage.team.is_first:
        return
    recipe = stage.recipe
    network = WanNetwork(recipe.network)
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in state.items()})
    preset = dataclasses.replace(find_family(recipe.family), settings=recipe.stream, height=recipe.height,
                                 width=recipe.width, fps=25)  # fmt: skip
    path = outputs.path(stage, ".safetensors")
    save_network(path.with_suffix(".part"), network, preset, recipe=recipe.name, stage=stage.name)
    path.with_suffix(".part").replace(path)


def _stopped(stage: Stage, problem: NotFiniteError, feed: Callable, outputs: Outputs) -> TrainingError:
    path = outputs.folder / f"{stage.name}-stopped-{problem.step}-{stage.team.rank}.pt"
    batches = [
        {"latents": batch.latents_BFCHW.cpu(), **{name: value.cpu() for name, value in vars(batch.given).items()}}
        for batch, _ in feed(problem.step, problem.part)
    ]
    torch.save({"step": problem.step, "part": problem.part, "values": problem.values, "batches": batches}, path)
    return TrainingError(
        f"a loss or a gradient is no number at step {problem.step} ({problem.values}); its clips lie in {path}: look "
        "at them, or lower the learning rate, and run the same command again: it goes on from the last checkpoint"
    )


def _draw(stage: Stage, examples: Examples, step: int, outputs: Outputs, board: Any) -> None:
    """Samples of the same clips and noise every time, on every process: sharded weights come together only so."""
    count = min(_SHOWN, stage.recipe.batch)
    dice = Dice(stage.recipe.seed, 0, range(count), _SAMPLES)
    batch = examples.batch(stage.recipe, dice).to(stage.team.device)
    made = draw_sample(stage, batch, dice)
    if stage.team.is_first:
        path = outputs.folder / f"{stage.name}-samples" / f"{step:06d}.png"
        sheet = draw_sheet(path, batch, made, outputs.pictures)
        if board is not None:
            board.add_image("samples", sheet, step, dataformats="HWC")
    stage.team.wait()


def _board(folder: Path) -> Any:
    """TensorBoard's writer, where it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)


def _plain(stage: Stage) -> str:
    return json.dumps(dataclasses.asdict(stage.recipe), sort_keys=True)
