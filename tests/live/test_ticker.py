"""Several sessions drawn by one thread: nobody waits for others while there is room, and none breaks another."""

from contextlib import contextmanager
from itertools import islice, pairwise
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from knot_core import load_model, open_image
from knot_core.model_loading import ASSETS
from knot_live import controls, joint_drawing
from knot_live.clock import Clock
from knot_live.engine import StreamSettings
from knot_live.pacing import Playback
from knot_live.scheduling import LEAD, Admit, Costs, Refuse, Shape, ladder
from knot_live.scheduling.costs import Measured
from knot_live.session import Session
from knot_live.ticker import Ticker

from .simulated import SimulatedClock

FPS, FRAMES = 25, 12
LENGTH = FRAMES / FPS


class Played:
    """A session whose chunks take `seconds` by the simulated clock, and are played as they come."""

    def __init__(self, clock, seconds, *, fails_at=None, lasts=10**6, degrades=False):
        self.clock, self.seconds, self.fails_at, self.lasts, self.degrades = clock, seconds, fails_at, lasts, degrades
        self.times, self.drawing, self.ended = [], False, 0
        self.playback = Playback.at(0, FPS, float("inf"))
        rungs = ladder(Shape(4, 3), longest_chunk=3)
        self.adapting = SimpleNamespace(ladder=rungs, rung=rungs[0], floor=0, shared_lead=0.0)

    @property
    def unplayed(self):
        return self.playback.unplayed(self.clock.now())

    @property
    def ratio(self):
        return self.playback.ratio(self.clock.now())

    @contextmanager
    def running(self):
        try:
            yield
        finally:
            self.ended += 1

    def until_due(self):
        return None if len(self.times) >= self.lasts else self.rest()

    def rest(self):
        return max(0.0, self.unplayed - LENGTH)

    def step(self, waited=0.0):
        assert waited >= 0
        assert not self.drawing, "two threads draw one session"
        self.drawing = True
        steps = self.adapting.ladder[self.adapting.floor].shape.steps if self.degrades else 4
        self.clock.pass_until(self.clock.now() + self.seconds * steps / 4)
        self.drawing = False
        if len(self.times) == self.fails_at:
            raise ValueError("this session is broken")
        self.times.append(self.clock.now())
        first = self.playback.made
        self.playback = self.playback.with_made(first + FRAMES, self.clock.now())
        return SimpleNamespace(first_frame=first, frames=range(FRAMES))


class Hasty(Played):
    """Its viewer says at once that everything is shown."""

    unplayed = 0.0


class HeldClock(Clock):
    """Stands still, so that no session is ever due again."""

    time = 100.0

    def now(self):
        return self.time


@pytest.fixture
def drawn():
    """Sessions by the time at which they join, drawn for so many simulated seconds; what broke which."""

    def run(joining, seconds, clock):
        costs, over, problems = Costs((Measured(3, 1, 0.0125, 0.0),), fps=FPS), Event(), {}
        for time, session in joining:
            clock.at(time, lambda session=session: ticker.add(
                session, lambda _: None, lambda problem, session=session: problems.update({session: problem})
            ))  # fmt: skip
        clock.at(seconds, over.set)
        begin = Event()
        clock.at(0.0, begin.wait)  # until there is a ticker
        ticker = Ticker(costs, clock=clock)
        begin.set()
        assert over.wait(60)
        ticker.close()
        return problems

    return run


def test_as_many_sessions_as_there_is_time_for_play_without_a_stall(drawn):
    clock = SimulatedClock()
    sessions = [Played(clock, 0.05) for _ in range(8)]
    drawn([(0.2 + 0.07 * place, session) for place, session in enumerate(sessions)], 60, clock)
    assert min(session.ratio for session in sessions) > 0.999
    assert max(session.ended for session in sessions) == 1


