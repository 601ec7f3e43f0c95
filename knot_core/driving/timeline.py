"""Driving: what moves the portrait over time, as the network is fed it.

One signal a pixel frame: 64 log-mel values of the speech, 8 expression controls, and a flag each for speech, pose and
mouth: 1 = given. What is not given is zero, and the model makes it up. Beside the controls there may be face units,
which say more: models of units are moved by them, others by the controls. In which form an adapter takes them is said
in `signal_form.py`.

Shapes: F latent frames, T = 4 pixel frames of a latent frame, S signal dim, P pixel frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..config import UNITS, Adapter, AdapterConfig, takes_controls
from ..errors import DrivingError
from ..geometry import TEMPORAL
from ..media import Audio, AudioFile
from .audio import MEL_DIM
from .expression_controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS, read_controls
from .idle import IdleMotion
from .mel import LiveMel, SpokenMel
from .signal_form import SIGNAL_DIM, in_form
from .speech import SpeechDriving
from .spoken_sound import spoken
from .spoken_units import SpokenUnits, load_spoken_units
from .tracked import Drivable, TrackedDriving
from .tracks import Samples, Still, Track
from .wav2vec import SpeechEncoder
from .wav2vec_windows import SpeechWindow
from .waveform import LiveAudio, Waveform

logger = logging.getLogger(__name__)

FLAGS = ("speech", "pose", "mouth")

_POSE_COLUMNS = [MEL_DIM + CONTROLS.index(name) for name in POSE_CONTROLS]
_MOUTH_COLUMNS = [MEL_DIM + CONTROLS.index(name) for name in MOUTH_CONTROLS]
_FIRST_FLAG = MEL_DIM + len(CONTROLS)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Driving(TrackedDriving):
    """Up to three tracks, and units beside two of them; None: not given. Compared and hashed by content. Create one
    with the class methods.
    """

    speech: Track | None = None  # 64 log-mel values
    pose: Track | None = None  # POSE_CONTROLS
    mouth: Track | None = None  # MOUTH_CONTROLS
    units: Track | None = None  # the 52 of face_units, measured where pose or mouth were
    form: AdapterConfig | None = None  # of the signal; None: as knot-tiny takes it

    @classmethod
    def none(cls) -> Driving:
        """An endless driving in which nothing is given: the model generates all motion."""
        return cls()

    @classmethod
    def idle(cls, seed: int = 0) -> Driving:
        """An endless driving of a listener: procedural idle motion, mouth closed."""
        return cls(pose=IdleMotion(seed), mouth=Still((0.0,) * len(MOUTH_CONTROLS)))

    @classmethod
    def from_audio(
        cls,
        audio: Audio | AudioFile | LiveAudio | Waveform,
        model: Drivable | None = None,
        *,
        pose: Literal["idle"] | Driving | None = "idle",
        seed: int = 0,
        encoder: SpeechEncoder | None = None,
        window: SpeechWindow | None = None,
    ) -> Driving | SpeechDriving:
        """Speech moves the mouth: a recording, or live sound. Which features it is turned into depends on the model.

        Features are computed as the stream needs them. The length of an `AudioFile` is known once its end is reached:
        until then `num_pixel_frames` is None. The driving owns the file from then on; for other uses take
        `AudioFile.again`.

        `pose`: idle motion, that of a driving (and its mouth), or None, the model's own; models that take wav2vec2
        features generate all motion themselves. They need the wav2vec2 as `encoder`; `window`: see `wav2vec_windows`.

        Raises:
            DrivingError: the model takes no speech, lacks an encoder, or cannot use that `pose`.
        """
        if model is not None and _hears_through_wav2vec2(model):
            if isinstance(pose, Driving):
                raise DrivingError(
                    "this model moves head and eyes by itself and takes no controls; drive it by speech alone"
                )
            return SpeechDriving.hearing(audio, model, encoder, window)
        if encoder is not None or window is not None:
            logger.warning("this model takes no wav2vec2 features: the speech encoder and its window are not used")
        beside = _beside_speech(pose, seed)
        waveform = spoken(audio)
        mel = LiveMel(waveform) if isinstance(waveform, LiveAudio) else SpokenMel(waveform)
        return cls(speech=mel, pose=beside.pose, mouth=beside.mouth, units=beside.units)

    @classmethod
    def from_speech_features(cls, features: Mapping[str, Any], model: Drivable) -> SpeechDriving:
        """A driving for models that take wav2vec2 features, from the output of ComfyUI's Audio Encoder Encode: see
        `HeardLayers`.

        `features` has `encoded_audio_all_layers`, one tensor [B, steps, hidden] per layer, and `audio_samples`, the
        number of samples at 16 kHz that they were computed from.

        Raises:
            DrivingError: the model does not use wav2vec2, or the features do not fit it.
        """
        if not _hears_through_wav2vec2(model):
            raise DrivingError("this model takes no wav2vec2 features; give it the sound itself")
        return SpeechDriving.of_layers(features, model)

    @classmethod
    def from_controls(cls, controls: Any) -> Driving:
        """A driving from an array [P, 8], a dict of name -> list, a dict with keyframes, or the path of a JSON file.

        See `read_controls`. If only some controls of a group (pose, mouth) are given, the others of the group rest at
        0.
        """
        given = read_controls(controls)
        return cls(pose=_group(given, POSE_CONTROLS), mouth=_group(given, MOUTH_CONTROLS))

    @property
    def tracks(self) -> Mapping[str, Track | None]:
        tracks = dict(zip(FLAGS, (self.speech, self.pose, self.mouth), strict=True))
        return tracks if self.units is None else tracks | {"units": self.units}

    def require_controls(self, otherwise: str) -> None:
        """Does nothing: this driving consists of controls."""

    def for_adapter(self, adapter: Adapter | None) -> Driving:
        """The same driving, in the adapter's form.

        Raises:
            DrivingError: the model is driven by wav2vec2 features alone, so controls cannot move it.
        """
        super().for_adapter(adapter)
        if takes_controls(adapter):
            return self if adapter == self.form else replace(self, form=adapter)
        if self.given:
            raise DrivingError(
                f"got {' and '.join(self.given)}, but this model is driven by wav2vec2 speech features only; "
                "take Driving.from_audio(audio, model, encoder=...)"
            )
        return self

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        """The signal of latent frames from `first_latent` on, float32 [F, 4, S]; past the end speech is silent and
        poses hold.
        """
        last_pixel = TEMPORAL * np.arange(first_latent, first_latent + num_latents, dtype=np.int64)
        # latent frame 0 covers pixel frame 0 alone, which fills all four places
        frames = np.maximum(last_pixel[:, None] - np.arange(TEMPORAL - 1, -1, -1), 0)
        return rearrange(self.pixel_signal(frames.reshape(-1)), "(f t) s -> f t s", t=TEMPORAL)

    def pixel_signal(self, frames: np.ndarray) -> Tensor:
        """float32 [P, S] of those pixel frames."""
        signal = np.zeros((len(frames), SIGNAL_DIM), dtype=np.float32)
        places = ((self.speech, slice(MEL_DIM)), (self.pose, _POSE_COLUMNS), (self.mouth, _MOUTH_COLUMNS))
        for flag, (track, columns) in enumerate(places):
            if track is not None:
                signal[:, columns] = track.at(frames)
                signal[:, _FIRST_FLAG + flag] = 1
        measured, said = (None if track is None else track.at(frames) for track in (self.units, self._spoken))
        return torch.from_numpy(in_form(signal, self.form, measured, said))

    def _waited_for(self) -> Iterable[Track | None]:
        return (*self.tracks.values(), self._spoken)

    @cached_property
    def _spoken(self) -> SpokenUnits | None:
        """The mouth's units as the speech has them, of a model of units whose mouth nobody gives."""
        if self.form is None or self.form.name != UNITS or self.speech is None or self.mouth is not None:
            return None
        network = load_spoken_units()
        return None if network is None else SpokenUnits(self.speech, network)


def _beside_speech(pose: Literal["idle"] | Driving | None, seed: int) -> Driving:
    if isinstance(pose, Driving):
        return pose
    if pose is None:
        return Driving.none()
    if pose == "idle":
        return Driving(pose=IdleMotion(seed))
    raise DrivingError(f"pose is {pose!r}; it must be 'idle', a Driving, or None for the model's own")


def _group(given: dict[str, np.ndarray], names: tuple[str, ...]) -> Samples | None:
    if not any(name in given for name in names):
        return None
    length = len(next(iter(given.values())))
    return Samples(np.stack([given.get(name, np.zeros(length)) for name in names], axis=1))


def _hears_through_wav2vec2(model: Drivable) -> bool:
    if model.adapter is None:
        raise DrivingError(
            "this model has no driving adapter, so speech cannot move it; load one that has, such as knot-tiny"
        )
    return not takes_controls(model.adapter)
