"""The simulator: people are counted once, the same seed gives the same, and the rules keep what they promise."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from knot_live.commands import main
from knot_live.scheduling import ROOM, Costs, Shape, ladder, load
from knot_live.scheduling.costs import Measured
from knot_live.scheduling.degrading import planned
from knot_live.scheduling.measured import CURVES, TWO_CORES_BFLOAT16
from knot_live.scheduling.simulated_card import Card, Watched
from knot_live.scheduling.simulator import (
    FCFS,
    FEWER_STEPS,
    MEAN_SECONDS,
    ONE_EACH,
    OURS,
    Scene,
    capacity,
    cards_needed,
    simulate,
)
from knot_live.scheduling.traces import TRACES, arrivals

COSTS = TWO_CORES_BFLOAT16
SMALL = Scene(trace="steady", cards=4, load=0.9, count=250)
shapes = st.sampled_from([Shape(steps, chunk) for steps in (1, 2, 4) for chunk in (1, 3)])


@pytest.mark.parametrize("trace", TRACES)
def test_as_many_come_as_are_wanted_in_order_and_as_often_as_the_trace_says(trace):
    times = arrivals(trace, 5000, 2.0, np.random.default_rng(3))
    assert len(times) == 5000
    assert all(early <= late for early, late in pairwise(times.tolist()))
    assert np.array_equal(times, arrivals(trace, 5000, 2.0, np.random.default_rng(3)))
    a_minute = np.histogram(times, np.arange(0, times[-1], 10))[0]
    if trace == "burst":
        assert a_minute.max() > 10 * np.median(a_minute)
    if trace == "daily":
        assert a_minute[len(a_minute) // 2 - 5 : len(a_minute) // 2 + 5].mean() > 4 * a_minute[:10].mean()
    if trace == "steady":
        assert times[-1] == pytest.approx(2500, rel=0.1)


@pytest.mark.parametrize("failures", [False, True])
@pytest.mark.parametrize("rules", [OURS, FEWER_STEPS, ONE_EACH, FCFS], ids=lambda rules: rules.name)
def test_whoever_comes_is_served_or_refused_and_the_same_seed_gives_the_same(rules, failures):
    scene = replace(SMALL, failures=failures)
    found = simulate(COSTS, scene, rules)
    assert found.sessions + round(found.refused * scene.count) == scene.count
    assert found == simulate(COSTS, scene, rules)
    assert found != simulate(COSTS, replace(scene, seed=2), rules)
    assert 0 < found.busy <= 1
    assert failures or found.moved == 0


def test_who_is_admitted_by_cost_plays_without_stalls_and_who_is_not_does_not():
    full = replace(SMALL, load=1.2)
    ours, first = simulate(COSTS, full, OURS), simulate(COSTS, full, FCFS)
    assert ours.good > 0.99
    assert ours.refused > 0.05
    assert first.refused == 0
    assert first.good < 0.6
    assert simulate(COSTS, full, ONE_EACH).refused > ours.refused + 0.2
    fewer = simulate(COSTS, full, FEWER_STEPS)
    assert fewer.refused < ours.refused
    assert fewer.whole < ours.whole
    assert fewer.good > 0.99


def test_a_card_that_dies_costs_its_sessions_a_moment_where_there_are_others():
    found = simulate(COSTS, replace(SMALL, cards=16, load=0.5, count=1000, failures=True), OURS)
    assert found.moved > 2
    assert found.moved_p95 < 3
    alone = simulate(COSTS, replace(SMALL, cards=1, load=0.5, count=500, failures=True), OURS)
    assert alone.moved_p95 > 10


def test_more_cards_are_needed_where_each_draws_one_session():
    scene = replace(SMALL, cards=1, count=100)
    ours, one = (cards_needed(COSTS, scene, rules, 4) for rules in (OURS, ONE_EACH))
    assert 4 / capacity(COSTS) * ROOM <= ours < one


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(shapes, st.floats(0, 20)), min_size=1, max_size=12), st.sampled_from(sorted(CURVES)))
def test_whoever_joins_while_there_is_room_stalls_nobody(coming, curve):
    """Chunks take exactly what was measured, and everybody was admitted: nobody waits, but for who has just begun."""
    costs = CURVES[curve].slower(0.3)
    card, admitted = Card(costs, "slack", degrades=True), []
    for key, (shape, time) in enumerate(sorted(coming, key=lambda one: one[1])):
        card.advance(time)
        if load(costs, [*admitted, shape]) <= 0.8:
            admitted.append(shape)
            card.add(Watched(key, ladder(shape, longest_chunk=3), time), time)
    card.advance(40)
    for session in card.sessions.values():
        assert session.began
        assert session.play_ratio(40) > 0.985


@settings(max_examples=60, deadline=None)
@given(st.lists(shapes, max_size=30), st.integers(0, 5))
def test_a_planned_floor_fits_or_is_the_lowest_and_does_not_flutter(wanted, before):
    ladders = [ladder(shape, longest_chunk=3) for shape in wanted]

    def taken(floor):
        return load(COSTS, [rungs[min(floor, len(rungs) - 1)].shape for rungs in ladders])

    floor = planned(COSTS, ladders, before, ROOM)
    lowest = max((len(rungs) - 1 for rungs in ladders), default=0)
    assert taken(floor) <= ROOM or floor == lowest
    assert floor == planned(COSTS, ladders, floor, ROOM)
    if floor > 0:
        assert taken(floor - 1) > 0.9 * ROOM


def test_sessions_that_gain_by_it_are_drawn_together():
    """Not measured anywhere: that the rules use what a card gains, if it does."""
    joint = Costs(tuple(Measured(3, n, 0.01 * (1 + 0.2 * n), 0.03 * (1 + 0.2 * n)) for n in (1, 2, 4, 8)), fps=25)
    alone = Costs(tuple(one for one in joint.measured if one.sessions == 1), fps=25)
    card = Card(joint, "slack", degrades=False)
    number = int(1.5 * 0.48 / alone.seconds(Shape(4, 3)))  # more than can be drawn one after the other
    for key in range(number):
        card.add(Watched(key, ladder(Shape(4, 3), longest_chunk=3), 0.0), 0.0)
    card.advance(120)
    assert min(session.play_ratio(120) for session in card.sessions.values()) > 0.98


def test_the_command_writes_figures_and_pictures(tmp_path, capsys):
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps(COSTS.to_json()))
    arguments = ["--arrivals", "25", "--cards", "1", "3", "--costs", str(costs), "--json", str(tmp_path / "found.json")]
    assert main(["simulate", *arguments, "--plots", str(tmp_path / "plots")]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert {(row["trace"], row["cards"], row["load"], row["rules"]) for row in found["compared"]} == {
        (trace, cards, load, rules)
        for trace in TRACES
        for cards in (1, 3)
        for load in (0.5, 0.9, 1.2)
        for rules in ("slack", "one a card", "first come")
    }
    assert found["capacity"] == pytest.approx(capacity(COSTS))
    assert told.count("\n") > 40
    for name in ("rules.png", "cards.png"):
        assert (tmp_path / "plots" / name).stat().st_size < 80_000
        with Image.open(tmp_path / "plots" / name) as picture:
            assert len(picture.getcolors(2**20)) > 10
    assert main(["simulate", "--costs", str(tmp_path / "none.json")]) == 1
    assert MEAN_SECONDS > 0
