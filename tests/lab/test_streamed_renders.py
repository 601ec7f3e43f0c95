"""Streams of rendered people are compared with the renders."""

from __future__ import annotations

import numpy as np
import pytest

from knot_core.config import UNITS, UNITS_DIM, AdapterConfig
from knot_core.driving.audio import MEL_DIM
from knot_lab.evaluation.photo_figures import unreached
from knot_lab.evaluation.streamed_renders import GOALS, StreamedRender, driving_of, render_stream_figures, summary
from knot_lab.synthetic.heads.clips import Clip


def _streamed(made: np.ndarray, truth: np.ndarray) -> StreamedRender:
    face = np.zeros(truth.shape[:3], bool)
    face[:, 4:12, 4:12] = True
    return StreamedRender(reference=truth[0], made=made, truth=truth, face=face)


def test_only_the_face_counts_and_a_stream_like_the_truth_reaches_all_goals() -> None:
    truth = np.random.default_rng(0).integers(0, 256, (25, 16, 16, 3), dtype=np.uint8)
    elsewhere = truth.copy()
    elsewhere[:, :3] = 0
    figures = render_stream_figures(_streamed(elsewhere, truth), 3)
    assert figures["psnr"] > 100
    assert figures["psnr_still"] < 12
    assert figures["sharpness"] == pytest.approx(1)
    found = summary([figures, figures])
    assert found["boundary"] == 0
    assert unreached(found, GOALS) == []
    blurred = (truth.mean(axis=(1, 2), keepdims=True) + 0 * truth).astype(np.uint8)
    found = summary([render_stream_figures(_streamed(blurred, truth), 3)])
    assert [line.split()[0] for line in unreached(found, GOALS)][:2] == ["psnr", "sharpness"]


def test_a_jump_at_chunk_boundaries_is_found() -> None:
    frames = np.arange(49)
    truth = np.broadcast_to((frames * 4)[:, None, None, None], (49, 16, 16, 3)).astype(np.uint8)
    jumping = truth + 2 * ((frames + 3) // 4 // 3)[:, None, None, None].astype(np.uint8)
    figures = render_stream_figures(_streamed(jumping, truth), 3)
    assert figures["boundary_ratio_true"] == pytest.approx(1)
    assert figures["step_ratio_true"] == pytest.approx(1)
    assert summary([figures])["boundary"] > 0.2


def test_a_person_is_driven_by_the_clips_own_units_and_pose() -> None:
    rng = np.random.default_rng(0)
    clip = Clip(
        identity=None, units=rng.random((9, 52), np.float32), pose=np.full((9, 3), 0.1, np.float32),
        placement=np.zeros((9, 3), np.float32), mel=np.zeros((9, MEL_DIM), np.float32), speaking=True,
    )  # fmt: skip
    driving = driving_of(clip).for_adapter(AdapterConfig(name=UNITS, signal_dim=UNITS_DIM))
    signal = driving.pixel_signal(np.arange(9)).numpy()
    assert np.allclose(signal[:, MEL_DIM : MEL_DIM + 52], clip.units, atol=1e-6)
    assert np.allclose(signal[:, MEL_DIM + 52 : MEL_DIM + 55], 0.1, atol=1e-6)


def test_motion_in_steps_of_four_frames_is_found() -> None:
    frames = np.arange(49)
    truth = np.broadcast_to((frames * 4)[:, None, None, None], (49, 16, 16, 3)).astype(np.uint8)
    stepping = np.broadcast_to((16 * ((frames + 3) // 4) + frames)[:, None, None, None], truth.shape).astype(np.uint8)
    figures = render_stream_figures(_streamed(stepping, truth), 3)
    assert figures["step_ratio"] == pytest.approx(17)
    assert figures["step_ratio_true"] == pytest.approx(1)
