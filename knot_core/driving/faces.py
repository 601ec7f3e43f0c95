"""Controls from a video of a face: measures of its landmarks, converted to controls of head, eyes and mouth.

Where the finder measures face units, these go along, for models that are moved by them.

Shapes: N = 478 landmarks of MediaPipe's face mesh, D pictures with a face, T pixel frames, U = 52 face units.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DrivingError
from .audio import FPS
from .expression_controls import MOUTH_CONTROLS, RANGES
from .face_units import CONTROL_OF_UNIT
from .landmarks import Finder, open_finder
from .smoothing import smooth_poses
from .timeline import Driving
from .tracks import Samples

logger = logging.getLogger(__name__)

# Numbers of MediaPipe's landmarks. Left and right are the picture's.
_FOREHEAD, _CHIN = 10, 152
_LEFT_EYE = {"outer": 33, "inner": 133, "top": 159, "bottom": 145, "iris": 468, "brow": 105}
_RIGHT_EYE = {"outer": 263, "inner": 362, "top": 386, "bottom": 374, "iris": 473, "brow": 334}
_MOUTH_LEFT, _MOUTH_RIGHT, _LIP_ABOVE, _LIP_BELOW = 61, 291, 13, 14

# What 1 means of the measures below; on the project's rendered faces each control then comes back as it was drawn. Of
# their pitch, drawn flat, MediaPipe sees less than there is, so its 1 is a compromise with the true 18 degrees.
_YAW, _PITCH, _ROLL = math.radians(30), math.radians(14), math.radians(12)
_OPEN, _WIDE, _GAZE, _BROW = 0.12, 0.22, 0.16, 0.035
_CLOSED_EYE = 0.35  # of its usual opening, an eye counts as shut
_FEW = 0.5  # share of pictures with a face below which something is said


def pose_from_pictures(
    pictures: Iterable[tuple[float, np.ndarray]],
    *,
    mouth: bool = False,
    smoothing: float = 0.12,
    model_file: Path | None = None,
    finder: AbstractContextManager[Finder] | None = None,
) -> Driving:
    """Head and eyes, and if `mouth` the mouth, of (seconds, uint8 [H, W, 3]) pictures; as long as they are.

    Blinks, brows, mouth width and pitch are measured against the person's own usual face in this clip. Where no face
    is found, the gap is interpolated.
    """
    times, found, units, seen = [], [], [], []
    with finder or open_finder(model_file) as find:
        for seconds, picture in pictures:
            face = find(picture)
            seen.append(seconds)
            if face is not None:
                times.append(seconds)
                found.append(measure(face.landmarks))
                units.append(face.units)
    _check_found(len(times), len(seen))
    measures = {name: np.array([one[name] for one in found]) for name in found[0]}
    tracks = to_controls(measures)
    at = np.arange(math.floor(seen[-1] * FPS + 1e-6) + 1) / FPS
    given = {name: np.interp(at, times, values) for name, values in tracks.items()}
    if not mouth:
        given = {name: values for name, values in given.items() if name not in MOUTH_CONTROLS}
    driving = Driving.from_controls(given)
    if all(one is not None for one in units):
        driving = replace(driving, units=_units_at(at, times, np.stack(units), mouth=mouth))
    return smooth_poses(driving, smoothing)


def _units_at(at: np.ndarray, times: list[float], units_DU: np.ndarray, *, mouth: bool) -> Samples:
    """[T, U] at those seconds; without the mouth, its units rest."""
    kept = [mouth or control not in MOUTH_CONTROLS for control in CONTROL_OF_UNIT]
    columns = [np.interp(at, times, column) for column in units_DU.T]
    return Samples(np.stack(columns, axis=1) * kept)


def measure(landmarks: np.ndarray) -> Mapping[str, float]:
    """Angles in radians, and lengths as parts of the face's: [N, 3] in pixels -> numbers."""
    across = landmarks[_RIGHT_EYE["outer"]] - landmarks[_LEFT_EYE["outer"]]
    down = landmarks[_CHIN] - landmarks[_FOREHEAD]
    height = float(np.linalg.norm(down))
    eyes = [_eye(landmarks, side, down / height) for side in (_LEFT_EYE, _RIGHT_EYE)]
    lips = np.linalg.norm(landmarks[_LIP_BELOW] - landmarks[_LIP_ABOVE])
    width = np.linalg.norm(landmarks[_MOUTH_RIGHT] - landmarks[_MOUTH_LEFT])
    return {
        "yaw": math.atan2(across[2], math.hypot(across[0], across[1])),
        "pitch": math.atan2(down[2], math.hypot(down[0], down[1])),
        "roll": math.atan2(across[1], across[0]),
        "opening": float(np.mean([eye["opening"] for eye in eyes])),
        "gaze": float(np.mean([eye["gaze"] for eye in eyes])),
        "brow": float(np.mean([eye["brow"] for eye in eyes])) / height,
        "mouth_open": float(lips) / height,
        "mouth_wide": float(width / np.linalg.norm(across)),
    }


def _eye(landmarks: np.ndarray, side: Mapping[str, int], down: np.ndarray) -> Mapping[str, float]:
    """Opening and place of the iris as parts of the eye's width, the brow's height above its corners in pixels."""
    point = {name: landmarks[number] for name, number in side.items()}
    left, right = sorted((point["outer"], point["inner"]), key=lambda corner: corner[0])
    across = (right - left)[:2]
    width = float(np.linalg.norm(right - left))
    place = float((point["iris"] - left)[:2] @ across / max(across @ across, 1e-9))
    return {
        "opening": float(np.linalg.norm(point["bottom"] - point["top"])) / max(width, 1e-9),
        "gaze": place - 0.5,  # to the viewer's right
        "brow": float(((left + right) / 2 - point["brow"]) @ down),
    }


def usual_face(measures: Mapping[str, np.ndarray]) -> Mapping[str, float]:
    """The neutral face that controls are measured against: the median of each measure [D], and the opening of wide
    eyes.
    """
    usual = {name: float(np.median(values)) for name, values in measures.items()}
    return usual | {"wide_open": float(np.percentile(measures["opening"], 75))}


def to_controls(measures: Mapping[str, np.ndarray], usual: Mapping[str, float] | None = None) -> dict[str, np.ndarray]:
    """Each control [D], within its range; `usual` is that of these measures, where it is not given."""
    usual = usual_face(measures) if usual is None else usual
    shut = _CLOSED_EYE * usual["wide_open"]
    values = {
        "yaw": measures["yaw"] / _YAW,
        "pitch": (measures["pitch"] - usual["pitch"]) / _PITCH,
        "roll": measures["roll"] / _ROLL,
        "blink": (usual["wide_open"] - measures["opening"]) / max(usual["wide_open"] - shut, 1e-9),
        "gaze": (measures["gaze"] - usual["gaze"]) / _GAZE,
        "brow": (measures["brow"] - usual["brow"]) / _BROW,
        "mouth_open": measures["mouth_open"] / _OPEN,
        "mouth_wide": (measures["mouth_wide"] / usual["mouth_wide"] - 1) / _WIDE,
    }
    return {name: np.clip(track, *RANGES[name]) for name, track in values.items()}


def _check_found(num_found: int, num_pictures: int) -> None:
    if num_found == 0:
        raise DrivingError(
            f"no face is found in the {num_pictures} pictures of the driving video; give one in which a face is seen "
            "from the front and large enough"
        )
    if num_found < _FEW * num_pictures:
        logger.warning("a face is found in only %d of %d pictures; the gaps are interpolated", num_found, num_pictures)
