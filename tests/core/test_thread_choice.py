"""How many threads operations use: small networks one, always; others as it pays."""

import time

import pytest
import torch

from knot_core import load_model
from knot_core.config import StreamSettings
from knot_core.stream import thread_choice
from knot_core.stream.thread_choice import beside, best_count, candidates, choose_threads, measured_speeds
from knot_core.threads import threads_inside

SETTINGS = StreamSettings(steps=2, num_window_frames=4)


def test_candidates_are_powers_of_two_and_the_most():
    assert [candidates(most) for most in (1, 2, 3, 4, 6, 16)] == [
        (1,), (1, 2), (1, 2, 3), (1, 2, 4), (1, 2, 4, 6), (1, 2, 4, 8, 16),
    ]  # fmt: skip


def test_decoding_goes_on_beside_the_network_where_processors_are_left():
    assert [beside(threads, 4) for threads in (1, 2, 3, 4)] == [True, True, False, False]
    assert beside(1, 1)


@pytest.mark.parametrize(
    ("speeds", "decoding", "most", "wanted"),
    [
        ({1: 1.0, 2: 1.5}, 0.6, 2, 1),  # side by side is 1.6 times as fast as one after the other
        ({1: 1.0, 2: 1.9}, 0.05, 2, 2),  # hardly anything to decode: threads inside pay
        ({1: 1.0, 2: 1.1}, 0.0, 2, 1),  # not enough to take another process's processor
        ({1: 1.0, 2: 2.0, 4: 4.0}, 0.2, 4, 4),
        ({1: 1.0, 2: 1.9, 4: 2.2}, 0.5, 4, 2),  # two, and decoding on the other two
        ({1: 1.0, 2: 0.0}, 0.0, 2, 1),  # not measured in time
    ],
)
def test_the_count_is_the_smallest_that_is_hardly_slower_than_the_best(speeds, decoding, most, wanted):
    assert best_count(speeds, decoding, most) == wanted


def test_small_networks_are_never_measured(model, monkeypatch):
    monkeypatch.setattr(thread_choice, "measured_speeds", pytest.fail)
    assert choose_threads(model, SETTINGS, (4, 6), most=16) == 1
    built_in = load_model(dtype=torch.float32)
    assert choose_threads(built_in, built_in.settings, (16, 16), most=16) == 1
    assert choose_threads(built_in, built_in.settings, (16, 16), most=1) == 1


def test_others_are_measured_and_very_large_ones_take_all(model, monkeypatch):
    asked = []
    monkeypatch.setattr(thread_choice, "_SMALL", 0)
    monkeypatch.setattr(
        thread_choice, "measured_speeds", lambda _, counts, __: asked.append(counts) or {1: 1.0, 4: 3.9}
    )
    monkeypatch.setattr(thread_choice, "_decoding_share", lambda *_: 0.0)
    assert choose_threads(model, SETTINGS, (4, 6), most=4) == 4
    assert asked == [(1, 2, 4)]
    monkeypatch.setattr(thread_choice, "_LARGE", 0)
    assert choose_threads(model, SETTINGS, (4, 6), most=8) == 8
    assert len(asked) == 1


@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
def test_measuring_takes_a_real_block_and_little_time_and_leaves_no_trace(make_model, layout):
    model = make_model(layout)
    with threads_inside(2):
        before, since = torch.get_num_threads(), time.thread_time()
        speeds = measured_speeds(model, (1, 2), 384)
        assert torch.get_num_threads() == before
    assert set(speeds) == {1, 2}
    assert min(speeds.values()) > 0
    assert time.thread_time() - since < 0.5  # 50 ms a candidate, on a machine that is doing other things too