def test_beyond_that_all_wait_alike_and_nobody_starves(drawn):
    clock = SimulatedClock()
    sessions = [Played(clock, 0.05) for _ in range(14)]  # 1.46 of what there is time for
    drawn([(0.2, session) for session in sessions], 60, clock)
    counts = [len(session.times) for session in sessions]
    assert max(counts) - min(counts) <= 2
    assert max(later - earlier for one in sessions for earlier, later in pairwise(one.times)) <= 2 * 14 * 0.05


def test_who_claims_to_have_shown_everything_at_once_makes_nobody_wait(drawn):
    clock = SimulatedClock()
    honest, hasty = [Played(clock, 0.05) for _ in range(5)], [Hasty(clock, 0.05) for _ in range(3)]
    drawn([(0.2 + 0.07 * place, session) for place, session in enumerate([*hasty, *honest])], 60, clock)
    assert min(session.ratio for session in honest) > 0.995
    assert min(len(session.times) for session in hasty) > 60 / LENGTH  # faster than life, where there is time


def test_who_claims_that_is_drawn_at_his_pace_while_others_are_shown_at_theirs(drawn):
    clock = SimulatedClock()
    hasty, other = Hasty(clock, 0.05), Played(clock, 0.05, lasts=25)
    drawn([(0.2, hasty), (0.2, other)], 24.0, clock)
    beside = [time for time in hasty.times if time < 10.0]
    assert len(beside) * LENGTH <= 10.0 + 2.0 + LENGTH, "a second of pictures a second, and two seconds ahead"
    assert len(beside) * LENGTH >= 9.5
    alone = [time for time in hasty.times if 18.0 < time < 22.0]
    assert len(alone) * LENGTH > 4 * 4.0, "alone it is drawn as fast as can be"
    assert other.ratio == 1.0


def test_where_there_are_too_many_all_give_way_and_take_it_back_when_some_have_left(drawn):
    clock, floors = SimulatedClock(), {}
    stay = [Played(clock, 0.05, degrades=True) for _ in range(7)]
    come = [Played(clock, 0.05, degrades=True, lasts=60) for _ in range(5)]
    for time in (5, 15, 55):
        clock.at(time, lambda time=time: floors.update({time: {session.adapting.floor for session in stay}}))
    drawn([*((0.2, session) for session in stay), *((10, session) for session in come)], 60, clock)
    assert floors == {5: {0}, 15: {1}, 55: {0}}
    assert min(session.ratio for session in stay) > 0.999


def test_who_joins_and_leaves_stalls_nobody(drawn):
    clock = SimulatedClock()
    here = [Played(clock, 0.05) for _ in range(4)]
    coming = [Played(clock, 0.05, lasts=5 + place % 7) for place in range(100)]
    problems = drawn([*((0.2, one) for one in here), *((1 + 1.2 * i, one) for i, one in enumerate(coming))], 130, clock)
    assert min(session.ratio for session in here) > 0.999
    assert all(problems[session] is None and len(session.times) == session.lasts for session in coming)


def test_a_session_that_fails_ends_alone(drawn):
    clock = SimulatedClock()
    good, bad = Played(clock, 0.05), Played(clock, 0.05, fails_at=3)
    problems = drawn([(0.2, good), (0.2, bad)], 20, clock)
    assert str(problems[bad]) == "this session is broken"
    assert problems[good] is None
    assert len(good.times) > 35
    assert bad.ended == good.ended == 1


