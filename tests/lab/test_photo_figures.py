"""The formulas of animated photos, on a head of points that is turned, opened and shut by known amounts."""

import numpy as np
import pytest

from knot_lab.evaluation.photo_figures import (
    GOALS,
    background_change,
    blink,
    correlation,
    cosines,
    identity_ratio,
    mouth_opening,
    pitch,
    unreached,
    yaw,
)

FACE = {  # a frontal face, in pixels: x right, y down, z away
    10: (0, -70, 0), 168: (0, -10, -5), 2: (0, 30, 0), 13: (0, 50, 0), 14: (0, 50, 0),
    0: (0, 42, 0), 17: (0, 60, 0),
    33: (-45, 0, 10), 133: (-18, 0, 5), 159: (-31, -5, 0), 145: (-31, 5, 0),
    263: (45, 0, 10), 362: (18, 0, 5), 386: (31, -5, 0), 374: (31, 5, 0),
}  # fmt: skip


def face(opening: float = 0.0, lids: float = 1.0, turn: np.ndarray | None = None, size: float = 1.0) -> np.ndarray:
    """[478, 3] with the lower lip `opening` pixels down and the lids at that share of their distance."""
    points = np.zeros((478, 3))
    for number, place in FACE.items():
        points[number] = place
    points[[14, 17], 1] += opening
    for number in (159, 145, 386, 374):
        points[number, 1] *= lids
    return (points * size) @ (np.eye(3) if turn is None else turn).T + (200, 150, 0)


def about_y(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


def about_x(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


@pytest.mark.parametrize("angle", [-0.25, 0.0, 0.1, 0.4])
def test_yaw_and_pitch_are_the_angles_that_the_head_was_turned_by(angle):
    assert yaw(face(turn=about_y(angle))[None])[0] == pytest.approx(angle)
    assert pitch(face(turn=about_x(angle))[None])[0] == pytest.approx(angle)


def test_yaw_does_not_see_pitch_nor_pitch_yaw():
    assert pitch(face(turn=about_y(0.3))[None])[0] == pytest.approx(0, abs=1e-6)
    assert yaw(face(turn=about_x(0.3))[None])[0] == pytest.approx(
        yaw(face()[None])[0], abs=0.02
    )  # its corners lie a little behind the axis


@pytest.mark.parametrize("turn", [None, about_y(0.25), about_x(-0.2)])
@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_the_mouths_opening_is_in_lengths_of_the_nose_whatever_pose_and_size(turn, size):
    nose = np.hypot(40, 5)
    opened = mouth_opening(np.stack([face(o, turn=turn, size=size) for o in (0.0, 10.0, 20.0)]))
    lips = 18  # between their outer edges while the inner ones meet
    assert opened == pytest.approx([lips / nose, (10 + lips + 10) / nose, (20 + lips + 20) / nose])


def test_a_blink_is_one_where_the_lids_meet_and_zero_where_they_are_as_usual():
    shut = blink(np.stack([face(lids=lids) for lids in (1, 1, 1, 1, 1, 1, 1, 0.5, 0, 1)]))
    assert shut == pytest.approx([0, 0, 0, 0, 0, 0, 0, 0.5, 1, 0])


def test_correlations_take_the_frames_that_count():
    wanted = np.array([0.0, 1, 2, 3, 4, 5])
    measured = 2 * wanted + 1
    assert correlation(measured, wanted) == pytest.approx(1)
    assert correlation(-measured, wanted) == pytest.approx(-1)
    measured[5] = -100
    assert correlation(measured, wanted) < 0
    assert correlation(measured, wanted, within=wanted < 5) == pytest.approx(1)
    measured[5] = np.nan  # a frame in which no face was found
    assert correlation(measured, wanted) == pytest.approx(1)
    assert correlation(np.ones(6), wanted) == 0


def test_identity_is_measured_against_what_a_turn_costs():
    photo = np.array([1.0, 0, 0])
    turned = np.array([0.8, 0.6, 0])
    frames = np.array([[0.8, 0.6, 0], [0.6, 0.8, 0]])
    assert cosines(frames, 5 * photo) == pytest.approx([0.8, 0.6])
    assert identity_ratio(frames, photo, turned) == pytest.approx(0.7 / 0.8)
    assert identity_ratio(turned[None], photo, turned) == pytest.approx(1)


def test_the_backgrounds_change_is_counted_away_from_the_head():
    frames = np.full((5, 20, 20, 3), 100, np.uint8)
    frames[2, 5:15, 5:15] = 250  # the head
    away = np.ones((20, 20), bool)
    assert background_change(frames, away) == 150
    away[5:15, 5:15] = False
    assert background_change(frames, away) == 0
    frames[1::2, :5] += 3
    assert background_change(frames, away) == 3


def test_what_is_missed_or_was_not_measured_is_said():
    reached = {goal.figure: goal.limit for goal in GOALS}
    assert unreached(reached) == []
    said = unreached(reached | {"mouth": 0.5, "background": 3.0, "yaw": float("nan")})
    assert said == ["mouth is 0.500; wanted at least 0.75", "yaw is nan; wanted at least 0.85",
                    "background is 3.000; wanted at most 2"]  # fmt: skip
    del reached["blink"]
    assert unreached(reached) == ["blink was not measured; wanted at least 0.8"]
