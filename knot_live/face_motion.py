"""Motion of a live portrait's head, eyes and mouth: controls, a camera, gestures, and idle motion beneath.

Shapes: P pixel frames, E the eight controls in the order of `CONTROLS`.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .eased_values import EASE_SECONDS, EasedValue, eased
from .engine import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS, RANGES, Driving, DrivingError
from .gestures import ChosenGesture, checked_gesture, checked_look, num_frames, number, overlay
from .idle_blocks import IdleBlocks

POSE_LASTS = 0.5  # seconds after which a camera that sends nothing has gone
_MOST_SEEN, _SEEN_APART = 64, 0.01  # what is kept of a camera, and the seconds between two of them
_LIVELINESS = "liveliness"
_ROUNDING = 1e-3  # this far outside its range a value is taken for rounding, and clipped
_FULL_BLINKS = 0.1  # of liveliness: idle lids close wholly, or not at all
_REST = 0.0
_LOW, _HIGH = (np.array([RANGES[name][end] for name in CONTROLS])[:, None] for end in (0, 1))
_INDEX = {name: number for number, name in enumerate(CONTROLS)}


def checked_controls(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Control -> value within its range, or None.

    Raises:
        DrivingError: an unknown name, or a value that is no number, not finite, or out of range.
    """
    _check_names(values)
    return {name: None if value is None else _in_range(name, value) for name, value in values.items()}


def checked_pose(values: Mapping[str, Any]) -> dict[str, float]:
    """Control -> value, clipped to its range: a camera measures what goes beyond it.

    Raises:
        DrivingError: an unknown name, or a value that is no finite number.
    """
    _check_names(values)
    return {name: _clipped(name, number(name, value, -1e6, 1e6)) for name, value in values.items()}


def _check_names(values: Mapping[str, Any]) -> None:
    if not isinstance(values, Mapping):
        raise DrivingError(f'controls are {str(values)[:40]}; they must be an object such as {{"yaw": 0.3}}')
    unknown = [str(name)[:40] for name in values if name not in RANGES]
    if unknown:
        raise DrivingError(f"there is no control {unknown[0]!r}; these exist: {', '.join(CONTROLS)}")


def _in_range(name: str, value: Any) -> float:
    low, high = RANGES[name]
    rounded = isinstance(value, float) and low - _ROUNDING <= value <= high + _ROUNDING
    return number(name, _clipped(name, value) if rounded else value, low, high)


def _clipped(name: str, value: float) -> float:
    low, high = RANGES[name]
    return float(min(max(value, low), high))


@dataclass(frozen=True)
class FaceWishes:
    """The wishes for controls so far."""

    now: float
    controls: Mapping[str, float | None]
    seen: tuple[tuple[float, Mapping[str, float]], ...]  # by a camera, and when; none where it has gone
    liveliness: float
    gestures: tuple[ChosenGesture, ...]
    beneath: Driving | None


