"""The evaluation's figures: known answers for known pictures, and a reader that reads the truth."""

import numpy as np
import pytest
import torch

from knot_core.geometry import num_latent_frames
from knot_lab.evaluation import metrics
from knot_lab.evaluation.reader import READ, Reader
from knot_lab.synthetic import avatars
from knot_lab.synthetic.avatars import box_mask
from knot_lab.synthetic.motion import sample_controls


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def masks():
    return box_mask(torch.tensor([[4, 2, 12, 10]]).expand(6, 4), 16)


def test_box_masks_cover_their_boxes(masks):
    assert masks.sum() == 6 * 64
    assert masks[:, 4:12, 2:10].sum() == 6 * 64


def test_psnr_counts_only_what_is_in_the_box(pictures, masks):
    other = pictures.clone()
    other[:, :4] = 0
    assert metrics.squared_error(other, pictures, masks).max() == 0
    brighter = pictures.float() / 255 + 0.1
    assert metrics.psnr(metrics.squared_error(brighter, pictures, masks)) == pytest.approx(20, abs=1e-4)


def test_sharpness_is_the_square_of_the_contrast(pictures, masks):
    x = pictures.float() / 255
    pale = 0.5 + 0.7 * (x - 0.5)
    found = metrics.sharpness(metrics.gradient_energy(pale, masks), metrics.gradient_energy(x, masks))
    assert found == pytest.approx(0.49, abs=1e-5)


def test_frame_difference_is_that_to_the_frame_before():
    x = torch.zeros(4, 8, 8, 3)
    x[2:] = 0.25
    found = metrics.frame_difference(x, torch.ones(4, 8, 8))
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([0, 0.25, 0])


@pytest.mark.parametrize("num_chunk_frames", [1, 2, 3])
@pytest.mark.parametrize("num_pixel_frames", [1, 2, 9, 10, 61, 100])
def test_boundaries_stand_where_chunks_and_latent_frames_meet(num_chunk_frames, num_pixel_frames):
    latent = [num_latent_frames(p + 1) - 1 for p in range(num_pixel_frames)]
    expected = [p for p in range(1, num_pixel_frames) if latent[p] != latent[p - 1]]
    between, within = metrics.latent_boundaries(num_pixel_frames, num_chunk_frames)
    assert sorted([*between, *within]) == expected
    assert [p for p in expected if latent[p] // num_chunk_frames != latent[p - 1] // num_chunk_frames] == list(between)


def test_boundary_ratio_of_a_video_that_jumps_at_chunks():
    differences = np.full(100, 0.2)
    between, _ = metrics.latent_boundaries(100, 3)
    differences[between] = 0.3
    assert metrics.boundary_ratio(differences, 3) == pytest.approx(1.5)


def test_a_loop_is_told_from_a_motion_that_is_only_slow():
    time = np.arange(25 * 60)
    loop = np.stack([np.sin(2 * np.pi * time / 175), np.cos(6 * np.pi * time / 175) / 2], axis=1)
    assert metrics.strongest_repeat(loop, 50, 1500) == pytest.approx(1, abs=1e-2)
    assert metrics.strongest_repeat(loop[:, :1], 50, 100) == 0, "it repeats later than that"
    walk = np.random.default_rng(0).standard_normal((25 * 60, 1)).cumsum(axis=0)
    assert np.corrcoef(walk[:-50, 0], walk[50:, 0])[0, 1] > 0.6
    assert metrics.strongest_repeat(walk, 50, 1500) < 0.5
    assert np.isnan(metrics.strongest_repeat(loop[:90], 50, 1500)), "too short to tell"
    assert metrics.strongest_repeat(np.ones((500, 3)), 50, 1500) == 0


def test_pearson_equals_numpys_and_survives_a_constant():
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    assert metrics.pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert metrics.pearson(a, np.ones(50)) == 0


def test_blinks_are_counted_once_each():
    blink = np.array([0, 0.5, 0.9, 0.7, 0.55, 0.7, 0.1, 0, 0.8, 0.2])
    assert metrics.count_blinks(blink) == 2
    assert metrics.count_blinks(np.zeros(20)) == 0


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (5, 2.5706), (15, 2.1314), (60, 2.0003)])
def test_interval_uses_students_t(freedom, quantile):
    values = np.random.default_rng(freedom).random(freedom + 1)
    mean, half = metrics.mean_and_interval([*values, float("nan")])
    assert mean == pytest.approx(values.mean())
    assert half == pytest.approx(quantile * values.std(ddof=1) / np.sqrt(freedom + 1), rel=2e-3)


@pytest.mark.slow
def test_a_reader_reads_the_truths_own_frames():
    identity = avatars.identity(0, "eval")
    reader = Reader.of(identity)
    controls = sample_controls(0, 250, split="eval")
    frames = avatars.render_clip(reader.values, torch.from_numpy(controls))
    read = reader.read(frames)
    for i, name in enumerate(READ):
        found = metrics.pearson(read[:, i], controls[:, avatars.CONTROLS.index(name)])
        # closed eyes hide where they look, and this one's beard the corners of the mouth (0.987; shaved: 0.994)
        assert found > {"gaze": 0.9, "mouth_wide": 0.98}.get(name, 0.99), name
    blink = controls[:, avatars.CONTROLS.index("blink")]
    assert metrics.count_blinks(read[:, READ.index("blink")]) == metrics.count_blinks(blink)
