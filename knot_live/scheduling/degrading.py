"""Degradation before pictures stall: fewer steps, then longer chunks, then fewer pictures; undone when there is room.

A ladder is what a session can be drawn as, dearest first. One step down is taken as soon as chunks come late, one up
only once there has been room for it for a while; and the wait doubles each time that a step up did not last.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .costs import Costs, Shape, load

LATE = 0.9  # of a chunk's length: where drawing takes more, the viewer's buffer is about to run dry
ROOM = 0.7  # of it: what drawing may be expected to take where a step up is taken
SETTLE = 4  # chunks that are drawn before a step down is judged
CALM, MOST_CALM = 16, 256  # chunks with room before a step up: at first, and at most


class Rung(NamedTuple):
    """One way to draw a session, and what its client is told of it."""

    shape: Shape
    every: int  # of the pictures, every so manieth is shown
    sentence: str


class Level(NamedTuple):
    """The rung of its ladder that a session stands on."""

    rung: int = 0
    since: int = 0  # chunks since the last step
    calm: int = 0  # chunks in a row with room for a step up
    patience: int = CALM  # how many of these it takes
    undone: bool = False  # whether the last step was one up


def ladder(shape: Shape, *, longest_chunk: int, fixed_steps: bool = False) -> tuple[Rung, ...]:
    """The ladder of a session that is drawn as `shape` where there is room.

    `longest_chunk`: latent frames of the longest chunk that the model is used with. `fixed_steps`: it was trained for
    certain noise levels, and keeps its steps.
    """
    rungs, steps = [Rung(shape, 1, "the machine has room again: everything is drawn as it was asked for")], shape.steps
    while steps > 1 and not fixed_steps:
        steps //= 2
        rungs.append(Rung(shape._replace(steps=steps), 1, f"the machine is busy: {_steps(steps)} of {shape.steps}"))
    if shape.num_chunk_frames < longest_chunk:
        longer = rungs[-1].shape._replace(num_chunk_frames=longest_chunk)
        rungs.append(Rung(longer, 1, f"the machine is busy: chunks of {longest_chunk} latent frames, slower answers"))
    rungs.append(Rung(rungs[-1].shape, 2, "the machine is busy: every second picture is left out"))
    return tuple(rungs)


def step(level: Level, load: float, seconds: Sequence[float], floor: int = 0) -> Level:
    """The level for the next chunk, asked after each.

    `load` is what a chunk takes from when it is due, as a share of the time that there is for it: as measured, of the
    slowest chunks lately. `seconds` are what a second of pictures costs on each rung. Rungs above `floor` are not to be
    had: others need the time.
    """
    since = level.since + 1
    if level.rung < floor:
        return Level(min(floor, len(seconds) - 1), patience=level.patience)
    if load > LATE:
        if since <= SETTLE or level.rung == len(seconds) - 1:
            return level._replace(since=since, calm=0)
        return Level(level.rung + 1, patience=_patience(level, since))
    if level.rung == floor:
        return level._replace(since=since, calm=0)
    above = load * seconds[level.rung - 1] / seconds[level.rung]
    calm = level.calm + 1 if above <= ROOM else 0
    if calm >= level.patience:
        return Level(level.rung - 1, patience=level.patience, undone=True)
    return level._replace(since=since, calm=calm)


def planned(costs: Costs, ladders: Sequence[Sequence[Rung]], floor: int, room: float) -> int:
    """The floor under which all sessions of a device fit into `room` of it, or the lowest there is.

    It falls by as much as is needed at once, and rises again where a tenth of the room would be left.
    """

    def taken(rung: int) -> float:
        return load(costs, [rungs[min(rung, len(rungs) - 1)].shape for rungs in ladders])

    lowest = max((len(rungs) - 1 for rungs in ladders), default=0)
    floor = min(floor, lowest)
    while floor < lowest and taken(floor) > room:
        floor += 1
    while floor > 0 and taken(floor - 1) <= 0.9 * room:
        floor -= 1
    return floor


def _patience(level: Level, since: int) -> int:
    if not level.undone:
        return level.patience
    return min(2 * level.patience, MOST_CALM) if since < 2 * level.patience else CALM


def _steps(number: int) -> str:
    return "1 denoising step" if number == 1 else f"{number} denoising steps"
