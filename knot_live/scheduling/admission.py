"""Whether one more session can be drawn in time, by what chunks cost as measured; and if not, when it may."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .costs import Costs, Shape, load

ROOM = 0.9  # of a device's time: the most that is promised; the rest is for chunks that take longer than usual
_MOST = 4096
_SOONEST, _LATEST = 1, 600  # seconds after which somebody who was refused is asked to come back


class Running(NamedTuple):
    """A session that is drawn already, as it counts: at its own shape, or at what it may be degraded to."""

    shape: Shape
    left: float  # seconds that it is expected to last


class Admit(NamedTuple):
    """There is room; with the session, so much of the device is taken."""

    load: float


class Refuse(NamedTuple):
    """There is no room, for this reason; it is worth asking again after so many seconds, or never."""

    sentence: str
    seconds: int | None


def most_sessions(costs: Costs, shape: Shape, room: float = ROOM) -> int:
    """How many sessions of one shape fit beside each other; one at least, since who is alone is never refused."""
    number = 1
    while number < _MOST and costs.share(shape, number + 1) <= room:
        number += 1
    return number


def decide(costs: Costs, sessions: Sequence[Running], wanted: Shape, room: float = ROOM) -> Admit | Refuse:
    """Whether a session of the shape `wanted` fits beside the others."""
    taken = load(costs, [*(session.shape for session in sessions), wanted])
    if taken <= room:
        return Admit(taken)
    alone = load(costs, [wanted])
    if alone > room:
        return Refuse(
            f"such a session alone takes {alone / room:.1f} times what this machine can draw in time; "
            "ask for fewer steps or longer chunks", None,
        )  # fmt: skip
    seconds = _until_room(costs, sessions, wanted, room)
    number = len(sessions)
    running = "1 session is" if number == 1 else f"{number} sessions are"
    return Refuse(f"{running} running, as many as can be drawn in time; come back in {seconds} seconds", seconds)


def _until_room(costs: Costs, sessions: Sequence[Running], wanted: Shape, room: float) -> int:
    """Whole seconds until enough sessions are expected to have ended: when which one does is chance, so that of several
    that last `left` seconds each on average, the first ends after 1 / sum(1 / left).
    """
    leaving = sorted(sessions, key=lambda session: session.left)
    seconds = 0.0
    while leaving and load(costs, [*(session.shape for session in leaving), wanted]) > room:
        seconds += 1 / sum(1 / max(session.left, 1.0) for session in leaving)
        leaving = leaving[1:]
    return min(max(math.ceil(seconds - 1e-6), _SOONEST), _LATEST)
