"""The engine's numbers of MediaPipe's landmarks are those of the landmarks that renders have, in their order."""

from knot_core.media.landmark_names import LANDMARKS, MIRRORED
from knot_core.media.reference_landmarks import NUMBERS

# of MediaPipe's mesh: the same place on the other side of the face
_OTHER_SIDE = {468: 473, 33: 263, 133: 362, 159: 386, 145: 374, 39: 269, 81: 311, 181: 405, 178: 402, 61: 291}


def test_there_is_one_for_each_and_both_sides_agree() -> None:
    assert len(NUMBERS) == len(LANDMARKS)
    other = _OTHER_SIDE | {left: right for right, left in _OTHER_SIDE.items()}
    for place, number in enumerate(NUMBERS):
        there = NUMBERS[MIRRORED[place]]
        assert there == (None if number is None else other.get(number, number)), LANDMARKS[place]


def test_eyes_and_lips_have_theirs_where_mediapipe_has_them() -> None:
    by_name = dict(zip(LANDMARKS, NUMBERS, strict=True))
    assert (by_name["right_lid_upper"], by_name["right_lid_lower"]) == (159, 145)
    assert (by_name["upper_lip_inner"], by_name["lower_lip_inner"]) == (13, 14)
    assert (by_name["right_mouth_corner"], by_name["left_mouth_corner"]) == (61, 291)
    assert (by_name["right_eye_outer"], by_name["left_eye_inner"]) == (33, 362)
    assert [by_name[name] for name in ("nose_tip", "chin", "left_cheek")] == [None] * 3
