"""Gestures: curves from rest to rest, no longer than two seconds; and that the built-in model shows them."""

import numpy as np
import pytest
import torch

from knot_core import open_image, open_stream
from knot_core.driving.expression_controls import CONTROLS, RANGES
from knot_core.model_loading import ASSETS
from knot_live.gestures import GESTURES, MAX_SECONDS, ChosenGesture, look_at, overlay
from knot_live.live_driving import LiveDriving

from .playing import Plan, Playing

FRAMES = np.arange(0, 75)


def added(*begun) -> dict[str, np.ndarray]:
    """Over three seconds, by gestures that begin at those frames."""
    return overlay(begun, FRAMES, 25)


@pytest.mark.parametrize("name", GESTURES)
def test_a_gesture_goes_from_rest_to_rest_within_two_seconds_and_within_each_range(name):
    assert GESTURES[name].seconds <= MAX_SECONDS
    for control, values in added((1, ChosenGesture(name))).items():
        low, high = RANGES[control]
        assert values[0] == 0
        assert (values[1 + round(GESTURES[name].seconds * 25) :] == 0).all()
        assert low <= values.min() <= values.max() <= high
        # lids and eyes are quick; nothing else goes more than a third of the way in a frame
        assert np.abs(np.diff(values)).max() < (0.7 if control in {"blink", "gaze"} else 0.35)


def test_what_each_gesture_does_is_what_it_is_called():
    nod, shake = added((0, ChosenGesture("nod")))["pitch"], added((0, ChosenGesture("shake")))["yaw"]
    assert nod.argmax() < 8, "down first"
    assert [int(sign) for sign in np.sign(np.diff(np.sign(shake[shake != 0]))) if sign] == [-1, 1, -1]
    assert added((0, ChosenGesture("smile")))["mouth_wide"].max() > 0.9
    assert added((0, ChosenGesture("wink")))["blink"].max() == 1
    assert added((0, ChosenGesture("brows")))["brow"].max() == 1
    for name, control, sign in [
        ("look_left", "yaw", -1), ("look_left", "gaze", -1), ("look_right", "yaw", 1), ("look_right", "gaze", 1),
        ("look_up", "pitch", -1), ("look_up", "brow", 1), ("look_down", "pitch", 1), ("look_down", "blink", 1),
    ]:  # fmt: skip
        values = sign * added((0, ChosenGesture(name)))[control]
        assert values.max() > 0.3
        assert values.min() == 0


def test_a_look_goes_where_it_points_and_the_eyes_are_there_before_the_head():
    half = look_at(0.5, 0.25).at(FRAMES / 25)
    assert half["gaze"].max() == pytest.approx(0.45)
    assert half["pitch"].min() == pytest.approx(-0.15)
    assert np.argmax(half["gaze"]) < np.argmax(half["yaw"])
    assert all((values == 0).all() for values in look_at(0, 0).at(FRAMES / 25).values())


def test_strength_scales_a_gesture_and_two_lie_over_one_another():
    once, twice = added((0, ChosenGesture("nod"))), added((0, ChosenGesture("nod", 2.0)))
    assert twice["pitch"] == pytest.approx(2 * once["pitch"])
    both = added((0, ChosenGesture("nod")), (5, ChosenGesture("look_up")))
    assert both["pitch"] == pytest.approx(once["pitch"] + added((5, ChosenGesture("look_up")))["pitch"])


def test_what_leaves_a_range_is_clipped_and_comes_back_without_a_jump():
    playing = Playing()
    playing.driving.set_controls({"pitch": 0.8})
    playing.chunk()
    playing.driving.gesture("nod", 2.0)
    pitch = playing.frames(4)[:, 64 + CONTROLS.index("pitch")]
    assert pitch.max() == 1
    assert pitch[-1] == np.float32(0.8)


def test_the_same_gesture_twice_before_a_chunk_is_the_newest_one():
    twice, once = Playing(), Playing()
    twice.driving.gesture("shake", 1.5)
    twice.driving.gesture("shake", 0.5)
    once.driving.gesture("shake", 0.5)
    assert torch.equal(twice.chunk(), once.chunk())


@pytest.fixture(scope="module")
def built_in(model):
    return model, model.encode_anchor(open_image(ASSETS / "portraits" / "ada.png"))


def pictures(built_in, gesture: str | None) -> np.ndarray:
    """A chunk in which a portrait that keeps still makes that gesture: float [12, H, W, 3]."""
    model, anchor = built_in
    driving = LiveDriving(model)
    driving.set_liveliness(0)
    stream = open_stream(model, anchor, model.settings, driving, seed=0)
    for number in range(2):
        if number == 1 and gesture is not None:
            driving.gesture(gesture)
        count = model.settings.num_chunk_frames
        driving.begin_chunk(Plan(number * count, count, model.settings.num_knot_frames))
        chunk = next(stream)
        driving.end_chunk()
    return chunk.pixel_frames.float().numpy()


# where in the picture of 128 x 128 a gesture is to be seen: rows and columns
PLACES = {
    "nod": (slice(30, 100), slice(30, 98)),
    "look_left": (slice(40, 70), slice(30, 98)),
    "wink": (slice(40, 66), slice(36, 92)),
    "smile": (slice(74, 96), slice(44, 84)),
}


def test_the_built_in_model_shows_them_where_they_belong(built_in):
    still = pictures(built_in, None)
    for name, place in PLACES.items():
        difference = np.abs(pictures(built_in, name) - still).mean(axis=-1).max(axis=0)
        assert difference[place].mean() > 4, name
    corner = np.abs(pictures(built_in, "smile") - still).mean(axis=-1).max(axis=0)[:20, :20]
    assert corner.mean() < 3, "what does not move stays"
