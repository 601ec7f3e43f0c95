"""Photos that a model moves are measured by what they were told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from knot_core import load_model
from knot_core.driving.expression_controls import RANGES
from knot_lab.evaluation import animated_photos as photos
from tests.small_face_model import SIDE, write_face_model


def test_exercises_are_controls_that_cross_what_is_judged() -> None:
    made = photos.exercises(200, 3)
    for name, values in made.items():
        low, high = RANGES[name]
        assert values.shape == (200,)
        assert low <= values.min() <= values.max() <= high
    assert np.abs(made["yaw"]).max() * np.deg2rad(30) == pytest.approx(0.25, abs=0.005)
    assert made["blink"].max() > 0.9
    assert np.median(made["blink"]) < 0.1


@pytest.mark.usefixtures("_espeak_ng")
def test_a_photo_is_animated_and_measured_without_optional_packages(tmp_path: Path) -> None:
    model = load_model(write_face_model(tmp_path))
    photo = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    made = photos.animate_photo(model, photo, 1, 1.0)
    assert made.spoken.shape == made.moved.shape == (25, SIDE, SIDE, 3)
    assert not np.array_equal(made.spoken, made.moved)
    assert len(made.mouth_T) == 25
    found = photos.figures_of(made, photo, photo.flip(-1), None)
    assert found["background"] > 0


def test_a_mouth_and_a_head_that_obey_correlate_with_what_they_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Landmarks that do what they are told, put in the place of MediaPipe's; every seventh frame shows no face."""
    told = photos.exercises(100, 0)
    mouth = np.abs(np.sin(np.arange(100) / 5))
    drawn = {1: _landmarks(mouth, *np.zeros((3, 100))), 2: _landmarks(np.zeros(100), told["yaw"] * np.deg2rad(30),
             told["pitch"] * np.deg2rad(18), told["blink"])}  # fmt: skip
    for one in drawn.values():
        one[::7] = np.nan
    monkeypatch.setattr(photos, "_meshes", lambda frames: drawn[int(frames[0, 0, 0, 0])])
    frames = [np.full((100, 8, 8, 3), number, np.uint8) for number in (1, 2)]
    made = photos.Animated(spoken=frames[0], moved=frames[1], mouth_T=mouth, controls=told)
    found = photos.figures_of(made, torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), None)
    assert all(found[name] > 0.98 for name in ("mouth", "yaw", "pitch", "blink")), found


def _landmarks(mouth: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, blink: np.ndarray) -> np.ndarray:
    """[T, 478, 3] of a face whose parts lie as the formulas look at them."""
    points = np.zeros((len(mouth), 478, 3))
    points[:, 10] = (0, -60, 0)
    points[:, 168, 1], points[:, 13, 1] = -20, 20
    points[:, 2] = np.stack([0 * pitch, -60 + 60 * np.cos(pitch), 60 * np.sin(pitch)], axis=-1)
    points[:, 14, 1] = 20 + 15 * mouth
    points[:, 0, 1], points[:, 17, 1] = 15, 25 + 15 * mouth
    for side, (outer, inner, above, below) in zip((-1, 1), photos.formulas._EYES, strict=True):
        points[:, inner, 0] = side * 8
        points[:, outer] = np.stack([side * 28 * np.cos(yaw), 0 * yaw, side * 28 * np.sin(yaw)], axis=-1)
        points[:, above, 1], points[:, below, 1] = -4 * (1 - blink), 4 * (1 - blink)
    return points


def test_identity_falls_where_frames_are_of_somebody_else() -> None:
    """With an embedder of colours: the frames' last fifth is another picture."""
    photo = torch.zeros(1, 3, 16, 16)
    photo[:, 0] = 1
    turned = photo.clone()
    turned[:, 1, :, 8:] = 1
    frames = np.repeat(photos.as_pictures(photo), 20, axis=0)
    frames[16:, ..., 1] = 255
    made = photos.Animated(spoken=frames, moved=frames, mouth_T=np.zeros(20), controls={})

    def embed(picture: np.ndarray) -> np.ndarray:
        return picture.reshape(-1, 3).mean(axis=0).astype(float)

    found = photos._identity(made, photo, turned, embed)
    scale = photos.formulas.identity_ratio(
        embed(frames[0])[None], embed(frames[0]), embed(photos.as_pictures(turned)[0])
    )
    assert found["identity_lost"] == pytest.approx(scale * (1 - 2**-0.5))
    assert found["identity"] == pytest.approx(scale * (0.8 + 0.2 * 2**-0.5))
    assert photos._identity(made, photo, turned, lambda _: None) == {}


def test_what_lies_away_from_the_head_does_not_hold_the_face() -> None:
    mask = photos.away(64)
    assert not mask[20:50, 20:44].any()
    assert mask[[0, -1], 0].all()
    assert 0.3 < mask.mean() < 0.5
