"""Thousands of people over simulated cards: who is let in, how it plays, what a card that dies or is slow does.

The rules are the real ones: `decide`, `next_group` and `step`; chunks take what was measured. Placing somebody takes no
time, and what a gateway takes is not simulated.
"""

import heapq
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from .admission import ROOM, Refuse, Running, decide
from .costs import Costs, Shape
from .degrading import Rung, ladder
from .simulated_card import Card, Watched
from .traces import arrivals

MEAN_SECONDS, SPREAD, SHORTEST = 30.0, 0.8, 5.0  # of a visit: log-normal, its mean and sigma, and the least
FAST_ANSWERS = 0.25  # of the sessions: drawn in chunks of one latent frame, the others of three
STEPS, LONG, SHORT = 4, 3, 1
RETRIES = 3  # that somebody makes who was told when to come back
FAILOVER, RESTART, REPLAYED = 1.5, 30.0, 4  # seconds; seconds; chunks between two checkpoints
BETWEEN_DEATHS = 3600.0  # seconds, of a card, on average
BETWEEN_SLOW, SLOW_SECONDS, SLOW_FACTOR = 1200.0, 60.0, 1.5
GOOD = 0.99  # a play ratio
_WARM = 0.1  # of the time in which people come: until the cards are as full as they get

_ARRIVE, _BACK, _LEAVE, _DIE, _RESTART, _SLOW, _FAST = range(7)


class Rules(NamedTuple):
    """One way to run cards."""

    name: str
    order: str  # see `Card`
    admits: str  # "cost", "all", or "one" session a card
    degrades: bool
    counts_on: int = 0  # steps down its ladder that admission expects a session to take


