"""Driving: what moves the portrait over time, as the network is fed it.

One signal a pixel frame, 75 numbers: 64 log-mel values of the speech, 8 expression controls, and a flag each for
speech, pose and mouth: 1 = given. What is not given is zero, and the model makes it up.

Shapes: F latent frames, T = 4 pixel frames of a latent frame, S signal dim, P pixel frames.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .. import geometry
from ..config import takes_controls
from ..errors import DrivingError
from ..geometry import TEMPORAL
from .audio import MEL_DIM
from .controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS, read_controls
from .idle import IdleMotion
from .mel import LiveMel, SpokenMel
from .recording import spoken
from .tracks import Samples, Still, Track, all_ready, last_end
from .waveform import LiveAudio, Waveform

if TYPE_CHECKING:
    from ..media import Audio, AudioFile
    from ..model import Model
    from .hearing import SpeechWindow
    from .wav2vec import SpeechEncoder

logger = logging.getLogger(__name__)

FLAGS = ("speech", "pose", "mouth")
SIGNAL_DIM = MEL_DIM + len(CONTROLS) + len(FLAGS)

_POSE_COLUMNS = [MEL_DIM + CONTROLS.index(name) for name in POSE_CONTROLS]
_MOUTH_COLUMNS = [MEL_DIM + CONTROLS.index(name) for name in MOUTH_CONTROLS]
_FIRST_FLAG = MEL_DIM + len(CONTROLS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Driving:
    """Up to three tracks; None = not given. Equal and hashed by what they hold. Make one with the class methods."""

    speech: Track | None = None  # 64 log-mel values
    pose: Track | None = None  # POSE_CONTROLS
    mouth: Track | None = None  # MOUTH_CONTROLS
    length: int | None = None  # pixel frames, where it is not that of the tracks
    chunks: tuple[int, int] | None = None  # where it ends with one: latent frames of a chunk's start, and of each

    @classmethod
    def none(cls) -> Driving:
        """Nothing given, without end: the model idles as it learned to."""
        return cls()

    @classmethod
    def idle(cls, seed: int = 0) -> Driving:
        """A listener without end: idle motion by rule, mouth closed."""
        return cls(pose=IdleMotion(seed), mouth=Still((0.0,) * len(MOUTH_CONTROLS)))

    @classmethod
    def from_audio(
        cls,
        audio: Audio | AudioFile | LiveAudio | Waveform,
        model: Model | None = None,
        *,
        pose: Literal["idle"] | Driving | None = "idle",
        seed: int = 0,
        encoder: SpeechEncoder | None = None,
        window: SpeechWindow | None = None,
    ) -> Driving:
        """Speech moves the mouth: a recording, or one that still arrives. How it is heard is the model's matter.

        It is heard as the stream needs it. How long an `AudioFile` is turns out where it ends: up to there
        `num_pixel_frames` is None. The driving reads it from then on; for anything else take `AudioFile.again`.

        `pose`: idle motion, that of a driving (and its mouth), or None, the model's own; models that hear through
        wav2vec2 have their own and no other. They need that as `encoder`; `window`: see `hearing`.
        """
        if model is not None and _hears_through_wav2vec2(model):
            from .speech import SpeechDriving  # which is a Driving

            if isinstance(pose, Driving):
                raise DrivingError(
                    "this model moves head and eyes as it likes, so controls cannot; drive it by speech alone"
                )
            return SpeechDriving.hearing(audio, model, encoder, window)
        if encoder is not None or window is not None:
            logger.warning("this model does not hear through wav2vec2: the speech encoder and its window are not used")
        beside = _beside_speech(pose, seed)
        waveform = spoken(audio)
        mel = LiveMel(waveform) if isinstance(waveform, LiveAudio) else SpokenMel(waveform)
        return cls(speech=mel, pose=beside.pose, mouth=beside.mouth)

    @classmethod
    def from_speech_features(cls, features: Mapping[str, Any], model: Model) -> Driving:
        """For a model that hears through wav2vec2, from what ComfyUI's Audio Encoder Encode gives: see `HeardLayers`.

        `features` has `encoded_audio_all_layers`, one tensor [B, steps, hidden] a layer, and `audio_samples`, how many
        samples at 16 kHz they were made of.
        """
        from .speech import SpeechDriving  # which is a Driving

        if not _hears_through_wav2vec2(model):
            raise DrivingError(
                "this model does not hear through wav2vec2, so features of it cannot move it; give it the sound itself"
            )
        return SpeechDriving.of_layers(features, model)

    @classmethod
    def from_controls(cls, controls: Any) -> Driving:
        """Array [P, 8], dict of name -> list, dict with keyframes, or the path of a JSON file; see `read_controls`.

        Where only some controls of a group (pose, mouth) are given, its others rest at 0.
        """
        given = read_controls(controls)
        return cls(pose=_group(given, POSE_CONTROLS), mouth=_group(given, MOUTH_CONTROLS))

    def lasting(self, num_pixel_frames: int) -> Driving:
        """The same, cut off there, or carried on: speech falls silent and poses hold."""
        if num_pixel_frames < 1:
            raise DrivingError(f"a driving cannot last {num_pixel_frames} pixel frames; give it 1 or more")
        return replace(self, length=num_pixel_frames)

    def in_whole_chunks(self, start: int, num_chunk_frames: int) -> Driving:
        """The same, until the chunk ends in which it ends, of chunks of so many latent frames from `start` on."""
        return replace(self, chunks=(start, num_chunk_frames))

    def end_within(self, frame: int) -> int | None:
        """`num_pixel_frames`, having read as far as that pixel frame: a file's end turns out on the way."""
        if self.num_pixel_frames is None and self.num_ready_latents is not None:
            assert frame < TEMPORAL * self.num_ready_latents, "sound that still arrives ends when somebody says so"
            self.pixel_signal(np.array([frame]))
        return self.num_pixel_frames

    def __repr__(self) -> str:
        length = self.num_pixel_frames
        lasts = f"{length} pixel frames"
        if length is None:
            lasts = "without end" if self.num_ready_latents is None else "as long as its sound"
        return f"<{type(self).__name__}: {' and '.join(self.given) or 'nothing given'}, {lasts}>"

    @property
    def given(self) -> tuple[str, ...]:
        """Which of FLAGS are given."""
        tracks = zip(FLAGS, (self.speech, self.pose, self.mouth), strict=True)
        return tuple(name for name, track in tracks if track is not None)

    @property
    def num_pixel_frames(self) -> int | None:
        """Until the longest track with an end has ended; None where no track has one, or sound still arrives."""
        length = last_end(self.speech, self.pose, self.mouth) if self.length is None else self.length
        return length if self.chunks is None or length is None else geometry.whole_chunks(*self.chunks, length)

    @property
    def num_latent_frames(self) -> int | None:
        """The fewest latent frames that cover it; None = endless."""
        length = self.num_pixel_frames
        return None if length is None else geometry.num_latent_frames(length)

    @property
    def num_ready_latents(self) -> int | None:
        """Latent frames whose signal can be had by now; None = all. Less only while live sound still arrives."""
        ready = all_ready(self.speech, self.pose, self.mouth)
        return None if ready is None else (ready + TEMPORAL - 1) // TEMPORAL

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        """float32 [F, 4, 75] of latent frames first_latent ..; past the end speech falls silent and poses hold."""
        last_pixel = TEMPORAL * np.arange(first_latent, first_latent + num_latents, dtype=np.int64)
        # latent frame 0 covers pixel frame 0 alone, which fills all four places
        frames = np.maximum(last_pixel[:, None] - np.arange(TEMPORAL - 1, -1, -1), 0)
        return rearrange(self.pixel_signal(frames.reshape(-1)), "(f t) s -> f t s", t=TEMPORAL)

    def pixel_signal(self, frames: np.ndarray) -> Tensor:
        """float32 [P, 75] of those pixel frames."""
        signal = np.zeros((len(frames), SIGNAL_DIM), dtype=np.float32)
        places = ((self.speech, slice(MEL_DIM)), (self.pose, _POSE_COLUMNS), (self.mouth, _MOUTH_COLUMNS))
        for flag, (track, columns) in enumerate(places):
            if track is not None:
                signal[:, columns] = track.at(frames)
                signal[:, _FIRST_FLAG + flag] = 1
        return torch.from_numpy(signal)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: the same on every machine."""
        found = hashlib.sha256(f"length {self.length} {self.chunks} ".encode())
        for name, track in zip(FLAGS, (self.speech, self.pose, self.mouth), strict=True):
            content = b"" if track is None else track.content()
            found.update(f"{name} {len(content)} ".encode() + content)
        return found.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Driving) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


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


def _hears_through_wav2vec2(model: Model) -> bool:
    adapter = model.config.adapter
    if adapter is None:
        raise DrivingError(
            "this model has no driving adapter, so speech cannot move it; load one that has, such as knot-tiny"
        )
    return not takes_controls(adapter)
