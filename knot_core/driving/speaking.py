"""Speech with an artist's say: how loud it is heard, how calm the mouth is, and what the portrait does in pauses.

Shapes: C channels, S samples, P pixel frames, V pose controls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import DrivingError
from .audio import FPS, SAMPLES_PER_PIXEL_FRAME, speech_waveform
from .idle import IdleMotion
from .smoothing import MAX_SMOOTHING, smoothed
from .timeline import Driving
from .tracks import Frames, Track, Values

if TYPE_CHECKING:
    from ..media import Audio
    from ..model import Model
    from .hearing import SpeechWindow
    from .wav2vec import SpeechEncoder

MAX_GAIN = 40.0  # dB
LOWEST_LEVEL = -90.0  # dB of full scale
SAME = "same"

# How much of the idle motion there is, while speaking and in pauses: yaw, pitch (and breath), roll, blink, gaze, brow.
SILENCES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    SAME: None,
    "listen": ((1, 1, 1, 1, 0.2, 1), (1, 1, 1, 1, 1, 1)),  # speaks to the viewer, looks about when it listens
    "rest": ((1, 1, 1, 1, 1, 1), (0.2, 0.5, 0.2, 1, 0, 0.3)),  # holds its head and looks at the viewer
}
_SHORTEST_PAUSE = 10  # pixel frames, 0.4 s: shorter ones are part of speaking
_AROUND_SPEECH = 3  # pixel frames before and after that belong to it: lips move before they are heard
_TURN = 15  # pixel frames that it takes to pass from speaking to pausing


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
    voice: np.ndarray  # float32 [P], 0 in pauses .. 1 while speaking; pause past the end
    silence: str

    @property
    def num_pixel_frames(self) -> int | None:
        return self.motion.num_pixel_frames

    @property
    def num_ready(self) -> int | None:
        return self.motion.num_ready

    def at(self, frames: Frames) -> Values:
        """[P] -> [P, V]"""
        speaking, pausing = np.float32(SILENCES[self.silence])
        last = len(self.voice) - 1
        voice = np.where(frames <= last, self.voice[np.minimum(frames, last)], np.float32(0))[:, None]
        return self.motion.at(frames) * (pausing + (speaking - pausing) * voice)

    def content(self) -> bytes:
        return f"paused {self.silence} {len(self.voice)} ".encode() + self.voice.tobytes() + self.motion.content()


def speak(  # noqa: PLR0913 - as Driving.from_audio
    audio: Audio,
    model: Model | None = None,
    *,
    options: SpeechOptions,
    pose: Literal["idle"] | Driving | None = "idle",
    seed: int = 0,
    encoder: SpeechEncoder | None = None,
    window: SpeechWindow | None = None,
) -> Driving:
    """`Driving.from_audio` of a recording, with options."""
    heard = replace(audio, samples=audio.samples * 10 ** (options.gain / 20))
    if options.silence == SAME or not heard.samples.numel():  # which is refused there
        driving = Driving.from_audio(heard, model, pose=pose, seed=seed, encoder=encoder, window=window)
        return driving if options.smoothing == 0 else _calmer(driving, options.smoothing)
    spoken = speaking_frames(heard, options.silence_level)
    driving = Driving.from_audio(_gated(heard, spoken), model, pose=pose, seed=seed, encoder=encoder, window=window)
    motion = driving.pose
    if isinstance(motion, IdleMotion):
        motion = Paused(motion, _eased(spoken), options.silence)
    return replace(_calmer(driving, options.smoothing), pose=motion)


def speaking_frames(audio: Audio, silence_level: float) -> np.ndarray:
    """bool [P]: the pixel frames in which somebody speaks, short pauses and a little around included."""
    waveform = speech_waveform(audio).double()
    count = -(-waveform.numel() // SAMPLES_PER_PIXEL_FRAME)
    padded = torch.nn.functional.pad(waveform, (0, count * SAMPLES_PER_PIXEL_FRAME - waveform.numel()))
    power = padded.reshape(count, SAMPLES_PER_PIXEL_FRAME).square().mean(dim=1).numpy()
    loud = power > 10 ** (silence_level / 10)
    return ~_without_short_runs(~_widened(loud, _AROUND_SPEECH), _SHORTEST_PAUSE)


def _widened(mask: np.ndarray, by: int) -> np.ndarray:
    return np.convolve(mask, np.ones(2 * by + 1))[by : by + len(mask)] > 0.5 if len(mask) else mask


def _without_short_runs(mask: np.ndarray, shortest: int) -> np.ndarray:
    """True only where it is so for that long; up to the beginning and the end it always counts as long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).reshape(-1, 2)
    kept = np.zeros_like(mask)
    for start, stop in edges:
        kept[start:stop] = stop - start >= shortest or start == 0 or stop == len(mask)
    return kept


def _eased(spoken: np.ndarray) -> np.ndarray:
    """Of yes and no a passage: float32 [P], 0 .. 1."""
    window = np.hanning(_TURN + 2)[1:-1]
    padded = np.pad(spoken.astype(np.float64), _TURN // 2, mode="edge")
    return np.clip(np.convolve(padded, window / window.sum(), mode="valid"), 0, 1).astype(np.float32)


def _gated(audio: Audio, spoken: np.ndarray) -> Audio:
    """Silent in pauses; it fades within the frames around speech."""
    num_samples = audio.samples.shape[1]
    at = (np.arange(num_samples) + 0.5) * (FPS / audio.sample_rate) - 0.5  # in pixel frames, from the first's middle
    gate: Tensor = torch.from_numpy(np.interp(at, np.arange(len(spoken)), spoken).astype(np.float32))
    return replace(audio, samples=audio.samples * gate)


def _calmer(driving: Driving, seconds: float) -> Driving:
    if type(driving) is not Driving and seconds:
        raise DrivingError("this model hears through wav2vec2, whose features cannot be smoothed; set smoothing to 0")
    return replace(driving, speech=smoothed(driving.speech, seconds))


def _between(name: str, value: float, low: float, high: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DrivingError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g} {unit}")