OURS = Rules("slack", "slack", "cost", degrades=True)
FEWER_STEPS = Rules("slack, half the steps", "slack", "cost", degrades=True, counts_on=1)
ONE_EACH = Rules("one a card", "slack", "one", degrades=False)
FCFS = Rules("first come", "fcfs", "all", degrades=False)
FCFS_ADMITTED = Rules("first come, admitted", "fcfs", "cost", degrades=False)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A simulation. `load` is relative to the number of such sessions that the cards can draw at once."""

    trace: str
    cards: int
    load: float
    count: int = 10_000  # arrivals
    failures: bool = False  # cards die, and are slow at times
    seed: int = 1


@dataclass
class Figures:
    """Results. Times in seconds; shares of admitted sessions, but `refused`, which is a share of all arrivals."""

    sessions: int = 0
    refused: float = 0.0
    came_back: float = 0.0  # let in, after having been told when to come back
    good: float = 0.0  # play ratio of 0.99 or more
    play_p1: float = 0.0
    play_p50: float = 0.0
    answer_p50: float = 0.0
    answer_p95: float = 0.0
    first_p95: float = 0.0  # from being let in to the first picture
    whole: float = 0.0  # of the chunks: drawn with all their steps
    busy: float = 0.0  # of the cards' time
    good_at_once: float = 0.0  # sessions of play ratio 0.99 or more that run at a time, on average
    moved: int = 0  # sessions whose card died
    moved_p95: float = 0.0  # seconds without a new picture that this cost them


def capacity(costs: Costs) -> float:
    """Sessions of the mix that one card is promised to draw at once, with all their steps."""
    long, short = (costs.share(Shape(STEPS, chunk), 1) for chunk in (LONG, SHORT))
    return ROOM / ((1 - FAST_ANSWERS) * long + FAST_ANSWERS * short)


@dataclass
class _Run:
    costs: Costs
    scene: Scene
    rules: Rules
    rng: np.random.Generator
    cards: list[Card] = field(default_factory=list)
    place: dict[int, Card] = field(default_factory=dict)
    events: list = field(default_factory=list)
    ended: list[tuple[Watched, float]] = field(default_factory=list)  # and when
    homeless: list[Watched] = field(default_factory=list)
    refused: int = 0
    came_back: int = 0
    moved: list[tuple[Watched, float]] = field(default_factory=list)  # and what it had stalled until then
    last: float = 0.0  # when the last one comes
    busy: float = 0.0  # seconds of all cards until then
    number: int = 0

    def run(self) -> None:
        self._plan()
        handlers = {
            _ARRIVE: self._arrive, _BACK: self._arrive, _LEAVE: self._leave, _DIE: self._die, _RESTART: self._restart,
            _SLOW: lambda now, card: self._slow(now, card, SLOW_FACTOR),
            _FAST: lambda now, card: self._slow(now, card, 1),
        }  # fmt: skip
        left = self.scene.count
        while self.events and left:
            now, _, kind, what = heapq.heappop(self.events)
            left -= handlers[kind](now, what) or 0
            if now == self.last:
                self.busy = sum(card.busy for card in self.cards)

    def _plan(self) -> None:
        scene, rng = self.scene, self.rng
        rate = scene.load * scene.cards * capacity(self.costs) / MEAN_SECONDS
        times = arrivals(scene.trace, scene.count, rate, rng)
        self.last = float(times[-1])
        mu = np.log(MEAN_SECONDS) - SPREAD**2 / 2
        visits = np.maximum(SHORTEST, rng.lognormal(mu, SPREAD, scene.count))
        fast = rng.random(scene.count) < FAST_ANSWERS
        ladders = {chunk: ladder(Shape(STEPS, chunk), longest_chunk=LONG) for chunk in (LONG, SHORT)}
        for key, (time, visit, quick) in enumerate(zip(times.tolist(), visits.tolist(), fast.tolist(), strict=True)):
            self._at(time, _ARRIVE, (key, ladders[SHORT if quick else LONG], visit, 0))
        self.cards = [Card(self.costs, self.rules.order, degrades=self.rules.degrades) for _ in range(scene.cards)]
        if scene.failures:
            for card in self.cards:
                self._happening(card, _DIE, BETWEEN_DEATHS, times[-1])
                self._happening(card, _SLOW, BETWEEN_SLOW, times[-1])

    def _happening(self, card: Card, kind: int, between: float, end: float) -> None:
        time = float(self.rng.exponential(between))
        while time < end:
            self._at(time, kind, card)
            time += float(self.rng.exponential(between)) + SLOW_SECONDS

    def _at(self, time: float, kind: int, what: object) -> None:
        self.number += 1
        heapq.heappush(self.events, (time, self.number, kind, what))

    def _arrive(self, now: float, who: tuple[int, tuple[Rung, ...], float, int]) -> int:
        """Whether somebody is done with: refused, and not coming back."""
        key, rungs, visit, tries = who
        card = self._card_for(rungs)
        if not isinstance(card, Card):
            if card is not None and tries < RETRIES:
                self._at(now + card, _BACK, (key, rungs, visit, tries + 1))
                return 0
            self.refused += 1
            return 1
        self.came_back += tries > 0
        self._put(Watched(key, rungs, now), card, now)
        self._at(now + visit, _LEAVE, key)
        return 0

    def _card_for(self, rungs: tuple[Rung, ...]) -> Card | int | None:
        """The card with the most room, or the seconds after which to come back, or None: never."""
        alive = [card for card in self.cards if card.alive]
        if not alive:
            return round(RESTART)
        card = min(alive, key=_load)
        if self.rules.admits == "all":
            return card
        counted = self.rules.counts_on
        running = [Running(session.rungs[counted].shape, MEAN_SECONDS) for session in card.sessions.values()]
        if self.rules.admits == "one":
            return card if not running else max(1, round(MEAN_SECONDS / len(alive)))
        answer = decide(card.costs, running, rungs[counted].shape)
        if not isinstance(answer, Refuse):
            return card
        return None if answer.seconds is None else max(1, round(answer.seconds / len(alive)))

    def _put(self, session: Watched, card: Card, now: float) -> None:
        card.advance(now)
        card.add(session, now)
        self.place[session.key] = card

    def _leave(self, now: float, key: int) -> int:
        card = self.place.pop(key, None)
        if card is None:
            session = next(one for one in self.homeless if one.key == key)
            self.homeless.remove(session)
        else:
            card.advance(now)
            session = card.take(key)
        self.ended.append((session, now))
        return 1

    def _die(self, now: float, card: Card) -> None:
        if not card.alive:
            return
        card.advance(now)
        card.alive, sessions = False, list(card.sessions.values())
        card.sessions.clear()
        card.plan()
        self._at(now + RESTART, _RESTART, card)
        for session in sessions:
            self.moved.append((session, session.stalled))
            session.debt = int(self.rng.integers(0, REPLAYED + 1))
            del self.place[session.key]
            self._move(session, now)

    def _move(self, session: Watched, now: float) -> None:
        """To the card with the most room, whether there is any or not: who is in stays in."""
        alive = [card for card in self.cards if card.alive]
        if not alive or (self.rules.admits == "one" and all(card.sessions for card in alive)):
            self.homeless.append(session)
            return
        session.ready = now + FAILOVER
        self._put(session, min(alive, key=_load), now)

    def _restart(self, now: float, card: Card) -> None:
        card.alive, card.now = True, now
        waiting, self.homeless = self.homeless, []
        for session in waiting:
            self._move(session, now)

    def _slow(self, now: float, card: Card, factor: float) -> None:
        card.advance(now)
        card.slow_down(factor)
        if factor != 1:
            self._at(now + SLOW_SECONDS, _FAST, card)


def simulate(costs: Costs, scene: Scene, rules: Rules) -> Figures:
    """Run it; the same for the same arguments."""
    run = _Run(costs, scene, rules, np.random.default_rng(scene.seed))
    run.run()
    return _figures(run)


def _figures(run: _Run) -> Figures:
    seen = [(session, now) for session, now in run.ended]
    ratios = np.array([session.play_ratio(now) for session, now in seen] or [0.0])
    answers = np.array([answer for session, _ in seen for answer in session.answers] or [np.nan])
    firsts = np.array([session.first_at - session.came for session, _ in seen if session.began] or [np.nan])
    since = _WARM * run.last
    good = sum(
        max(0.0, min(now, run.last) - max(session.came, since))
        for (session, now), ratio in zip(seen, ratios, strict=False)
        if ratio >= GOOD
    )
    chunks = sum(session.chunks for session, _ in seen)
    lost = [session.stalled - before for session, before in run.moved]
    return Figures(
        sessions=len(seen), refused=run.refused / run.scene.count, came_back=run.came_back / max(1, len(seen)),
        good=float(np.mean(ratios >= GOOD)), play_p1=float(np.quantile(ratios, 0.01)),
        play_p50=float(np.median(ratios)), answer_p50=float(np.median(answers)),
        answer_p95=float(np.quantile(answers, 0.95)), first_p95=float(np.quantile(firsts, 0.95)),
        whole=sum(session.top_chunks for session, _ in seen) / max(1, chunks),
        busy=run.busy / len(run.cards) / run.costs.lanes / run.last,
        good_at_once=good / (run.last - since), moved=len(lost),
        moved_p95=float(np.quantile(lost, 0.95)) if lost else 0.0,
    )  # fmt: skip


def cards_needed(costs: Costs, scene: Scene, rules: Rules, at_once: float) -> int | None:
    """The fewest cards on which at most 1 % are refused and 99 % of all play at 0.99 or more, where people come as
    often as `at_once` sessions at a time would; None: more than 8 to 16 times as many as could draw them.
    """
    usual = at_once / capacity(costs)

    def enough(cards: int) -> bool:
        found = simulate(costs, replace(scene, cards=cards, load=usual / cards), rules)
        return found.refused <= 0.01 and found.good >= 0.99

    low, high = 0, max(1, round(usual))
    while not enough(high):
        low, high = high, high * 2
        if high > 16 * usual:
            return None
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _load(card: Card) -> float:
    return card.load
