"""The study's figures have known answers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from knot_lab.study import measured_runs as study_runs
from knot_lab.study import temporal_metrics as study_metrics

PERIOD = 12


def change(num_frames=900, seed=0):
    """How much pictures change from one to the next where somebody moves without a plan."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.standard_normal(num_frames + 50), np.ones(50) / 50, "valid")[:num_frames]
    return 1 + 0.5 * slow + 0.1 * rng.standard_normal(num_frames)


def seam_of(signal):
    return study_metrics.seam(study_metrics.spectrum(signal, PERIOD), PERIOD, 3)


def test_a_seam_at_every_chunk_stands_out_of_the_spectrum():
    without = np.array([seam_of(change(seed=seed)) for seed in range(20)])
    jumping = np.array([seam_of(change(seed=seed) + 0.3 * (np.arange(900) % PERIOD == 9)) for seed in range(20)])
    assert abs(without.mean()) < 1
    assert jumping.min() > without.max() + 3


def test_what_recurs_with_every_latent_frame_is_no_seam():
    latent = np.array([seam_of(change(seed=seed) + 0.3 * (np.arange(900) % 4 == 1)) for seed in range(20)])
    assert abs(latent.mean()) < 1
    beats = [
        study_metrics.beat(study_metrics.spectrum(change(seed=seed) + part, PERIOD), PERIOD, 3)
        for seed in range(20)
        for part in (0, 0.3 * (np.arange(900) % 4 == 1))
    ]
    assert min(beats[1::2]) > max(beats[::2]) + 3


def test_a_sine_lies_in_its_own_bin_of_the_spectrum():
    power = study_metrics.spectrum(2 + np.sin(2 * np.pi * 30 / 240 * np.arange(960)), PERIOD)
    assert len(power) == 121
    assert power.argmax() == 30
    assert power[30] == pytest.approx((240 / 4) ** 2 / (3 * 240 / 8))  # of amplitude 1: (N / 4)^2 / (3 N / 8)


def test_motion_that_both_share_falls_out_of_the_change():
    truth = np.abs(change(seed=1)) * np.linspace(0.5, 2, 900)
    assert np.abs(study_metrics.log_change(truth, truth)).max() == 0
    at_chunks = np.arange(900) % PERIOD == 9
    found = study_metrics.log_change(np.where(at_chunks, 1.3, 1.1) * truth, truth)
    assert seam_of(found) > 20
    assert found[at_chunks].min() > found[~at_chunks].max()
    assert np.isfinite(study_metrics.log_change(truth, np.zeros(900))).all()


def test_a_signal_too_short_for_a_spectrum_has_no_seam():
    assert len(study_metrics.spectrum(change(119), PERIOD)) == 0
    assert math.isnan(seam_of(change(119)))
    assert math.isfinite(seam_of(change(120)))


def test_flicker_is_the_noise_of_known_energy_where_the_truth_rests():
    rng, deviation = np.random.default_rng(0), 3 / 255
    truth = torch.full((30, 48, 48, 3), 0.5)
    for t in range(30):
        truth[t, 4 : 4 + 8, t : t + 8] = 0.9  # something moves along the top
    masks = study_metrics.static_masks(truth)
    noisy = truth + deviation * torch.from_numpy(rng.standard_normal(truth.shape)).float()
    found = study_metrics.flicker(study_metrics.change_energy(noisy, masks))
    assert found == pytest.approx(3 * math.sqrt(2), rel=0.01)
    assert study_metrics.flicker(study_metrics.change_energy(truth, masks)) == 0
    assert masks[0].sum() == 0
    assert masks[1:, 4:12, 24:28].mean() < 1
    assert masks[1:, 20:].min() == 1


@pytest.mark.parametrize("cuts", [(), (9, 21), (1, 2, 120)])
def test_pieces_of_any_length_flicker_the_same(cuts, tmp_path):
    rng = np.random.default_rng(0)
    pictures = (100 + rng.integers(0, 2, (130, 32, 32, 3))).astype(np.uint8)
    pictures[:, :8, :8] = rng.integers(0, 255, (130, 8, 8, 3))
    truth = SimpleNamespace(pictures=pictures)
    static, energies = study_runs._static(truth, tmp_path), []
    assert np.array_equal(static, study_metrics.static_masks(torch.from_numpy(pictures)).numpy())
    pieces = [torch.from_numpy(part) for part in np.split(pictures, cuts)]
    assert [len(piece) for piece in study_runs._watched(pieces, static, energies)] == [len(piece) for piece in pieces]
    whole = study_metrics.change_energy(torch.from_numpy(pictures), torch.from_numpy(static))
    np.testing.assert_allclose(np.concatenate(energies), whole)


def test_flicker_of_nothing_static_is_unknown():
    pictures = torch.rand(4, 16, 16, 3)
    assert math.isnan(study_metrics.flicker(study_metrics.change_energy(pictures, torch.zeros(4, 16, 16))))


@pytest.mark.parametrize("delay", [0, 1, 6, 18])
@pytest.mark.parametrize("ends_at", [0.4, 0.3])
def test_a_step_response_has_the_delay_it_was_given(delay, ends_at):
    asked = np.where(np.arange(100) < 40, -0.4, 0.4)
    read = np.where(np.arange(100) < 40 + delay, -0.4, ends_at)
    found, gain = study_metrics.step_response(read, asked, 40, 100, PERIOD)
    assert found == pytest.approx(delay / PERIOD)
    assert gain == pytest.approx((ends_at + 0.4) / 0.8)


def test_a_slow_response_counts_until_nine_tenths_of_the_way():
    asked = np.where(np.arange(100) < 40, 0.0, 1.0)
    ramp = np.clip((np.arange(100) - 40) / 20, 0, 1)
    assert study_metrics.step_response(ramp, asked, 40, 100, PERIOD)[0] == pytest.approx(18 / PERIOD)


def test_who_does_not_follow_has_not_answered():
    asked = np.where((np.arange(120) // 40) % 2, 0.4, -0.4)
    steps = [(40, 80), (80, 120)]
    still = study_metrics.mean_response(np.zeros(120), asked, steps, PERIOD)
    assert (still["response_gain"], still["response_answered"]) == (0, 0)
    assert math.isnan(still["response"])
    half = study_metrics.mean_response(np.where(np.arange(120) < 40, -0.4, 0.4), asked, steps, PERIOD)
    assert (half["response"], half["response_answered"]) == (0, 0.5)


def test_roughness_is_that_of_the_acceleration():
    asked = np.sin(np.arange(200)[:, None] / np.array([9.0, 13.0, 20.0]))
    assert study_metrics.roughness(asked, asked) == pytest.approx(1)
    assert study_metrics.roughness(2 * asked + 5, asked) == pytest.approx(2)
    jitter = asked + 0.05 * np.random.default_rng(0).standard_normal(asked.shape)
    assert study_metrics.roughness(jitter, asked) > 3
