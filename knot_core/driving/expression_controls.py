"""Expression controls as a user gives them: an array, a dict of lists or keyframes, or a JSON file of that dict.

Shapes: T pixel frames at 25 a second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DrivingError, listed, short
from ..files import read_text
from .audio import FPS

POSE_CONTROLS = ("yaw", "pitch", "roll", "blink", "gaze", "brow")
MOUTH_CONTROLS = ("mouth_open", "mouth_wide")
CONTROLS = ("yaw", "pitch", "roll", "blink", "gaze", "mouth_open", "mouth_wide", "brow")  # order in the signal
RANGES: Mapping[str, tuple[float, float]] = dict.fromkeys(CONTROLS, (-1.0, 1.0)) | {
    "blink": (0.0, 1.0),  # 1 = closed
    "mouth_open": (0.0, 1.0),
}
MAX_SECONDS = 360_000  # 100 hours: beyond it a mistake is likelier than a wish, and memory ends
_ROUNDING = 1e-3  # this far outside its range a value is taken for rounding, and clipped


def read_controls(controls: Any) -> dict[str, np.ndarray]:
    """Name -> float32 [T], of the controls that are given; all of one length, finite and in range."""
    if isinstance(controls, str | Path):
        controls = _read_json(Path(controls))
    tracks = _from_dict(controls) if isinstance(controls, Mapping) else _from_array(controls)
    for name, values in tracks.items():
        _check(name, values)
    return {name: np.clip(values, *RANGES[name]).astype(np.float32) for name, values in tracks.items()}


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(read_text(path, "the controls file", DrivingError))
    except DrivingError:
        raise
    except (ValueError, RecursionError) as problem:
        raise DrivingError(
            f'the controls file {path} is not JSON ({problem}); write for example {{"fps": 25, "yaw": [0, 0.1]}}'
        ) from problem
    if not isinstance(found, dict):
        raise DrivingError(
            f"the controls file {path} holds a {type(found).__name__}; it must hold an object such as "
            '{"fps": 25, "yaw": [0, 0.1]}'
        )
    return found


def _from_array(controls: Any) -> dict[str, np.ndarray]:
    values = _numbers(controls, "the controls")
    if values.ndim != 2 or values.shape[1] != len(CONTROLS) or len(values) == 0:
        raise DrivingError(
            f"controls have shape {list(values.shape)}; they must be [pixel frames, {len(CONTROLS)}] "
            f"in the order {', '.join(CONTROLS)}"
        )
    return dict(zip(CONTROLS, values.T, strict=True))


def _from_dict(controls: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if "keyframes" in controls:
        _check_names(set(controls) - {"keyframes", "seconds"})
        if set(controls) - {"keyframes", "seconds"}:
            raise DrivingError("controls have keyframes and lists at once; use one form or the other")
        return _from_keyframes(controls["keyframes"], controls.get("seconds"))
    names = set(controls) - {"fps"}
    _check_names(names)
    fps = _positive(controls.get("fps", FPS), "fps")
    return _to_pixel_frames({name: _numbers(controls[name], name) for name in CONTROLS if name in names}, fps)


def _to_pixel_frames(lists: dict[str, np.ndarray], fps: float) -> dict[str, np.ndarray]:
    lengths = {name: values.size for name, values in lists.items() if values.ndim == 1 and values.size}
    if set(lengths) != set(lists) or len(set(lengths.values())) != 1:
        shapes = {name: list(values.shape) for name, values in lists.items()}
        raise DrivingError(f"controls have shapes {shapes}; give lists of numbers, all equally long")
    length = next(iter(lengths.values()))
    _check_seconds(length / fps)
    at = np.arange(max(1, round(length * FPS / fps))) * (fps / FPS)
    return {name: np.interp(at, np.arange(length), values) for name, values in lists.items()}


def _from_keyframes(keyframes: Any, seconds: Any) -> dict[str, np.ndarray]:
    """Straight lines between the keyframes that name a control; its first and last value hold outside them."""
    if (
        not isinstance(keyframes, Sequence)
        or not keyframes
        or not all(isinstance(key, Mapping) and "time" in key for key in keyframes)
    ):
        raise DrivingError('keyframes must be a list of objects with a time in seconds: {"time": 0, "yaw": 0}')
    times = _numbers([key["time"] for key in keyframes], "keyframe times")
    if times.ndim != 1 or not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
        raise DrivingError(f"keyframe times are {short(times.tolist())}; they must start at 0 or later and ascend")
    names = set().union(*keyframes) - {"time"}
    _check_names(names)
    if not names:
        raise DrivingError(f"the keyframes set no control; set at least one of {', '.join(CONTROLS)}")
    end = times[-1] if seconds is None else _positive(seconds, "seconds") - 1 / FPS
    _check_seconds(end)
    at = np.arange(max(1, math.floor(end * FPS + 1e-6) + 1)) / FPS
    return {name: _one_control(keyframes, times, name, at) for name in CONTROLS if name in names}


def _one_control(keyframes: Sequence[Mapping[str, Any]], times: np.ndarray, name: str, at: np.ndarray) -> np.ndarray:
    set_here = [name in key for key in keyframes]
    values = _numbers([key[name] for key in keyframes if name in key], name)
    if values.ndim != 1:
        raise DrivingError(f"{name} has a list in a keyframe; give it one number there")
    _check(name, values)
    return np.interp(at, times[set_here], values)


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as problem:
        raise DrivingError(f"{what} must be numbers ({short(problem, str)}); give a list of them") from problem


def _positive(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:  # NaN is neither
        raise DrivingError(f"{what} is {short(value)}; it must be a number above 0")
    return float(value)


def _check_seconds(seconds: float) -> None:
    if seconds > MAX_SECONDS:
        raise DrivingError(f"the controls last {seconds:g} s; they may last {MAX_SECONDS} s: make them in parts")


def _check_names(names: set[str]) -> None:
    unknown = sorted(str(name) for name in names - set(CONTROLS))
    if unknown:
        raise DrivingError(f"controls name {listed(unknown)}; these exist: {', '.join(CONTROLS)}")


def _check(name: str, values: np.ndarray) -> None:
    low, high = RANGES[name]
    bad = ~((values >= low - _ROUNDING) & (values <= high + _ROUNDING))  # NaN compares false, so it is bad too
    if bad.any():
        frame = int(bad.argmax())
        raise DrivingError(f"{name} is {values[frame]:g} at entry {frame}; it must lie in {low:g} .. {high:g}")
