"""One card of the simulator: draws the chunks of its sessions, one group after another, from event to event."""

from collections import deque
from math import inf

from .admission import ROOM
from .costs import Costs, load
from .degrading import LATE, Level, Rung, planned, step
from .slack import FIRST, LEAD, next_group

TRANSPORT = 0.08  # seconds of encoding, sending and decoding, as live sessions count them
PREFILL = 0.48  # seconds of pictures that are made before the first one is shown
_MEASURED = 32  # chunks whose times count
_SAMPLED = 8  # of so many chunks, the answer time of one is noted


class Watched:
    """A session with its viewer, who shows what comes at once, and then as it lasts."""

    __slots__ = (
        "answers", "came", "chunks", "costs", "debt", "drawn_at", "dry", "first_at", "held", "key", "late", "lead",
        "length", "level", "ready", "rungs", "shape", "slowest", "stalled", "taken", "top_chunks",
    )  # fmt: skip

    def __init__(self, key: int, rungs: tuple[Rung, ...], came: float) -> None:
        self.key, self.rungs, self.came = key, rungs, came
        self.shape, self.level, self.costs = rungs[0].shape, Level(), ()
        self.dry, self.ready = came + FIRST, came
        self.taken: deque[float] = deque(maxlen=_MEASURED)
        self.late = self.slowest = 0.0
        self.length = self.lead = self.held = 0.0  # held: seconds that are made and not shown, as it begins
        self.first_at, self.drawn_at, self.stalled = inf, came, 0.0
        self.chunks = self.top_chunks = self.debt = 0
        self.answers: list[float] = []

    @property
    def began(self) -> bool:
        return self.first_at < inf

    def play_ratio(self, now: float) -> float:
        """The share without stall of the time since the first picture."""
        if not self.began:
            return 0.0
        stalled = self.stalled + max(0.0, now - self.dry)
        whole = now - self.first_at
        return 1.0 if whole <= 0 else max(0.0, 1 - stalled / whole)


class Card:
    """`rule` is "slack" or "fcfs" (first come, first served, one session at a time, nothing gives way)."""

    def __init__(self, costs: Costs, rule: str, *, degrades: bool) -> None:
        self.costs, self._usual, self.rule, self.degrades = costs, costs, rule, degrades
        self.sessions: dict[int, Watched] = {}
        self.now, self.alive, self.busy = 0.0, True, 0.0
        self.load, self.floor = 0.0, 0  # where nothing gave way; see `planned`
        self._lanes = [0.0] * costs.lanes  # when each is free

    def add(self, session: Watched, now: float) -> None:
        session.ready = max(session.ready, now)
        self._fit(session)
        self.sessions[session.key] = session
        self.plan()

    def take(self, key: int) -> Watched:
        """Somebody leaves."""
        session = self.sessions.pop(key)
        self.plan()
        return session

    def plan(self) -> None:
        """Plan again: sessions have come or gone, or chunks take another time."""
        ladders = [session.rungs for session in self.sessions.values()]
        self.load = load(self.costs, [rungs[0].shape for rungs in ladders])
        if self.degrades:
            self.floor = planned(self.costs, ladders, self.floor, ROOM)

    def slow_down(self, factor: float) -> None:
        """Everything takes that many times as long as usual."""
        self.costs = self._usual if factor == 1 else self._usual.slower(factor)
        self.plan()

    def advance(self, until: float) -> None:
        """Draw what is to be drawn before that moment; what is under way then is finished."""
        sessions, lanes = self.sessions, self._lanes
        while sessions:
            lane = lanes.index(min(lanes)) if len(lanes) > 1 else 0
            now = max(lanes[lane], self.now)
            if now >= until:
                break
            if self.rule == "slack":
                group = next_group(sessions.values(), now, self.costs)
                keys, seconds = (group.keys, group.seconds) if group else ((), 0.0)
            else:
                first = min(sessions.values(), key=_ready)
                keys = (first.key,) if first.ready <= now else ()
                seconds = self.costs.seconds(first.shape)
            if not keys:
                self.now = lanes[lane] = min(until, *(session.ready for session in sessions.values()))
                continue
            end = lanes[lane] = now + seconds
            self.busy += seconds
            for key in keys:
                self._drawn(sessions[key], now, end)
        self.now = max(self.now, until)

    def _drawn(self, session: Watched, begin: float, end: float) -> None:
        """A chunk of it was drawn, and is on its way."""
        due = session.ready
        if session.debt:  # it was shown already: drawn again behind a failover
            session.debt -= 1
            session.ready = end
            return
        shown = end + TRANSPORT
        if not session.began:
            session.held += session.length
            if session.held < PREFILL - 1e-9:
                session.ready = end
                return
            session.first_at, session.dry = shown, shown + session.held - session.length
        elif shown > session.dry:
            session.stalled += shown - session.dry
            session.dry = shown
        session.chunks += 1
        session.top_chunks += session.level.rung == 0
        if session.chunks % _SAMPLED == 0:  # asked halfway between this chunk's beginning and the one before
            session.answers.append(session.dry - (session.drawn_at + begin) / 2)
        session.drawn_at = begin
        session.dry += session.length
        self._measure(session, end - due)
        session.ready = max(end, session.dry - session.lead)

    def _measure(self, session: Watched, taken: float) -> None:
        """A chunk of it took so long from when it was due: what gives way."""
        if not self.degrades:
            return
        session.taken.append(taken)
        if taken > session.slowest or session.chunks % 4 == 0:
            slow = sorted(session.taken)
            session.slowest = slow[-1]
            session.late = slow[-2] / (session.lead - TRANSPORT) if len(slow) > 1 else 0.0
        level = session.level
        if session.late > LATE or level.rung or self.floor or level.undone:
            self._judge(session, session.late)

    def _judge(self, session: Watched, late: float) -> None:
        before = session.level.rung
        session.level = step(session.level, late, session.costs, self.floor)
        if session.level.rung != before:
            session.shape = session.rungs[session.level.rung].shape
            self._fit(session)

    def _fit(self, session: Watched) -> None:
        """To this card, and to what it is drawn as."""
        session.length = self.costs.length(session.shape)
        session.lead = max(session.length, LEAD)
        session.taken.clear()
        session.late = session.slowest = 0.0
        session.costs = [self.costs.share(rung.shape, 1) for rung in session.rungs]


def _ready(session: Watched) -> float:
    return session.ready
