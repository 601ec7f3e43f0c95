"""Which worker draws which session, and how many workers there should be: pure functions of what is known."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

STARTING, READY, DRAINING = "starting", "ready", "draining"


@dataclass
class Row:
    """One worker. `version` counts the weights; `since`: when it began to draw nothing; `strained`: its sessions give
    way, because there is no time for them as they were asked for.
    """

    name: str
    version: int
    since: float
    state: str = STARTING
    sessions: set[str] = field(default_factory=set)
    strained: bool = False


class Table:
    """All workers. `per_worker` sessions are drawn by one, and more only where another worker was lost; who is strained
    draws as many as it does.
    """

    def __init__(self, per_worker: int, standbys: int) -> None:
        self.rows: dict[str, Row] = {}
        self.per_worker, self._standbys = per_worker, standbys

    def add(self, name: str, version: int, now: float) -> None:
        """A worker that is starting."""
        self.rows[name] = Row(name, version, now)

    def worker_of(self, session: str) -> str | None:
        """The worker that draws the session."""
        return next((row.name for row in self.rows.values() if session in row.sessions), None)

    def place(self, session: str, *, lost: bool = False, but: Iterable[str] = ()) -> str | None:
        """The worker that draws it from now on; None where no one can.

        New sessions leave as many empty workers as there are standbys, as long as another one has room. One that was
        `lost` goes where least is drawn, on a standby if there is one, and anywhere rather than nowhere.
        """
        free = [row for row in self.rows.values() if row.state == READY and row.name not in but]
        if not lost:
            free = [row for row in free if len(row.sessions) < self._room(row)]
            empty = sorted((row for row in free if not row.sessions), key=lambda row: row.name)
            spared = {row.name for row in empty[max(0, len(empty) - self._standbys) :]}
            free = [row for row in free if row.name not in spared] or (free if self._alone() else [])
        if not free:
            return None
        newest = max(row.version for row in free)
        chosen = min(free, key=lambda row: (row.version != newest, len(row.sessions), row.name))
        self.forget(session)
        chosen.sessions.add(session)
        return chosen.name

    def _room(self, row: Row) -> int:
        """For how many sessions: whoever is strained while it draws fewer than it should be able to is full."""
        return min(self.per_worker, len(row.sessions)) if row.strained and row.sessions else self.per_worker

    def _alone(self) -> bool:
        """Whether no worker draws anything: then a standby is better than none."""
        return not any(row.sessions for row in self.rows.values())

    def adopt(self, session: str, name: str) -> None:
        """Note that a worker draws a session, unless something else is known."""
        if name in self.rows and self.worker_of(session) is None:
            self.rows[name].sessions.add(session)

    def forget(self, session: str) -> None:
        """Forget a session that has ended, or goes on elsewhere."""
        for row in self.rows.values():
            row.sessions.discard(session)

    def gone(self, name: str) -> None:
        """Note that a worker died, and starts again."""
        if name in self.rows and self.rows[name].state == READY:
            self.rows[name].state = STARTING

    def wanted(self, least: int, most: int) -> int:
        """How many workers there should be, standbys among them: for the sessions that there are and one more, and
        another one for each that is strained with fewer sessions than one should draw.
        """
        sessions = sum(len(row.sessions) for row in self.rows.values())
        missing = sum(self.per_worker - self._room(row) for row in self.rows.values())
        needed = math.ceil((sessions + missing + (sessions > 0)) / self.per_worker)
        drawing = min(max(needed, least), most)
        return drawing + (self._standbys if drawing else 0)

    def idle(self, now: float, seconds: float) -> list[str]:
        """Workers that have drawn nothing for so long, the longest first."""
        for row in self.rows.values():
            if row.sessions:
                row.since = now
        found = [row for row in self.rows.values() if row.state == READY and now - row.since >= seconds]
        return [row.name for row in sorted(found, key=lambda row: row.since)]
