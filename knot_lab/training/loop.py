"""The loop of every stage: steps, averages, checkpoints, logs, samples.

A run is a pure function of its recipe and its clips: each step's randomness is made from the recipe's seed and the
step's number, so a run that goes on from a checkpoint does, bit for bit, what it would have done.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knot_core.errors import KnotError, StateError

from ..data.batch import Batch
from ..rng import Dice
from .optimizers import cosine, follow, load_optimizer, load_role, optimizer_state, role_state
from .sheets import Pictures, draw_sheet
from .stage import Feed, NotFiniteError, Source, Stage, run_step
from .training_state import load_training, log_line, save_checkpoint

_SPARE = 1 << 26  # bytes for logs and sample sheets
_SHOWN = 4  # clips of a sample sheet
_SAMPLES = 1 << 20  # the part of a step's dice that samples are drawn with: no update has it


class TrainingError(KnotError):
    """A run that cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The folder that a run writes to, and the function that draws its samples."""

    folder: Path
    pictures: Pictures | None = None  # latents to pictures; None shows the latents themselves
    log: Callable[..., None] = field(default=log_line)

    def path(self, stage: Stage, suffix: str) -> Path:
        """`teacher.ckpt`, `teacher.log`, `teacher.safetensors` ..."""
        return self.folder / f"{stage.name}{suffix}"


def train_stage(stage: Stage, source: Source, outputs: Outputs) -> None:
    """Train, or go on from the folder's checkpoint, until the recipe's number of steps."""
    first, own = load_stage(stage, outputs), stage.own
    check_disc(stage, outputs.folder)
    feed, began = make_feed(stage, source), time.time()
    board = _board(outputs.folder / "tensorboard" / stage.name) if stage.team.is_first else None
    for step in range(first, own.steps):
        try:
            values = run_step(stage, step, cosine(step, own.steps, own.warmup, own.floor), feed)
        except NotFiniteError as problem:
            raise _stopped(stage, problem, feed, outputs) from problem
        done = step + 1
        if "average" in stage.roles:
            follow(stage.roles["average"], stage.roles[stage.learner], min(own.average, done / (done + 9)))
        if stage.team.is_first and (done % own.log_every == 0 or done == own.steps):
            outputs.log(outputs.path(stage, ".log"), step=done, **values, seconds=time.time() - began)
            if board is not None:
                for name, value in values.items():
                    board.add_scalar(name, value, done)
        if done % own.save_every == 0 or done == own.steps:
            save_stage(stage, done, outputs)
        if stage.sample is not None and (done % own.sample_every == 0 or done == own.steps):
            _draw(stage, source, done, outputs, board)
    if board is not None:
        board.close()
    if not stage.numbered:
        write_weights(stage, own.steps, outputs.path(stage, ".safetensors"))


def make_feed(stage: Stage, source: Source) -> Feed:
    """(step, part) -> this process's micro-batches of that update, each with its dice.

    While an update is made, a thread draws the next one's.
    """
    drawing, ahead = ThreadPoolExecutor(1), {}

    def draw(step: int, part: int) -> list[tuple[Batch, Dice]]:
        dice_of = partial(Dice, stage.own.seed, step, part=part)
        return list(source.draw(stage.recipe, stage.team, dice_of))

    def feed(step: int, part: int) -> Iterator[tuple[Batch, Dice]]:
        at, then = (step, part), (step, part + 1) if part + 1 < len(stage.updates) else (step + 1, 0)
        drawn = (ahead.pop(at, None) or drawing.submit(draw, *at)).result()
        if then[0] < stage.own.steps:
            ahead[then] = drawing.submit(draw, *then)
        for batch, dice in drawn:
            yield batch.to(stage.team.device), dice

    return feed


def save_stage(stage: Stage, step: int, outputs: Outputs) -> None:
    """One file with everything that changes; written whole before it replaces the last one."""
    state = {
        "step": step,
        "fixed": dict(stage.fixed),
        "roles": {name: _saved_weights(stage, name) for name in stage.saved},
        "optimizers": {name: optimizer_state(stage.roles[name], found) for name, found in stage.optimizers.items()},
        "beside": {name: part.state_dict() for name, part in stage.beside.items()},
    }
    if stage.team.is_first:
        save_checkpoint(outputs.path(stage, ".ckpt"), state)
        if stage.measure is not None:
            outputs.log(outputs.path(stage, ".log"), step=step, **stage.measure(stage))
    if stage.numbered:
        write_weights(stage, step, outputs.path(stage, f"-{step:04d}.safetensors"))
    stage.team.wait()


def load_stage(stage: Stage, outputs: Outputs) -> int:
    """Put back what `save_stage` wrote; the number of steps that are done."""
    state = load_training(outputs.path(stage, ".ckpt"))
    if state is None:
        return 0
    other = [name for name, value in stage.fixed.items() if state["fixed"].get(name) != value]
    if other:
        raise StateError(
            f"{outputs.path(stage, '.ckpt')} is a training of another {' and '.join(other)}; train in another folder, "
            "or remove it to begin anew"
        )
    for name in stage.saved:
        load_role(stage.roles[name], state["roles"][name])
    for name, part in stage.beside.items():
        if name in state["beside"]:  # it may join a training that began without
            part.load_state_dict(state["beside"][name])
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
            "free some disk space or choose another --folder"
        )


def write_weights(stage: Stage, steps: int, path: Path) -> None:
    """The stage's result, as the stage writes it."""
    weights = _saved_weights(stage, stage.result)
    if stage.team.is_first:
        stage.write(stage, weights, path, steps)


def _saved_weights(stage: Stage, role: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in role_state(stage.roles[role]).items() if stage.is_saved(name)}


def _stopped(stage: Stage, problem: NotFiniteError, feed: Feed, outputs: Outputs) -> TrainingError:
    path = outputs.folder / f"{stage.name}-stopped-{problem.step}-{stage.team.rank}.pt"
    batches = [batch.tensors() for batch, _ in feed(problem.step, problem.part)]
    torch.save({"step": problem.step, "part": problem.part, "values": problem.values, "batches": batches}, path)
    return TrainingError(
        f"a loss or a gradient is no number at step {problem.step} ({problem.values}); its clips lie in {path}: look "
        "at them, or lower the learning rate, and run the same command again: it goes on from the last checkpoint"
    )


def _draw(stage: Stage, source: Source, step: int, outputs: Outputs, board: Any) -> None:
    """Samples of the same clips and noise every time, on every process: sharded weights come together only so."""
    count = min(_SHOWN, stage.recipe.batch)
    dice = Dice(stage.own.seed, 0, range(count), _SAMPLES)
    batch = source.batch(stage.recipe, dice).to(stage.team.device)
    made = stage.sample(stage, batch, dice)
    if stage.team.is_first:
        path = outputs.folder / f"{stage.name}-samples" / f"{step:06d}.png"
        draw = stage.sheet or partial(draw_sheet, pictures=outputs.pictures)
        sheet = draw(path, batch, made)
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
