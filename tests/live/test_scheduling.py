"""The scheduler's invariants: slack's order, nobody starves, capacity is kept, what gave way comes back."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knot_live.scheduling import (
    Admit,
    Costs,
    Level,
    Refuse,
    Running,
    Shape,
    Waiting,
    decide,
    ladder,
    load,
    next_group,
    step,
)
from knot_live.scheduling.admission import ROOM
from knot_live.scheduling.costs import Measured
from knot_live.scheduling.degrading import CALM, LATE, MOST_CALM, SETTLE
from knot_live.scheduling.slack import slack

COSTS = Costs(
    tuple(
        Measured(chunk, sessions, (chunk + 1) * (0.003 + 0.003 * sessions), chunk * (0.006 + 0.007 * sessions))
        for chunk in (1, 3)
        for sessions in (1, 2, 4, 8)
    ),
    fps=25,
)
shapes = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 3])).map(lambda found: Shape(*found))
times = st.integers(0, 2000).map(lambda milliseconds: milliseconds / 1000)


@st.composite
def waiting(draw):
    found = draw(st.lists(st.tuples(shapes, times, times), max_size=12))
    return [Waiting(key, shape, dry, ready) for key, (shape, dry, ready) in enumerate(found)]


@given(waiting(), times)
def test_a_group_begins_with_the_least_slack_and_goes_on_in_its_order(sessions, now):
    group, ready = next_group(sessions, now, COSTS), [one for one in sessions if one.ready <= now]
    if group is None:
        assert not ready
        return
    drawn = [sessions[key] for key in group.keys]
    assert len(set(group.keys)) == len(drawn)
    assert slack(drawn[0], now, COSTS) == min(slack(one, now, COSTS) for one in ready)
    assert all(one.shape == group.shape and one.ready <= now for one in drawn)
    slacks = [slack(one, now, COSTS) for one in drawn]
    assert slacks == sorted(slacks)
    left = [one for one in ready if one.shape == group.shape and one.key not in group.keys]
    assert all(slack(one, now, COSTS) >= slacks[-1] for one in left)
    assert group.seconds == COSTS.seconds(group.shape, len(drawn)) <= len(drawn) * COSTS.seconds(group.shape)


@given(waiting(), times)
def test_who_joins_a_group_makes_nobody_late(sessions, now):
    group = next_group(sessions, now, COSTS)
    if group is None:
        return
    for size, key in enumerate(group.keys, start=1):
        if sessions[key].dry >= now + size * COSTS.seconds(group.shape):  # one after the other, in the same order
            assert now + group.seconds <= sessions[key].dry + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(shapes, times), min_size=1, max_size=20), st.floats(1.0, 4.0))
def test_nobody_starves_however_busy_it_is(found, factor):
    """Between two chunks of a session every other one is drawn a bounded number of times."""
    costs, now = COSTS.slower(factor), 0.0
    lengths = [costs.length(shape) for shape, _ in found]
    dry = [time for _, time in found]
    drawn, waited = [0] * len(found), [0.0] * len(found)
    for _ in range(400):
        group = next_group(
            [Waiting(key, shape, dry[key], dry[key] - lengths[key]) for key, (shape, _) in enumerate(found)], now, costs
        )
        if group is None:
            now = min(end - length for end, length in zip(dry, lengths, strict=True))
            continue
        now += group.seconds
        for key in group.keys:
            waited[key] = max(waited[key], now - dry[key])
            dry[key], drawn[key] = max(dry[key], now) + lengths[key], drawn[key] + 1
    one_round = sum(costs.seconds(shape) * (1 + 0.48 / costs.length(shape)) for shape, _ in found)
    assert max(waited) <= one_round + 1e-9
    assert max(now - end for end in dry) <= one_round + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(shapes, max_size=80))
def test_capacity_is_never_exceeded_and_who_was_refused_did_not_fit(wanted):
    admitted = []
    for shape in wanted:
        answer = decide(COSTS, [Running(one, 60.0) for one in admitted], shape)
        taken = load(COSTS, [*admitted, shape])
        if isinstance(answer, Admit):
            admitted.append(shape)
            assert answer.load == pytest.approx(taken)
        else:
            assert taken > ROOM
        assert load(COSTS, admitted) <= ROOM + 1e-9


@given(st.integers(1, 40), st.floats(1, 500))
def test_who_is_refused_is_told_when_to_come_back(number, left):
    shape = Shape(4, 3)
    answer = decide(COSTS.slower(2.0), [Running(shape, left)] * number, shape)
    if isinstance(answer, Refuse):
        assert answer.seconds == int(answer.seconds) >= 1
        assert f"come back in {answer.seconds} seconds" in answer.sentence
        assert answer.seconds <= max(1, left * (1 + number)) + 1


def test_a_session_that_fits_on_no_empty_machine_is_not_asked_to_come_back():
    answer = decide(COSTS.slower(20), [], Shape(4, 3))
    assert answer.seconds is None
    assert "alone takes" in answer.sentence


def test_more_ending_sessions_mean_less_waiting():
    shape = Shape(4, 3)
    few, many = ([Running(shape, 60.0)] * number for number in (3, 30))
    slow = COSTS.slower(0.899 / load(COSTS, [shape] * 3))
    fast = COSTS.slower(0.899 / load(COSTS, [shape] * 30))
    assert decide(slow, few, shape).seconds == 20
    assert decide(fast, many, shape).seconds == 2


@given(shapes, st.integers(1, 30))
def test_nothing_is_claimed_that_was_not_measured(shape, sessions):
    whole, left = divmod(sessions, 8)
    claimed = whole * COSTS.seconds(shape, 8) + (COSTS.seconds(shape, left) if left else 0)
    assert COSTS.seconds(shape, sessions) == pytest.approx(claimed)
    assert COSTS.share(shape, sessions) * COSTS.length(shape) <= sessions * COSTS.seconds(shape) + 1e-9
    assert Costs.from_json(COSTS.to_json()) == COSTS
    assert COSTS.slower(2).seconds(shape) == pytest.approx(2 * COSTS.seconds(shape))


@given(shapes, st.booleans())
def test_a_ladder_gives_steps_first_then_chunk_length_then_pictures(shape, fixed):
    rungs = ladder(shape, longest_chunk=3, fixed_steps=fixed)
    assert rungs[0].shape == shape
    assert all(rung.sentence for rung in rungs)
    costs = [COSTS.seconds(rung.shape) / COSTS.length(rung.shape) for rung in rungs]
    assert all(later <= earlier for earlier, later in pairwise(costs))
    changed = [
        "steps" if one.shape.steps != other.shape.steps else "length" if one.shape != other.shape else "pictures"
        for one, other in pairwise(rungs)
    ]
    order = ["steps", "length", "pictures"]
    assert changed == sorted(changed, key=order.index)
    assert changed[-1] == "pictures"
    assert ("steps" in changed) == (shape.steps > 1 and not fixed)


RUNGS = (1.0, 0.6, 0.4, 0.4)


@given(st.lists(st.floats(0, 3), max_size=200))
def test_a_level_stays_on_its_ladder_and_waits_between_two_steps_down(loads):
    level, down = Level(), [-SETTLE]
    for number, now in enumerate(loads):
        after = step(level, now, RUNGS)
        assert 0 <= after.rung < len(RUNGS)
        assert abs(after.rung - level.rung) <= 1
        assert CALM <= after.patience <= MOST_CALM
        if after.rung > level.rung:
            assert now > LATE
            assert number - down[-1] >= SETTLE
            down.append(number)
        level = after


@given(st.integers(1, 3))
def test_what_gave_way_comes_back_when_there_is_room(rung):
    level = Level(rung)
    for _ in range(rung * (CALM + 1)):
        level = step(level, 0.1, RUNGS)
    assert level.rung == 0


def test_a_step_up_that_would_be_late_again_is_not_taken():
    level = Level(1)
    for _ in range(500):
        level = step(level, 0.6, RUNGS)  # 1.0 on the rung above
    assert level.rung == 1


def test_going_up_and_down_becomes_rarer():
    level, changes = Level(), []
    for chunk in range(3000):
        # 0.4 where it is degraded; what a step up is expected to take is not what it takes
        after = step(level, 0.4 if level.rung else 0.95, RUNGS)
        if after.rung != level.rung:
            changes.append(chunk)
        level = after
    assert len(changes) <= 30
    assert changes[-1] - changes[-2] >= 2 * CALM or changes[-2] - changes[-3] >= 2 * CALM
