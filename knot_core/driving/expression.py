"""The expression timeline: key frames for each control, with easing, as an artist writes them.

    {"seconds": 8, "loop": true,
     "yaw":   [[0, 0], [1.5, 0.4, "out"], [4, -0.3, "hold"], [6, 0]],
     "blink": [[2, 0, "linear"], [2.08, 1, "linear"], [2.2, 0]]}

A key is [time in seconds, value] or [time, value, ease]; its ease says how the value goes on to the next key.

Shapes: P pixel frames, V controls of a group, K keys.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DrivingError, listed, short
from ..files import read_text, without_mark
from .audio import FPS
from .expression_controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS, RANGES
from .timeline import Driving
from .tracks import FrameNumbers, Values

MAX_SECONDS = 1e6  # of a key: 11 days, beyond which a mistake is likelier than a wish
_OPTIONS = ("seconds", "loop")
_EXAMPLE = '{"yaw": [[0, 0], [2, 0.4, "in-out"], [4, 0]]}'

# u runs from 0 to 1 between two keys; so does what comes out, but for hold, and never leaves 0..1.
EASES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "in-out": lambda u: u * u * (3 - 2 * u),
    "linear": lambda u: u,
    "in": lambda u: u * u,
    "out": lambda u: u * (2 - u),
    "hold": np.zeros_like,
}
DEFAULT_EASE = "in-out"


@dataclass(frozen=True)
class Curve:
    """One control's keys, in order; the first and the last value hold outside them."""

    times: tuple[float, ...]  # seconds
    values: tuple[float, ...]
    eases: tuple[str, ...]

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """v0 + (v1 - v0) ease((t - t0) / (t1 - t0)) between the keys 0 and 1 around t: [P] -> [P]."""
        times, values = np.array(self.times), np.array(self.values)
        key = np.clip(np.searchsorted(times, seconds, side="right") - 1, 0, len(times) - 1)
        after = np.minimum(key + 1, len(times) - 1)
        span = np.where(after > key, times[after] - times[key], 1.0)
        u = np.clip((seconds - times[key]) / span, 0, 1)
        shaped, ease_of_key = np.zeros_like(u), np.array(self.eases)[key]
        for ease in set(self.eases):
            here = ease_of_key == ease
            shaped[here] = EASES[ease](u[here])
        return values[key] + (values[after] - values[key]) * shaped


@dataclass(frozen=True)
class Curves:
    """A track of curves: a function of the pixel frame, wherever that is. What has no curve rests at 0."""

    names: tuple[str, ...]  # of the group's controls, column by column
    curves: tuple[Curve | None, ...]
    num_pixel_frames: int | None  # None: for ever
    period: int | None = None  # pixel frames after which it starts again
    num_ready: ClassVar[None] = None

    @property
    def given(self) -> tuple[str, ...]:
        """The controls that have a curve."""
        return tuple(name for name, curve in zip(self.names, self.curves, strict=True) if curve is not None)

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, V]"""
        frames = frames if self.period is None else frames % self.period
        seconds = frames / FPS
        columns = [np.zeros(len(frames)) if curve is None else curve.at(seconds) for curve in self.curves]
        return np.stack(columns, axis=1).astype(np.float32)

    def content(self) -> bytes:
        return repr(self).encode()


def read_expression(source: str | Path | Mapping[str, Any]) -> Driving:
    """A driving from the timeline's JSON: its text, the path of a file of it, or what it says."""
    found = source if isinstance(source, Mapping) else _parse(source)
    unknown = sorted(str(name) for name in set(found) - set(CONTROLS) - set(_OPTIONS))
    if unknown:
        raise DrivingError(
            f"the expression timeline names {listed(unknown)}; these exist: {', '.join((*CONTROLS, *_OPTIONS))}"
        )
    curves = {name: _curve(name, found[name]) for name in CONTROLS if name in found}
    if not curves:
        raise DrivingError(f"the expression timeline moves nothing; give a control its keys, such as {_EXAMPLE}")
    length, period = _length(found, max(curve.times[-1] for curve in curves.values()))
    groups = {"pose": POSE_CONTROLS, "mouth": MOUTH_CONTROLS}
    tracks = {
        group: Curves(names, tuple(curves.get(name) for name in names), length, period)
        for group, names in groups.items()
        if any(name in curves for name in names)
    }
    return Driving(**tracks)


def _parse(source: str | Path) -> Mapping[str, Any]:
    try:
        is_file = isinstance(source, Path)
        text = read_text(source, "the expression timeline", DrivingError) if is_file else without_mark(source)
        found = json.loads(text, object_pairs_hook=_no_name_twice)
    except DrivingError:
        raise
    except (ValueError, RecursionError) as problem:
        raise DrivingError(
            f"the expression timeline is not JSON ({problem}); write for example {_EXAMPLE}"
        ) from problem
    if not isinstance(found, dict):
        raise DrivingError(f"the expression timeline is a {type(found).__name__}; it must be an object: {_EXAMPLE}")
    return found


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    if twice:
        raise DrivingError(f"the expression timeline has {listed(twice)} twice; put all keys of a control together")
    return dict(pairs)


def _curve(name: str, keys: Any) -> Curve:
    if not isinstance(keys, Sequence) or isinstance(keys, str) or not keys:
        raise DrivingError(f"{name} is {short(keys)}; it must be a list of keys [seconds, value, ease]: {_EXAMPLE}")
    read = [_key(name, number, key) for number, key in enumerate(keys)]
    times = tuple(time for time, _, _ in read)
    for before, after in pairwise(times):
        if after <= before:
            raise DrivingError(f"{name} has a key at {after:g} s after one at {before:g} s; put them in order")
    return Curve(times, tuple(value for _, value, _ in read), tuple(ease for _, _, ease in read))


def _key(name: str, number: int, key: Any) -> tuple[float, float, str]:
    if not isinstance(key, Sequence) or isinstance(key, str) or len(key) not in (2, 3):
        raise DrivingError(f"key {number} of {name} is {short(key)}; it must be [seconds, value] or [.., .., ease]")
    low, high = RANGES[name]
    time = _number(f"the time of key {number} of {name}", key[0], 0, MAX_SECONDS)
    value = _number(f"the value of key {number} of {name}", key[1], low, high)
    ease = key[2] if len(key) == 3 else DEFAULT_EASE
    if not isinstance(ease, str) or ease not in EASES:
        raise DrivingError(f"the ease of key {number} of {name} is {short(ease)}; choose one of {', '.join(EASES)}")
    return time, value, ease


def _length(found: Mapping[str, Any], last: float) -> tuple[int | None, int | None]:
    """How long the curves are, and the period after which they repeat, in pixel frames."""
    loop = found.get("loop", False)
    if not isinstance(loop, bool):
        raise DrivingError(f"loop is {short(loop)}; it must be true or false")
    if "seconds" not in found and not loop:
        return math.floor(last * FPS + 1e-6) + 1, None  # up to and with the last key
    frames = round(_number("seconds", found.get("seconds", last), 0, MAX_SECONDS) * FPS)
    if frames < 1:
        raise DrivingError(f"the expression timeline is shorter than a frame of {1 / FPS:g} s; set seconds")
    return (None, frames) if loop else (frames, None)


def _number(what: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # NaN is not
        raise DrivingError(f"{what} is {short(value)}; it must be a number from {low:g} to {high:g}")
    return float(value)
