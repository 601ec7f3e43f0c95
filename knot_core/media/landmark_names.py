"""The landmarks of rendered heads in the order in which pictures and clips hold them. Sides are the person's own."""

_EYE = ("pupil", "eye_outer", "eye_inner", "lid_upper", "lid_lower")
_LIPS = ("upper_lip", "upper_lip_inner", "lower_lip", "lower_lip_inner")
_SIDE = ("nostril", "brow_inner", "brow_middle", "brow_outer", "jaw_high", "jaw_middle", "jaw_low", "cheek")
LANDMARKS = (
    *(f"right_{name}" for name in _EYE), *(f"left_{name}" for name in _EYE),
    *_LIPS, *(f"right_{name}" for name in _LIPS), *(f"left_{name}" for name in _LIPS),
    "right_mouth_corner", "left_mouth_corner", "nose_tip", "nose_bridge", "nose_base", "forehead", "chin",
    *(f"right_{name}" for name in _SIDE), *(f"left_{name}" for name in _SIDE),
)  # fmt: skip


def _other_side(name: str) -> str:
    side, _, rest = name.partition("_")
    return {"right": "left_", "left": "right_"}[side] + rest if side in ("right", "left") else name


MIRRORED = [LANDMARKS.index(_other_side(name)) for name in LANDMARKS]  # each one's place in a mirror
PARTS = (
    *([LANDMARKS.index(f"{side}_{name}") for name in _EYE] for side in ("right", "left")),
    [number for number, name in enumerate(LANDMARKS) if "lip" in name or "mouth" in name],
)  # eyes and mouth: the landmarks of each

_ALIKE = (
    ("lid_upper",), ("lid_lower",), ("eye", "pupil"), ("upper_lip",), ("lower_lip",), ("corner",), ("brow",),
    ("jaw", "chin"),
)  # fmt: skip
GROUPS = tuple(
    [number for number, name in enumerate(LANDMARKS) if any(word in name for word in words)] for words in _ALIKE
)  # what moves alike, and is drawn together
