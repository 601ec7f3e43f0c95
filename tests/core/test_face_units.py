"""The face units of ARKit, and today's controls in them."""

import numpy as np
import pytest

from knot_core.driving.expression_controls import CONTROLS, RANGES
from knot_core.driving.face_units import UNITS, controls_from_units, pose_from_controls, units_from_controls


def controls(**values):
    return np.array([values.get(name, 0.0) for name in CONTROLS], np.float32)


def unit(units, name):
    return float(units[UNITS.index(name)])


def test_there_are_52_units_in_apples_order():
    assert len(UNITS) == len(set(UNITS)) == 52
    assert (UNITS[0], UNITS[7], UNITS[17], UNITS[-1]) == ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "tongueOut")


def test_controls_come_back_from_their_units_and_pose():
    low, high = np.array([RANGES[name] for name in CONTROLS]).T
    given = np.random.default_rng(0).uniform(low, high, (200, len(CONTROLS))).astype(np.float32)
    units = units_from_controls(given)
    assert units.shape == (200, 52)
    assert ((units >= 0) & (units <= 1)).all()
    np.testing.assert_allclose(controls_from_units(units, pose_from_controls(given)), given, atol=1e-5)


def test_rest_is_neutral():
    assert not units_from_controls(controls()).any()


@pytest.mark.parametrize(
    ("control", "value", "moved"),
    [
        ("gaze", 1, ("eyeLookOutLeft", "eyeLookInRight")),
        ("gaze", -1, ("eyeLookInLeft", "eyeLookOutRight")),
        ("blink", 1, ("eyeBlinkLeft", "eyeBlinkRight")),
        ("mouth_wide", -1, ("mouthPucker", "mouthFunnel")),
        ("brow", -1, ("browDownLeft", "browDownRight")),
    ],
)
def test_a_control_moves_its_units_and_no_others(control, value, moved):
    units = units_from_controls(controls(**{control: value}))
    assert {name for name, amount in zip(UNITS, units, strict=True) if amount} == set(moved)


def test_lips_that_meet_over_an_open_jaw_are_a_closed_mouth():
    units = np.zeros(52, np.float32)
    units[[UNITS.index("jawOpen"), UNITS.index("mouthClose")]] = 0.3
    assert controls_from_units(units, np.zeros(3))[CONTROLS.index("mouth_open")] == 0


def test_yaw_is_to_the_viewers_right_by_thirty_degrees():
    np.testing.assert_allclose(np.degrees(pose_from_controls(controls(yaw=1))), [30, 0, 0], atol=1e-4)
    assert unit(units_from_controls(controls(yaw=1)), "jawOpen") == 0
