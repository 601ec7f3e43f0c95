"""Figures of what somebody at the page waits for."""

import pytest
import torch

from knot_core import load_model
from knot_live.bench import figures, long_run
from knot_live.bench.chunk_costs import milliseconds


def test_what_was_missed_is_counted_and_in_no_percentile():
    found = figures.spread([100.0, None, 300.0, 200.0])
    assert found == {"events": 4, "missed": 1, "p50": 0.2, "p95": 0.29, "p99": 0.298}
    assert figures.spread([None, None]) == {"events": 2, "missed": 2, "p50": None, "p95": None, "p99": None}


def test_a_stall_lowers_the_play_ratio():
    told = {"seconds": 10.0, "frames": 245, "late": [0.0, -4.0, 40.0], "stalls": 1}
    found = figures.playing(told, 25)
    assert found["play_ratio"] == 0.98
    assert found["stalls"] == 1
    assert found["picture_behind_sound_ms"]["p50"] == 4.0


def test_the_table_has_a_row_for_each_figure_with_percentiles():
    rows = figures.table(
        {"slider": figures.spread([500.0, 700.0]), "nothing": figures.spread([None]), "memory": {"MiB": 3}}
    )
    assert rows.splitlines()[2:] == [
        "| slider | 2 | 0 | 0.600 s | 0.690 s | 0.698 s |",
        "| nothing | 1 | 1 | - | - | - |",
    ]


@pytest.mark.slow
def test_a_control_is_taken_at_once_while_a_chunk_is_drawn():
    from knot_live.bench.bench_command import control_times

    found = figures.spread(control_times("knot-tiny", 200), unit=1.0)
    assert found["p50"] < 0.005


def a_minute(late, memory, played=1500):
    return {"played": played, "seconds": 60.0, "stalls": 0, "late_ms": [late, late + 5.0], "apart_ms_p99": late + 5.0,
            "memory_mib": memory}  # fmt: skip


def test_a_long_run_shows_drift_and_growth():
    calm = long_run.summary([a_minute(8.0, 400.0)] * 9)
    assert (calm["play_ratio"], calm["drift_ms_an_hour"], calm["memory_last_third_over_first"]) == (1.0, 0.0, 1.0)
    worse = long_run.summary([a_minute(float(minute), 400.0 + minute, played=1450) for minute in range(9)])
    assert worse["play_ratio"] == 0.9667
    assert worse["drift_ms_an_hour"] == 60.0
    assert worse["memory_last_third_over_first"] == round(407 / 401, 4)
    assert worse["sound_and_picture_apart_ms_p99"] == 13.0


def test_a_chunks_processor_time_is_that_of_its_stages():
    model = load_model("knot-tiny")
    anchor = model.encode_anchor(torch.rand(64, 64, 3), size=(64, 64))
    ticks = iter(range(10_000))
    found = milliseconds(model, anchor, 1, num_chunks=2, clock=lambda: next(ticks))
    # a clock that goes on by a second each time it is asked: twice for the driving, once for every other stage
    assert found == {"driving": 2000, "denoise": 1000, "decode": 1000, "commit": 1000, "encode": 1000, "all": 6000}