class FaceMotion:
    """Wishes come from any thread, under its owner's lock; the rest is the session's thread's."""

    def __init__(self, beneath: Driving | None, seed: int, fps: int) -> None:
        self._idle, self._fps = IdleBlocks(seed), fps
        self._beneath = beneath  # as it was wished for last
        self._layers: list[tuple[int, Driving | None]] = [(0, beneath)]  # what lay beneath, from which frame on
        self._wanted: dict[str, float | None] = {}
        self._seen: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=_MOST_SEEN)
        self._liveliness = 1.0
        self._asked: dict[str, ChosenGesture] = {}  # gestures that begin with the next chunk, one of each name
        self._held = {name: EasedValue() for name in (*CONTROLS, _LIVELINESS)}
        self._begun: list[tuple[int, ChosenGesture]] = []
        self._stood: dict[int, np.ndarray] = {}  # frame -> [E + 1] of what was held, without gestures

    # wishes

    def set_controls(self, values: Mapping[str, Any]) -> None:
        self._wanted |= checked_controls(values)

    def set_pose(self, values: Mapping[str, Any], now: float) -> None:
        values = checked_pose(values)
        before = self._fresh(now)
        if not before:
            self._seen.clear()
        elif now - before[-1][0] < _SEEN_APART:
            self._seen.pop()
        self._seen.append((now, {**(before[-1][1] if before else {}), **values}))

    def set_beneath(self, beneath: Driving | None) -> None:
        self._beneath = beneath

    def set_liveliness(self, value: float) -> None:
        self._liveliness = number("liveliness", value, 0, 1)

    def gesture(self, name: str, strength: float) -> None:
        self._asked[name] = checked_gesture(name, strength)

    def look(self, x: float, y: float) -> None:
        self._asked["look"] = checked_look(x, y)

    def wishes(self, now: float) -> FaceWishes:
        """The wishes so far, as a value that does not change."""
        return FaceWishes(
            now, dict(self._wanted), self._fresh(now), self._liveliness, tuple(self._asked.values()), self._beneath
        )

    def _fresh(self, now: float) -> tuple[tuple[float, Mapping[str, float]], ...]:
        """The camera's newest pose, unless it is too old."""
        return tuple(self._seen) if self._seen and now - self._seen[-1][0] <= POSE_LASTS else ()

    # chunks

    def begin(self, first: int, stop: int, wishes: FaceWishes) -> None:
        """Begin pending changes at that pixel frame; `stop`: where the chunk's own frames end.

        A stream's first frame has nothing before it, so it begins with what is wanted.
        """
        ease = round(EASE_SECONDS * self._fps) if first - 1 in self._stood else 1
        self._layers = self._layers_until(first)
        if self._layers[-1][1] is not wishes.beneath:
            self._layers.append((first, wishes.beneath))
        for name in CONTROLS:
            value, before = wishes.controls.get(name), self._before(first, _INDEX[name])
            path = _path(wishes, name, stop - first, self._fps) if value is None else ()
            if path:
                self._held[name].follow(first, ease, path, before)
            else:
                self._held[name].change(first, ease, value, before)
        self._held[_LIVELINESS].change(first, ease, wishes.liveliness, self._before(first, len(CONTROLS)))
        self._begun = [(begin, gesture) for begin, gesture in self._begun if begin < first]
        self._begun += [(first, gesture) for gesture in wishes.gestures]

    def _before(self, first: int, column: int) -> Callable[[], float]:
        """The value at the frame before; for a stream's first frame it does not matter."""
        return lambda: float(self._stood[first - 1][column]) if first - 1 in self._stood else 0.0

    def draw(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ascending pixel frames from the chunk's first on -> controls [P, E], whether the mouth's are set [P, 2]."""
        stood, mouth = self._values(frames, tuple(self._begun))
        for frame, row in zip(frames, stood, strict=True):
            self._stood[int(frame)] = row
        values = stood[:, : len(CONTROLS)].copy()
        for name, added in overlay(self._begun, frames, self._fps).items():
            low, high = RANGES[name]
            values[:, _INDEX[name]] = np.clip(values[:, _INDEX[name]] + added, low, high)
        return values, mouth

    def _values(
        self, frames: np.ndarray, begun: tuple[tuple[int, ChosenGesture], ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        beneath = self._lying_beneath(frames)
        liveliness = self._held[_LIVELINESS].at(frames, np.ones(len(frames)))
        newest = self._layers[-1][1]
        if newest is None or newest.pose is None:
            for name in POSE_CONTROLS:
                factor = np.minimum(1, liveliness / _FULL_BLINKS) if name == "blink" else liveliness
                beneath[:, _INDEX[name]] *= factor
        columns = [self._held[name].at(frames, beneath[:, _INDEX[name]]) for name in CONTROLS]
        given = [self._held[name].given(frames) | _moved(begun, name, frames, self._fps) for name in MOUTH_CONTROLS]
        return np.stack([*np.clip(columns, _LOW, _HIGH), liveliness], axis=1), np.stack(given, axis=1)

    def _lying_beneath(self, frames: np.ndarray) -> np.ndarray:
        """[P, E] of the driving beneath; where another took its place, eased from the one to the other."""
        (_, oldest), *later = self._layers
        values = self._values_of(oldest, frames)
        for first, driving in later:
            here = frames >= first
            weight = eased((frames[here] - first + 1) / (EASE_SECONDS * self._fps))[:, None]
            values[here] += (self._values_of(driving, frames[here]) - values[here]) * weight
        return values

    def _values_of(self, driving: Driving | None, frames: np.ndarray) -> np.ndarray:
        """[P, E] of a driving, or of idle motion with a closed mouth."""
        values = np.full((len(frames), len(CONTROLS)), _REST)
        if not len(frames):
            return values
        tracks = (driving.pose, driving.mouth) if driving is not None else (None, None)
        pose, mouth = tracks[0] or self._idle, tracks[1]
        values[:, [_INDEX[name] for name in POSE_CONTROLS]] = pose.at(frames)
        if mouth is not None:
            values[:, [_INDEX[name] for name in MOUTH_CONTROLS]] = mouth.at(frames)
        return values

    def _layers_until(self, first: int) -> list[tuple[int, Driving | None]]:
        """Without what came to lie beneath at that frame or later, but for what did so first."""
        return self._layers[:1] + [layer for layer in self._layers[1:] if layer[0] < first]

    def keep(self, oldest: int, begun: tuple[ChosenGesture, ...]) -> None:
        """A chunk is kept, and so are the gestures that began with it; what is older than a frame is forgotten."""
        for gesture in begun:
            if self._asked.get(gesture.name) is gesture:
                del self._asked[gesture.name]
        self._stood = {frame: row for frame, row in self._stood.items() if oldest <= frame}
        self._begun = [one for one in self._begun if one[0] + num_frames(one[1], self._fps) > oldest]
        for held in self._held.values():
            held.forget(oldest)
        covered = [number for number, (begin, _) in enumerate(self._layers) if begin + self._fps <= oldest]
        self._layers = self._layers[covered[-1] :] if covered else self._layers

    def take_back(self, first: int) -> None:
        """Frames from `first` on are drawn anew; gestures that began there begin again."""
        self._asked = {gesture.name: gesture for begin, gesture in self._begun if begin >= first} | self._asked
        self._begun = [one for one in self._begun if one[0] < first]
        self._stood = {frame: row for frame, row in self._stood.items() if frame < first}
        for held in self._held.values():
            held.cut(first)
        self._layers = self._layers_until(first)

    # states

    def to_state(self) -> Mapping[str, Any]:
        return {
            "wanted": dict(self._wanted),
            "liveliness": self._liveliness,
            "asked": [asdict(gesture) for gesture in self._asked.values()],
            "begun": [[first, asdict(gesture)] for first, gesture in self._begun],
            "held": {name: held.to_state() for name, held in self._held.items()},
            "stood": [[frame, row.tolist()] for frame, row in self._stood.items()],
            "seen": [[at, dict(values)] for at, values in self._seen],
        }

    def restore(self, state: Mapping[str, Any], later: float | None = None) -> None:
        """Stand where `to_state` was called. `later`: how much later this clock is than that one; None: no camera."""
        if later is not None:
            self._seen.extend((at + later, values) for at, values in state["seen"])
        self._wanted, self._liveliness = dict(state["wanted"]), state["liveliness"]
        self._asked = {one["name"]: _read_gesture(one) for one in state["asked"]}
        self._begun = [(first, _read_gesture(one)) for first, one in state["begun"]]
        self._held = {name: EasedValue.from_state(changes) for name, changes in state["held"].items()}
        self._stood = {frame: np.array(row) for frame, row in state["stood"]}


def _path(wishes: FaceWishes, name: str, num_frames: int, fps: int) -> tuple[float, ...]:
    """A control as the camera saw it in the time that a chunk lasts, up to now, and a frame before: [1 + P]; or empty.

    So the newest value comes with the chunk's last frame, and what was between two chunks, such as a blink, is shown.
    """
    seen = [(at, values[name]) for at, values in wishes.seen if name in values]
    if not seen:
        return ()
    at = wishes.now - np.arange(num_frames, -1, -1) / fps
    return tuple(np.interp(at, *zip(*seen, strict=True)).tolist())


def _read_gesture(state: Mapping[str, Any]) -> ChosenGesture:
    return ChosenGesture(**{**state, "point": tuple(state["point"])})


def _moved(begun: tuple[tuple[int, ChosenGesture], ...], name: str, frames: np.ndarray, fps: int) -> np.ndarray:
    """Whether a gesture moves that control: [P]"""
    added = overlay(begun, frames, fps).get(name)
    return np.zeros(len(frames), dtype=bool) if added is None else added != 0
