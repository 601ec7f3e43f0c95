"""Two drivings as one: speech for the mouth and another source for head and eyes, mixed control by control.

Where one of them has measured units, units are mixed as well: each by the weight of the control that it belongs to, if
the second gives that control; units that were not measured are those of the controls.

Shapes: P pixel frames, V controls of a group, or face units.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..config import UNITS_DIM, AdapterConfig
from ..errors import DrivingError
from .audio import MEL_DIM
from .expression import Curves
from .expression_controls import MOUTH_CONTROLS, POSE_CONTROLS, RANGES
from .face_units import CONTROL_OF_UNIT, UNITS
from .lengths import Unending, without_end
from .smoothing import Smoothed
from .timeline import Driving
from .tracks import FrameNumbers, Track, Values, all_ready, last_end

logger = logging.getLogger(__name__)

# What a weight moves together.
PARTS: Mapping[str, tuple[str, ...]] = {
    "head": ("yaw", "pitch", "roll"),
    "eyes": ("blink", "gaze"),
    "brow": ("brow",),
    "mouth": MOUTH_CONTROLS,
}
_OF_UNITS = AdapterConfig(signal_dim=UNITS_DIM)


@dataclass(frozen=True)
class Mix:
    """(1 - weight) first + weight second, or first + weight second, within each control's range; None is at rest."""

    names: tuple[str, ...]
    first: Track | None
    second: Track
    weights: tuple[float, ...]  # of the second, column by column
    added: bool

    @property
    def given(self) -> tuple[str, ...]:
        """The controls that either gives."""
        either = {*given_controls(self.first, self.names), *given_controls(self.second, self.names)}
        return tuple(name for name in self.names if name in either)

    @property
    def num_pixel_frames(self) -> int | None:
        return last_end(self.first, self.second)

    @property
    def num_ready(self) -> int | None:
        return all_ready(self.first, self.second)

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, V]"""
        second, weights = self.second.at(frames), np.float32(self.weights)
        first = np.zeros_like(second) if self.first is None else self.first.at(frames)
        kept = 1 if self.added else 1 - weights  # so that the weights 0 and 1 are exact
        mixed = kept * first + weights * second
        low, high = np.float32([RANGES.get(name, (0.0, 1.0)) for name in self.names]).T  # of units from 0 to 1
        return np.clip(mixed, low, high)

    def content(self) -> bytes:
        parts = [b"" if track is None else track.content() for track in (self.first, self.second)]
        head = f"mix {self.names} {self.weights} {self.added} {[len(part) for part in parts]} "
        return head.encode() + b"".join(parts)


@dataclass(frozen=True)
class FaceUnits:
    """The face units of a driving, as a model of units is fed them."""

    driving: Driving

    @property
    def num_pixel_frames(self) -> int | None:
        return last_end(self.driving.pose, self.driving.mouth)

    @property
    def num_ready(self) -> int | None:
        return all_ready(self.driving.pose, self.driving.mouth)

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, 52]"""
        signal = replace(self.driving, speech=None, form=_OF_UNITS).pixel_signal(frames).numpy()
        return signal[:, MEL_DIM : MEL_DIM + len(UNITS)]

    def content(self) -> bytes:
        return b"units of " + replace(self.driving, speech=None, length=None, chunks=None).digest.encode()


def given_controls(track: Track | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """Which controls of its group a track says anything of."""
    if track is None:
        return ()
    if isinstance(track, Smoothed | Unending):
        return given_controls(track.track, names)
    return track.given if isinstance(track, Curves | Mix) else names


def combine(first: Driving, second: Driving, **weights: float) -> Driving:
    """The first driving, with what the second gives put over it: 0 keeps the first, 1 takes the second.

    `weights`: head, eyes, brow and mouth; a part that is not named is 0. Controls that the second does not give stay
    the first's; where the first leaves a part to the model, it counts as at rest. Speech is the first's, or the
    second's where that has none. It is as long as the first; if that has no end, as the second.
    """
    return _mixed(first, second, weights, added=False)


def layer(first: Driving, second: Driving, **weights: float) -> Driving:
    """As `combine`, but the second's motion comes on top of the first's: 0 adds nothing, 1 all of it."""
    return _mixed(first, second, weights, added=True)


def _mixed(first: Driving, second: Driving, weights: Mapping[str, float], *, added: bool) -> Driving:
    for part, weight in weights.items():
        if part not in PARTS:
            raise DrivingError(f"{part} has a weight, but only these can: {', '.join(PARTS)}")
        if not 0 <= weight <= 1:
            raise DrivingError(f"the weight of {part} is {weight}; it must be from 0 to 1")
    for driving in (first, second):
        driving.require_controls(
            "a driving of wav2vec2 features moves the whole face, so nothing can be combined with it; "
            "use knot-tiny, or the speech alone"
        )
    if first.speech is not None and second.speech is not None:
        logger.info("both drivings speak: the first one's speech is used")
    if first.num_ready_latents is not None:
        second = without_end(second)  # the first's end is not known yet, and it decides
    by_control = {name: weight for part, weight in weights.items() for name in PARTS[part]}
    return replace(
        first,
        speech=first.speech or second.speech,
        pose=_group(first.pose, second.pose, POSE_CONTROLS, by_control, added=added),
        mouth=_group(first.mouth, second.mouth, MOUTH_CONTROLS, by_control, added=added),
        units=_units(first, second, by_control, added=added),
        length=second.num_pixel_frames if first.num_pixel_frames is None else first.num_pixel_frames,
    )


def _group(
    first: Track | None, second: Track | None, names: tuple[str, ...], weights: Mapping[str, float], *, added: bool
) -> Track | None:
    given = given_controls(second, names)
    used = tuple(weights.get(name, 0.0) if name in given else 0.0 for name in names)
    return first if not any(used) else Mix(names, first, second, used, added)


def _units(first: Driving, second: Driving, weights: Mapping[str, float], *, added: bool) -> Track | None:
    if first.units is None and second.units is None:
        return None
    pose, mouth = given_controls(second.pose, POSE_CONTROLS), given_controls(second.mouth, MOUTH_CONTROLS)
    used = tuple(weights.get(control, 0.0) if control in (*pose, *mouth) else 0.0 for control in CONTROL_OF_UNIT)
    return first.units if not any(used) else Mix(UNITS, FaceUnits(first), FaceUnits(second), used, added)
