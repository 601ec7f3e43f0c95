"""Random head motion: reproducible, in range, smooth, and alive."""

import numpy as np
import pytest

from knot_core.driving.expression_controls import CONTROLS, RANGES
from knot_core.errors import DrivingError
from knot_lab.synthetic.motion import sample_controls


def track(controls: np.ndarray, name: str) -> np.ndarray:
    return controls[:, CONTROLS.index(name)]


def test_the_same_seed_gives_the_same_motion_and_another_split_another():
    first = sample_controls(3, 61)
    assert first.shape == (61, 8)
    assert first.dtype == np.float32
    assert np.array_equal(first, sample_controls(3, 61))
    assert not np.array_equal(first, sample_controls(4, 61))
    assert not np.array_equal(first, sample_controls(3, 61, split="eval"))


def test_values_stay_in_the_range_of_their_control():
    motion = np.concatenate([sample_controls(seed, 61) for seed in range(300)])
    for name, (low, high) in RANGES.items():
        assert low <= track(motion, name).min() <= track(motion, name).max() <= high
    assert np.quantile(np.abs(motion[:, :3]), 0.95) < 0.75
    assert np.abs(motion[:, :3]).max() <= 0.85


def test_the_head_never_jumps():
    motion = sample_controls(0, 25 * 600)
    assert np.abs(np.diff(motion[:, :3], axis=0)).max() < 0.45  # a tenth of the range of a quick turn's whole way
    assert np.abs(np.diff(motion[:, :3], n=2, axis=0)).max() < 0.2


def test_eyes_blink_shut_briefly_every_few_seconds():
    blink = track(sample_controls(1, 25 * 600), "blink")
    closed = blink > 0.9
    assert 100 < np.count_nonzero(np.diff(closed.astype(int)) == 1) < 400  # in ten minutes
    assert np.mean(blink > 0.05) < 0.25


def test_lips_close_in_pauses_and_open_in_syllables():
    lips = track(sample_controls(2, 25 * 120), "mouth_open")
    assert np.mean(lips < 0.05) > 0.1
    assert np.mean(lips > 0.3) > 0.2


def test_a_given_mouth_is_kept():
    mouth = np.random.default_rng(0).random((50, 2)).astype(np.float32)
    given = sample_controls(0, 50, mouth)
    assert np.array_equal(given[:, 5:7], mouth)


def test_clips_begin_in_the_middle_of_things():
    firsts = np.stack([sample_controls(seed, 1)[0] for seed in range(200)])
    assert (firsts[:, :3].std(axis=0) > 0.1).all()
    assert firsts[:, 3].max() > 0.5
    assert firsts[:, 5].max() > 0.3


def test_an_unknown_split_is_refused():
    with pytest.raises(DrivingError, match="train, eval"):
        sample_controls(0, 10, split="test")
