"""The sessions that are drawn next: those with the least slack, with others that can be drawn together with them.

Slack is the time until a viewer has shown all that is made for him, less the time that his next chunk takes. Whoever is
late has the least of it, and drawing him puts him behind all who are not; so nobody starves.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import inf
from typing import NamedTuple, Protocol

from .costs import Costs, Shape

FIRST = 1.0  # seconds in which a session's first pictures are due, so that who joins does not push others aside
LEAD = (
    0.48  # seconds of pictures that lie ready when a chunk may begin, or a longer chunk's length, where several share
)


class Waiting(NamedTuple):
    """A session whose next chunk is to be drawn. Seconds of one clock."""

    key: Hashable
    shape: Shape
    dry: float  # when the viewer has shown all that is made
    ready: float  # from when on the next chunk may be drawn: earlier, and answers come later


class Group(NamedTuple):
    """Sessions whose next chunks are drawn together, least slack first, and the seconds that this takes."""

    keys: tuple[Hashable, ...]
    shape: Shape
    seconds: float


class Ready(Protocol):
    """A session as `next_group` needs it: a `Waiting` is one."""

    @property
    def key(self) -> Hashable: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def dry(self) -> float: ...

    @property
    def ready(self) -> float: ...


def slack(session: Ready, now: float, costs: Costs) -> float:
    """Seconds that drawing of its next chunk can wait."""
    return session.dry - now - costs.seconds(session.shape)


def next_group(sessions: Iterable[Ready], now: float, costs: Costs) -> Group | None:
    """The group to draw now; None where no session is ready.

    It begins with the session that has the least slack. Others of its shape are drawn along, in the order of theirs, as
    long as each is cheaper so, and nobody comes late for it who would be in time otherwise.
    """
    seconds = costs.seconds
    found = [(one.dry - seconds(one.shape), place, one) for place, one in enumerate(sessions) if one.ready <= now]
    if not found:
        return None
    first = min(found)[2]
    shape = first.shape
    if costs.most_together == 1:
        return Group((first.key,), shape, seconds(shape))
    found.sort()
    same = [(begin, session) for begin, _, session in found if session.shape == shape]
    others = (begin for begin, _, session in found if session.shape != shape)
    size = _size(same, now, next(others, inf), lambda sessions: seconds(shape, sessions))
    keys = tuple(session.key for _, session in same[:size])
    return Group(keys, shape, seconds(shape, size))


def _size(same: Sequence[tuple[float, Ready]], now: float, next_begins: float, seconds: Callable[[int], float]) -> int:
    """How many of `same`, by when each must begin, are drawn together; one of another shape begins at `next_begins`."""
    size, end = 1, now + seconds(1)
    latest = min((time for time in (same[0][1].dry, next_begins) if time >= end), default=inf)
    for begins, session in same[1:]:
        end = now + seconds(size + 1)
        if seconds(size + 1) - seconds(size) >= seconds(1):
            break
        if begins >= now and end > latest:  # whoever is late himself may delay those behind him: he goes first anyway
            break
        if session.dry >= end:
            latest = min(latest, session.dry)
        size += 1
    return size
