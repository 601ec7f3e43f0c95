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
