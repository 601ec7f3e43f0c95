"""Options of speech: its gain, how smooth the mouth moves, and what the portrait does in pauses.

Shapes: P pixel frames, V pose controls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..errors import DrivingError
from ..media import Audio, AudioFile
from .audio import SAMPLES_PER_PIXEL_FRAME
from .idle import IdleMotion
from .pauses import Gated, Voice
from .smoothing import MAX_SMOOTHING, smoothed
from .speech import SpeechDriving
from .spoken_sound import FAR, spoken
from .timeline import Driving
from .tracked import Drivable
from .tracks import FrameNumbers, Track, Values
from .wav2vec import SpeechEncoder
from .wav2vec_windows import SpeechWindow

MAX_GAIN = 40.0  # dB
LOWEST_LEVEL = -90.0  # dB of full scale
SAME = "same"

# How much of the idle motion there is, while speaking and in pauses: yaw, pitch (and breath), roll, blink, gaze, brow.
SILENCES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    SAME: None,
    "listen": ((1, 1, 1, 1, 0.2, 1), (1, 1, 1, 1, 1, 1)),  # speaks to the viewer, looks about when it listens
    "rest": ((1, 1, 1, 1, 1, 1), (0.2, 0.5, 0.2, 1, 0, 0.3)),  # holds its head and looks at the viewer
}


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """The defaults change nothing."""

    gain: float = 0.0  # dB: louder speech opens the mouth wider
    smoothing: float = 0.0  # seconds: a longer window makes a calmer mouth
    silence: str = SAME  # what the idle motion does in pauses; not SAME also keeps noise in pauses from the mouth
    silence_level: float = -45.0  # dB of full scale, after gain: what is quieter is a pause

    def __post_init__(self) -> None:
        _between("gain", self.gain, -MAX_GAIN, MAX_GAIN, "dB")
        _between("smoothing", self.smoothing, 0, MAX_SMOOTHING, "s")
        _between("silence_level", self.silence_level, LOWEST_LEVEL, 0, "dB")
        if self.silence not in SILENCES:
            raise DrivingError(f"silence is {self.silence!r}; choose one of {', '.join(SILENCES)}")


@dataclass(frozen=True, eq=False)
class Paused:
    """Idle motion, more or less of it by how much is being said."""

    motion: Track
    voice: Voice
    silence: str

    @property
    def num_pixel_frames(self) -> int | None:
        return self.motion.num_pixel_frames

    @property
    def num_ready(self) -> int | None:
        return self.motion.num_ready

    def at(self, frames: FrameNumbers) -> Values:
        """[P] -> [P, V]"""
        speaking, pausing = np.float32(SILENCES[self.silence])
        return self.motion.at(frames) * (pausing + (speaking - pausing) * self.voice.eased(frames)[:, None])

    def content(self) -> bytes:
        return f"paused {self.silence} ".encode() + self.voice.content() + self.motion.content()


def speak(  # noqa: PLR0913 - as Driving.from_audio
    audio: Audio | AudioFile,
    model: Drivable | None = None,
    *,
    options: SpeechOptions,
    pose: Literal["idle"] | Driving | None = "idle",
    seed: int = 0,
    encoder: SpeechEncoder | None = None,
    window: SpeechWindow | None = None,
) -> Driving | SpeechDriving:
    """`Driving.from_audio` of a recording, with options."""
    heard = spoken(audio, gain=options.gain)
    if options.silence == SAME:
        driving = Driving.from_audio(heard, model, pose=pose, seed=seed, encoder=encoder, window=window)
        return driving if options.smoothing == 0 else _calmer(driving, options.smoothing)
    voice = Voice(heard, options.silence_level)
    driving = Driving.from_audio(Gated(heard, voice), model, pose=pose, seed=seed, encoder=encoder, window=window)
    driving = _calmer(driving, options.smoothing)
    if not isinstance(driving.pose, IdleMotion):
        return driving
    return replace(driving, pose=Paused(driving.pose, voice, options.silence))


def speaking_frames(audio: Audio | AudioFile, silence_level: float) -> np.ndarray:
    """bool [P]: the pixel frames with speech, short pauses and a margin included."""
    waveform = spoken(audio)
    waveform.find_end(FAR)
    return Voice(waveform, silence_level).speaking(0, -(-waveform.num_samples // SAMPLES_PER_PIXEL_FRAME))


def _calmer(driving: Driving | SpeechDriving, seconds: float) -> Driving | SpeechDriving:
    if not seconds:
        return driving
    driving.require_controls("this model is driven by wav2vec2 features, which cannot be smoothed; set smoothing to 0")
    return replace(driving, speech=smoothed(driving.speech, seconds))


def _between(name: str, value: float, low: float, high: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DrivingError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g} {unit}")
