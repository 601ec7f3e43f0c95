"""Controls of a session: one frozen value for each kind, to JSON and back.

Shapes: C channels, S samples.
"""

import base64
import binascii
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

SPEECH_MODES = ("reply", "mirror")  # played in full and in order; or dropped where it is late
_SAMPLE_TYPES = {"int16": "<i2", "float32": "<f4"}


class ControlError(ValueError):
    """A control that cannot be, whatever the session; the message is a sentence for whoever gave it."""


@dataclass(frozen=True)
class Control:
    """One wish. Equal controls ask for the same."""

    kind: ClassVar[str]  # its name in JSON
    urgent: ClassVar[bool] = False  # a chunk under way is given up for it, where there is time to draw another

    def to_json(self) -> dict[str, Any]:
        """Plain values, `type` among them."""
        return {"type": self.kind} | {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_fields(cls, values: Mapping[str, Any]) -> "Control":
        return cls(**values)


class DrivingControl(Control, ABC):
    """A control that is the driving's own matter."""

    @abstractmethod
    def drive(self, driving: Any) -> None:
        """Tell the driving; it raises a ValueError with a sentence where it cannot."""


@dataclass(frozen=True)
class SetControls(DrivingControl):
    """The face's controls, each held until it is changed; None gives it back to the motion beneath."""

    kind, urgent = "set_controls", True
    values: Mapping[str, float | None]

    def __post_init__(self) -> None:
        _require_numbers(self.kind, {name: value for name, value in self.values.items() if value is not None})

    def drive(self, driving: Any) -> None:
        driving.set_controls(dict(self.values))


@dataclass(frozen=True)
class SetPose(DrivingControl):
    """The face's controls as a camera sees them now."""

    kind = "set_pose"
    values: Mapping[str, float]

    def __post_init__(self) -> None:
        _require_numbers(self.kind, self.values)

    def drive(self, driving: Any) -> None:
        driving.set_pose(dict(self.values))


@dataclass(frozen=True)
class Gesture(DrivingControl):
    """A short curve that is laid over the rest, by its name."""

    kind, urgent = "gesture", True
    name: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        _require_numbers(self.kind, {"strength": self.strength})

    def drive(self, driving: Any) -> None:
        driving.gesture(self.name, strength=self.strength)


@dataclass(frozen=True)
class Look(DrivingControl):
    """Look there: from -1 to 1, x to the right and y down."""

    kind, urgent = "look", True
    x: float
    y: float

    def __post_init__(self) -> None:
        _require_numbers(self.kind, {"x": self.x, "y": self.y})

    def drive(self, driving: Any) -> None:
        driving.look(self.x, self.y)


@dataclass(frozen=True)
class SetLiveliness(DrivingControl):
    """How much of the idle motion is shown, 0 to 1."""

    kind = "set_liveliness"
    value: float

    def __post_init__(self) -> None:
        _require_numbers(self.kind, {"value": self.value})

    def drive(self, driving: Any) -> None:
        driving.set_liveliness(self.value)


@dataclass(frozen=True, eq=False)
class Speech(DrivingControl):
    """Sound to be spoken: int16 or float32, [S] or [C, S], `rate` samples a second."""

    kind = "speech"
    samples: np.ndarray
    rate: int
    mode: str = "reply"

    def __post_init__(self) -> None:
        if self.samples.dtype.name not in _SAMPLE_TYPES or self.samples.ndim not in (1, 2):
            raise ControlError(
                f"speech has samples of {self.samples.dtype} {list(self.samples.shape)}; "
                "give int16 or float32, [samples] or [channels, samples]"
            )
        if self.mode not in SPEECH_MODES:
            raise ControlError(f"the mode of speech is {self.mode!r}; choose one of {', '.join(SPEECH_MODES)}")
        _require_numbers(self.kind, {"rate": self.rate})

    @property
    def seconds(self) -> float:
        return self.samples.shape[-1] / self.rate

    def drive(self, driving: Any) -> None:
        driving.append_speech(self.samples, self.rate, self.mode)

    def to_json(self) -> dict[str, Any]:
        """Samples as base64 of little-endian bytes."""
        dtype, channels = self.samples.dtype.name, 0 if self.samples.ndim == 1 else len(self.samples)
        audio = base64.b64encode(self.samples.astype(_SAMPLE_TYPES[dtype]).tobytes()).decode()
        return {"type": self.kind, "rate": self.rate, "mode": self.mode, "dtype": dtype, "channels": channels,
                "audio": audio}  # fmt: skip

    @classmethod
    def of_fields(cls, values: Mapping[str, Any]) -> "Speech":
        data = base64.b64decode(values["audio"], validate=True)
        samples = np.frombuffer(data, dtype=_SAMPLE_TYPES[values["dtype"]]).astype(values["dtype"])
        channels = values["channels"]
        return cls(samples.reshape(channels, -1) if channels else samples, values["rate"], values["mode"])


@dataclass(frozen=True)
class CommitSpeech(DrivingControl):
    """The sentence is complete: no more of it is waited for."""

    kind = "commit_speech"

    def drive(self, driving: Any) -> None:
        driving.commit_speech()


@dataclass(frozen=True)
class ClearSpeech(DrivingControl):
    """Forget what was sent and is not spoken yet; what is made of it is shown all the same."""

    kind = "clear_speech"

    def drive(self, driving: Any) -> None:
        driving.clear_speech()


@dataclass(frozen=True)
class CancelReply(DrivingControl):
    """The reply ends: forget what is not spoken yet of it, sentences that are still being made among it."""

    kind = "cancel_reply"

    def drive(self, driving: Any) -> None:
        driving.clear_speech()


@dataclass(frozen=True)
class Say(Control):
    """Speak a sentence."""

    kind = "say"
    text: str
    voice: str = ""


@dataclass(frozen=True)
class Prompt(Control):
    """A text prompt, from the next chunk on; `recache`: what that chunk sees of those before it is computed again under
    the prompt, so that it takes effect sooner.
    """

    kind = "prompt"
    text: str
    recache: bool = False


@dataclass(frozen=True)
class Reference(Control):
    """Another picture, by the name that the host knows it by; `cut`: at once, else it grows out of the one before."""

    kind = "reference"
    name: str
    cut: bool = False


@dataclass(frozen=True)
class Settings(Control):
    """Settings of the stream that change with the next chunk."""

    kind = "settings"
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Degrade(Control):
    """Be drawn as that rung of the session's ladder says, from the next chunk on; 0: as it was asked for.

    A session asks itself for it, where chunks come late or there is room again. In its log it has the number 0, and
    whoever replays the log asks for it.
    """

    kind = "degrade"
    rung: int


@dataclass(frozen=True)
class ChunkLength(Control):
    """From that chunk on chunks have so many latent frames, whatever is asked for: see chunk_lengths.py.

    It stands in a session's log alone, with the number 0, so that whoever replays that draws the same chunks.
    """

    kind = "chunk_length"
    num_latents: int


@dataclass(frozen=True)
class Cancel(Control):
    """Be silent: speech is forgotten, and what is made and not played of it is cut. `played_frame` was shown last."""

    kind = "cancel"
    played_frame: int


@dataclass(frozen=True)
class Pause(Control):
    """Make no more chunks for now."""

    kind = "pause"


@dataclass(frozen=True)
class GoOn(Control):
    """Make chunks again."""

    kind = "go_on"


@dataclass(frozen=True)
class Finish(Control):
    """End the session behind the chunk that is being made."""

    kind = "finish"


@dataclass(frozen=True)
class StartRecording(Control):
    """Record what is shown from here on."""

    kind = "start_recording"


@dataclass(frozen=True)
class StopRecording(Control):
    """End the recording."""

    kind = "stop_recording"


CONTROLS: Mapping[str, type[Control]] = {
    cls.kind: cls
    for cls in (SetControls, SetPose, Gesture, Look, SetLiveliness, Speech, CommitSpeech, ClearSpeech, CancelReply,
                Say, Prompt, Reference, Settings, Degrade, ChunkLength, Cancel, Pause, GoOn, Finish, StartRecording,
                StopRecording)
}  # fmt: skip


def from_json(values: Mapping[str, Any]) -> Control:
    """The control that `to_json` gave.

    Raises:
        ControlError: it is none, or has other fields or values than that control.
    """
    kind = values.get("type")
    if kind not in CONTROLS:
        raise ControlError(f"there is no control {kind!r}; there are {', '.join(CONTROLS)}")
    try:
        return CONTROLS[kind].of_fields({name: value for name, value in values.items() if name != "type"})
    except ControlError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, binascii.Error) as problem:
        raise ControlError(f"the control {kind} is not as it should be ({problem})") from problem


def _require_numbers(kind: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ControlError(f"{name} of {kind} is {value!r}; give a number")