@pytest.mark.parametrize("decode_beside", [True, False])
@pytest.mark.parametrize("sessions", [1, 3])
def test_sessions_that_share_threads_give_what_each_gives_alone(sessions, decode_beside):
    """Drawn one by one, or all in one pass: there the order of sums is another."""
    model = load_model("knot-tiny", device="cpu", dtype=torch.float32)  # in bfloat16 the order of sums shows
    settings = StreamSettings(steps=1, num_window_frames=4)
    anchor = model.encode_anchor(open_image(ASSETS / "portraits" / "ada.png"), size=(64, 64))

    def session(seed, **options):
        made = Session(model, anchor, settings, seed=seed, viewer=False, decode_beside=decode_beside, **options)
        made.apply(controls.SetControls({"yaw": seed / 10}))
        return made

    seeds = (1, 2, 3)
    alone = {seed: [np.asarray(chunk.frames) for chunk in islice(session(seed).chunks(), 4)] for seed in seeds}
    costs = Costs(tuple(Measured(3, count, 0.01, 0.01) for count in range(1, sessions + 1)), fps=FPS)
    ticker, given = Ticker(costs, lanes=4 - sessions), {seed: [] for seed in seeds}
    ended = {seed: Event() for seed in seeds}
    for seed in seeds:
        made = session(seed, changed=ticker.changed, longest=1.5)
        ticker.add(made, given[seed].append, lambda _, seed=seed: ended[seed].set())
    assert all(event.wait(60) for event in ended.values())
    ticker.close()
    for seed, chunks in given.items():
        assert [chunk.chunk for chunk in chunks] == [0, 1, 2, 3]
        for chunk, frames in zip(chunks, alone[seed], strict=True):
            assert np.abs(np.asarray(chunk.frames).astype(int) - frames).max() <= (1 if sessions > 1 else 0)


def test_what_fails_in_a_joint_chunk_keeps_the_others(monkeypatch):
    drawn = []
    monkeypatch.setattr(joint_drawing, "next_chunks", lambda asked: drawn.append(asked) or [
        ValueError("no memory") if one == "broken" else f"chunk of {one}" for one in asked
    ])  # fmt: skip

    def steps(name):
        if name == "early":
            raise ValueError("broken before")
        chunk = yield name
        return chunk

    found = joint_drawing.together([steps(name) for name in ("one", "early", "broken", "two")])
    assert drawn == [["one", "broken", "two"]]
    assert (found[0], found[3]) == ("chunk of one", "chunk of two")
    assert [str(problem) for problem in found[1:3]] == ["broken before", "no memory"]


def test_as_many_sessions_as_there_are_lanes_are_drawn_as_if_each_were_alone():
    clock, costs = SimulatedClock(), Costs((Measured(3, 1, 0.1, 0.0),), fps=FPS, lanes=2)
    sessions = [Played(clock, 0.0, lasts=10**9) for _ in range(3)]
    ticker = Ticker(costs, lanes=2, clock=HeldClock())
    try:
        for session, leads in zip(sessions, ([0.0], [0.0] * 2, [LEAD] * 3), strict=True):
            ticker.add(session, lambda _: None, lambda _: None)
            assert [one.adapting.shared_lead for one in sessions[: len(leads)]] == leads
        # 3 sessions of 4 steps take 1.25 of two lanes
        assert {one.adapting.floor for one in sessions} == {1}
    finally:
        ticker.close()


def test_one_more_is_refused_where_those_that_are_watched_leave_no_room():
    clock, costs = HeldClock(), Costs((Measured(3, 1, 0.05, 0.15),), fps=FPS)  # a session of one step: 0.42 of it
    sessions = [Played(SimulatedClock(), 0.0) for _ in range(2)]
    ticker = Ticker(costs, clock=clock)
    rungs = sessions[0].adapting.ladder
    try:
        assert isinstance(ticker.admit(rungs), Admit)
        for session in sessions:
            ticker.add(session, lambda _: None, lambda _: None)
        refused = ticker.admit(rungs)
        assert isinstance(refused, Refuse)
        assert refused.seconds == 30  # of two that last a minute each, one ends in half of it
        clock.time += 10  # nobody has shown anything for so long: nothing is drawn for them
        assert isinstance(ticker.admit(rungs), Admit)
    finally:
        ticker.close()


def test_the_only_session_is_let_in_on_the_slowest_machine():
    ticker = Ticker(Costs((Measured(3, 1, 1.0, 5.0),), fps=FPS), clock=HeldClock())
    assert isinstance(ticker.admit(ladder(Shape(4, 3), longest_chunk=3)), Admit)
    ticker.close()
