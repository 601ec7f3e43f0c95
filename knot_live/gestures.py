"""Gestures: short curves of the controls, laid over whatever moves the portrait. None lasts longer than two seconds.

Shapes: P pixel frames.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .engine import RANGES, Curve, DrivingError

MAX_SECONDS = 2.0
STRENGTHS = (0.0, 2.0)  # 1 is as drawn here; what leaves a control's range is clipped

_Keys = Sequence[tuple[float, float]]  # (seconds, value), in order, from rest to rest


@dataclass(frozen=True)
class GestureShape:
    """A gesture's curve for each control that it moves, over its seconds."""

    curves: Mapping[str, Curve]

    @property
    def seconds(self) -> float:
        """Seconds until every control is back."""
        return max(curve.times[-1] for curve in self.curves.values())

    def at(self, seconds: np.ndarray) -> Mapping[str, np.ndarray]:
        """Control -> [P]; 0 before its beginning and after its end."""
        return {name: curve.at(seconds) for name, curve in self.curves.items()}


def _shape(**keys: _Keys) -> GestureShape:
    return GestureShape({
        name: Curve(tuple(time for time, _ in points), tuple(value for _, value in points), ("in-out",) * len(points))
        for name, points in keys.items()
    })  # fmt: skip


def _held(value: float, *, rise: float = 0.24, until: float = 1.2, back: float = 1.6) -> _Keys:
    """There, stay, and back."""
    return (0.0, 0.0), (rise, value), (until, value), (back, 0.0)


def look_at(x: float, y: float) -> GestureShape:
    """A look at a point of the viewer's picture, from -1 to 1: x to the right, y up.

    The eyes go first, the head follows. Eyes turn sideways only; up and down is the head's, with brows that rise and
    lids that fall.
    """
    return _shape(
        gaze=_held(0.9 * x, rise=0.16, until=1.4, back=1.6),
        yaw=_held(0.45 * x, rise=0.5, until=1.3, back=1.8),
        pitch=_held(-0.6 * y, rise=0.5, until=1.3, back=1.8),
        brow=_held(0.5 * max(0.0, y), rise=0.4, until=1.3, back=1.8),
        blink=_held(0.35 * max(0.0, -y), rise=0.4, until=1.3, back=1.8),
    )


GESTURES: Mapping[str, GestureShape] = {
    "nod": _shape(pitch=((0, 0), (0.28, 0.6), (0.6, -0.1), (0.92, 0.5), (1.24, -0.05), (1.5, 0))),
    "shake": _shape(yaw=((0, 0), (0.26, 0.42), (0.64, -0.42), (1.02, 0.36), (1.38, -0.15), (1.64, 0))),
    "smile": _shape(
        mouth_wide=_held(0.95, until=1.5, back=2.0),
        brow=_held(0.3, until=1.4, back=1.9),
        blink=_held(0.2, until=1.4, back=1.9),
    ),
    "wink": _shape(
        blink=((0.08, 0), (0.2, 1), (0.44, 1), (0.6, 0)),
        roll=_held(0.45, rise=0.2, until=0.5, back=0.9),
        mouth_wide=_held(0.7, rise=0.2, until=0.6, back=1.1),
    ),
    "look_left": look_at(-1, 0),
    "look_right": look_at(1, 0),
    "look_up": look_at(0, 1),
    "look_down": look_at(0, -1),
    "brows": _shape(brow=((0, 0), (0.16, 1), (0.4, 0.2), (0.6, 1), (0.8, 1), (1.1, 0))),
}


@dataclass(frozen=True)
class ChosenGesture:
    """One that somebody asked for: by name, or a look at a point."""

    name: str  # of GESTURES, or "look"
    strength: float = 1.0
    point: tuple[float, float] = (0.0, 0.0)  # of a look

    @property
    def shape(self) -> GestureShape:
        return look_at(*self.point) if self.name == "look" else GESTURES[self.name]


def checked_gesture(name: str, strength: float = 1.0) -> ChosenGesture:
    """The gesture of that name.

    Raises:
        DrivingError: there is none, or the strength is out of range.
    """
    if not isinstance(name, str) or name not in GESTURES:
        raise DrivingError(f"there is no gesture {str(name)[:40]!r}; choose one of {', '.join(GESTURES)}")
    low, high = STRENGTHS
    return ChosenGesture(name, number("the gesture's strength", strength, low, high))


def checked_look(x: float, y: float) -> ChosenGesture:
    """A look at a point of the viewer's picture.

    Raises:
        DrivingError: the point lies outside -1 .. 1.
    """
    return ChosenGesture("look", 1.0, (number("x of the look", x, -1, 1), number("y of the look", y, -1, 1)))


def number(what: str, value: object, low: float, high: float) -> float:
    """The value as a float; `DrivingError` for what is no number, not finite, or outside low .. high."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value <= high:
        raise DrivingError(f"{what} is {str(value)[:40]}; it must be a number from {low:g} to {high:g}")
    return float(value)


def overlay(begun: Sequence[tuple[int, ChosenGesture]], frames: np.ndarray, fps: int) -> Mapping[str, np.ndarray]:
    """Sum of the gestures that began at those frames: control -> [P], for the controls that they move."""
    added: dict[str, np.ndarray] = {}
    for first, gesture in begun:
        for name, values in gesture.shape.at((frames - first + 1) / fps).items():
            added[name] = added.get(name, 0.0) + gesture.strength * values
    return {name: values for name, values in added.items() if name in RANGES}


def num_frames(gesture: ChosenGesture, fps: int) -> int:
    """Pixel frames until it is over."""
    return math.ceil(gesture.shape.seconds * fps)
