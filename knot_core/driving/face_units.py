"""The 52 face units of ARKit, which Live Link Face, MediaPipe and other trackers share, and the eight controls in them.

Names, order and meaning: Apple's documentation of ``ARFaceAnchor.BlendShapeLocation``, whose topics are the left eye,
the right eye, mouth and jaw, brows with cheeks and nose, the tongue. Left and right are the person's own; a unit runs
from 0 (neutral) to 1 (as far as it goes).

Shapes: ``...`` is any leading axes, pixel frames as a rule.
"""

from collections.abc import Mapping

import numpy as np

from .expression_controls import CONTROLS, RANGES

UNITS = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight",
    "eyeWideRight",
    "jawForward", "jawLeft", "jawRight", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft",
    "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft",
    "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)  # fmt: skip
POSE = ("yaw", "pitch", "roll")
# Radians at control 1: to the viewer's right, down, clockwise; what docs/driving.md says of knot-tiny.
POSE_RADIANS = np.deg2rad([30.0, 18.0, 12.0])

# What a control of 1, and a control of -1, sets. Gaze goes to the viewer's right, which is the person's left.
_OF_POSITIVE: Mapping[str, Mapping[str, float]] = {
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "gaze": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "mouth_open": {"jawOpen": 0.7},  # a jaw is open at 1 as in a yawn; speech does not go that far
    "mouth_wide": {
        "mouthStretchLeft": 0.5,
        "mouthStretchRight": 0.5,
        "mouthSmileLeft": 0.4,
        "mouthSmileRight": 0.4,
    },
    "brow": {"browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8},
}
_OF_NEGATIVE: Mapping[str, Mapping[str, float]] = {
    "gaze": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
    "mouth_wide": {"mouthPucker": 0.6, "mouthFunnel": 0.4},
    "brow": {"browDownLeft": 1.0, "browDownRight": 1.0},
}


def _control_of(unit: str) -> str:
    if unit.startswith("eyeLook"):
        return "gaze"
    if unit.startswith("eye"):
        return "blink"
    if unit.startswith("brow"):
        return "brow"
    return "mouth_open" if unit.startswith(("jaw", "tongue")) or unit == "mouthClose" else "mouth_wide"


# The control whose part of the face a unit moves: where that control is given, the unit is.
CONTROL_OF_UNIT = tuple(_control_of(unit) for unit in UNITS)


def units_from_controls(controls: np.ndarray) -> np.ndarray:
    """Controls [..., 8] in the order of ``CONTROLS`` -> units float32 [..., 52]: max(c, 0) U+ + max(-c, 0) U-."""
    controls = np.asarray(controls, np.float32)
    return np.maximum(controls, 0) @ _matrix(_OF_POSITIVE) + np.maximum(-controls, 0) @ _matrix(_OF_NEGATIVE)


def pose_from_controls(controls: np.ndarray) -> np.ndarray:
    """Controls [..., 8] -> float32 [..., 3]: yaw, pitch and roll in radians."""
    places = [CONTROLS.index(name) for name in POSE]
    return (np.asarray(controls)[..., places] * POSE_RADIANS).astype(np.float32)


def controls_from_units(units: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Units [..., 52] and pose [..., 3] in radians -> the nearest controls float32 [..., 8].

    Each side of a control is the projection of the units onto what that side sets, so the controls that
    ``units_from_controls`` was given come back; other units are lost. The jaw counts as open only as far as
    mouthClose does not bring the lips together again. Values outside a control's range are clipped.
    """
    units = np.array(units, np.float32)
    jaw, close = UNITS.index("jawOpen"), UNITS.index("mouthClose")
    units[..., jaw] = np.maximum(units[..., jaw] - units[..., close], 0)
    sides = [units @ _projection(_matrix(table)) for table in (_OF_POSITIVE, _OF_NEGATIVE)]
    controls = sides[0] - sides[1]
    controls[..., [CONTROLS.index(name) for name in POSE]] = np.asarray(pose) / POSE_RADIANS
    low, high = np.array([RANGES[name] for name in CONTROLS], np.float32).T
    return np.clip(controls, low, high)


def _matrix(table: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """[8, 52]: what each control sets."""
    matrix = np.zeros((len(CONTROLS), len(UNITS)), np.float32)
    for control, units in table.items():
        for unit, amount in units.items():
            matrix[CONTROLS.index(control), UNITS.index(unit)] = amount
    return matrix


def _projection(matrix: np.ndarray) -> np.ndarray:
    """[8, 52] -> [52, 8]: u . m / |m|^2 for each row m that is not zero."""
    length = (matrix**2).sum(axis=1)
    return (matrix / np.where(length > 0, length, 1)[:, None]).T
