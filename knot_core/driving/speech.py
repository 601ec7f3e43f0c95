"""Driving of networks that take wav2vec2 features: which pixel frames' features each latent frame gets, and how.

Latent frame f covers pixel frames 4f - 3 .. 4f, the first one pixel frame 0 alone.

Shapes: F latent frames, R entries of a latent frame, V = values of an entry, P pixel frames, L layers, H hidden dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..config import WINDOWS as WINDOWS_ADAPTER
from ..errors import DrivingError
from ..geometry import TEMPORAL
from ..media import Audio, AudioFile
from .audio import SAMPLE_RATE
from .spoken_sound import spoken
from .tracked import Drivable, TrackedDriving
from .tracks import Track
from .wav2vec import SpeechEncoder
from .wav2vec_windows import LIVE, RECORDED, HeardLayers, Hearing, SpeechWindow
from .waveform import LiveAudio, Waveform

_HALF_WINDOW = 2  # pixel frames that InfiniteTalk hears to either side of each of its own


def last_and_all_states(states_PLH: Tensor) -> Tensor:
    """[P, 1 + L, H] -> [P, (L + 2) H]: the last layer, then all from the input on (LiveTalk, OmniAvatar)."""
    return torch.cat([states_PLH[:, -1:], states_PLH], dim=1).flatten(1)


def layer_states(states_PLH: Tensor) -> Tensor:
    """[P, 1 + L, H] -> [P, L H]: every layer, without what entered them (MultiTalk, InfiniteTalk)."""
    return states_PLH[:, 1:].flatten(1)


def packed_frames(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[F] -> [F, 4] pixel frames, and which count: its own four, the first latent frame's one four times."""
    frames = np.maximum(TEMPORAL * latents[:, None] + np.arange(1 - TEMPORAL, 1), 0)
    return frames, np.full(frames.shape, True)


def packed_late(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[F] -> [F, 4] pixel frames, and which count: those before its own four; the first latent frame hears none."""
    frames = TEMPORAL * latents[:, None] + np.arange(-TEMPORAL, 0)
    return np.maximum(frames, 0), frames >= 0


def window_frames(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[F] -> [F, 8] pixel frames, and which count: its own four with two on either side; the first: five, then none.

    In MultiTalk's words: windows of five, of which the first of four gives 3, the middle two 1 each, the last 3.
    """
    frames = TEMPORAL * latents[:, None] + np.arange(1 - TEMPORAL - _HALF_WINDOW, 1 + _HALF_WINDOW)
    counts = np.full(frames.shape, True)
    first = latents == 0
    frames[first] = np.minimum(np.arange(frames.shape[1]) - _HALF_WINDOW, _HALF_WINDOW)
    counts[first] = np.arange(frames.shape[1]) <= 2 * _HALF_WINDOW
    return np.maximum(frames, 0), counts


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form in which a family is fed speech."""

    name: str
    choose: Callable[[Tensor], Tensor]  # of wav2vec2's states
    extra_states: int  # beside the layers': (layers + this) * hidden dim values come out
    frames: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    ahead: int  # pixel frames past its own that a latent frame hears


PACKED = Form(name="packed", choose=last_and_all_states, extra_states=2, frames=packed_frames, ahead=0)
LATE = Form(name="late", choose=last_and_all_states, extra_states=2, frames=packed_late, ahead=0)  # OmniAvatar
WINDOWS = Form(name="windows", choose=layer_states, extra_states=0, frames=window_frames, ahead=_HALF_WINDOW)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SpeechDriving(TrackedDriving):
    """A driving whose only track is speech, as wav2vec2 features; the model generates all motion from it."""

    speech: Track
    form: Form
    pose: ClassVar[None] = None
    mouth: ClassVar[None] = None

    @classmethod
    def hearing(
        cls,
        audio: Audio | AudioFile | Waveform,
        model: Drivable,
        encoder: SpeechEncoder | None,
        window: SpeechWindow | None,
    ) -> SpeechDriving:
        """Driving from sound; its features are computed when the stream asks for them.

        Raises:
            DrivingError: no encoder is given, or the encoder does not fit the model.
        """
        form = _form(model)
        if encoder is None:
            raise DrivingError(
                "this model is driven by wav2vec2 features; load an encoder with load_speech_encoder(FOLDER), give it "
                "as encoder (--speech-encoder FOLDER)"
            )
        _check_width(model, form, encoder.num_layers, encoder.hidden_dim)
        live, waveform = isinstance(audio, LiveAudio), spoken(audio)
        track = Hearing(
            waveform=waveform,
            encoder=encoder,
            window=window or (LIVE if live else RECORDED),
            samples_per_frame=_samples_per_frame(model),
            phase=1 + form.ahead,
            choose=form.choose,
            spread=not live and waveform.num_samples is not None and model.timing == "spread",
        )
        return cls(speech=track, form=form)

    @classmethod
    def of_layers(cls, features: Mapping[str, Any], model: Drivable) -> SpeechDriving:
        """Driving from a host's features; see `Driving.from_speech_features`.

        Raises:
            DrivingError: the features are incomplete, or do not fit the model.
        """
        form = _form(model)
        try:
            layers, num_samples = (
                [layer[0] for layer in features["encoded_audio_all_layers"]],
                features["audio_samples"],
            )
            shapes = {tuple(layer.shape) for layer in layers}
            (_, hidden_dim), *others = shapes
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as problem:
            raise DrivingError(
                "these are no features of a wav2vec2: they lack encoded_audio_all_layers, or audio_samples; "
                "use ComfyUI's Audio Encoder Encode with wav2vec2-base"
            ) from problem
        if others or num_samples < 1:
            raise DrivingError(
                f"the speech features are of shapes {shapes} and {num_samples} samples; all layers must be "
                "of one shape, and of at least one sample"
            )
        _check_width(model, form, len(layers) - 1, hidden_dim)
        track = HeardLayers(
            layers_NH=tuple(layers),
            num_samples=int(num_samples),
            samples_per_frame=_samples_per_frame(model),
            choose=form.choose,
            spread=model.timing == "spread",
        )
        return cls(speech=track, form=form)

    @property
    def tracks(self) -> Mapping[str, Track | None]:
        return {"speech": self.speech}

    def require_controls(self, otherwise: str) -> None:
        """Refuse an operation that needs controls.

        Raises:
            DrivingError: always, with the message `otherwise`: speech features are not controls.
        """
        raise DrivingError(otherwise)

    @property
    def num_ready_latents(self) -> int | None:
        """The number of latent frames whose signal is available now; None: all."""
        ready = self.speech.num_ready
        return None if ready is None else max(0, ready - self.form.ahead + TEMPORAL - 1) // TEMPORAL

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        """The signal of latent frames from `first_latent` on, float32 [F, R, V]."""
        latents = np.arange(first_latent, first_latent + num_latents, dtype=np.int64)
        frames, counts = self.form.frames(latents)
        end = self.speech.end_within(int(frames.max()) + 1)
        if end is not None:  # what a latent frame of the sound looks ahead to does not go past it
            frames = np.minimum(frames, np.maximum(end - 1, TEMPORAL * latents)[:, None])
        wanted, places = np.unique(frames, return_inverse=True)
        values = self.pixel_signal(wanted)
        signal = values[torch.from_numpy(places.reshape(frames.shape))]
        return signal * torch.from_numpy(counts)[..., None]

    def pixel_signal(self, frames: np.ndarray) -> Tensor:
        """float32 [P, V] of those pixel frames."""
        return torch.from_numpy(self.speech.at(frames))


def _form(model: Drivable) -> Form:
    form = WINDOWS if model.adapter.name == WINDOWS_ADAPTER else PACKED
    form = LATE if form is PACKED and model.timing == "late" else form
    entries = form.frames(np.zeros(1, dtype=np.int64))[0].shape[1]
    if model.adapter.num_packed != entries:
        raise DrivingError(
            f"this model takes {model.adapter.num_packed} entries a latent frame; speech is made into "
            f"{entries} here: use another model"
        )
    return form


def _check_width(model: Drivable, form: Form, num_layers: int, hidden_dim: int) -> None:
    made, wanted = (num_layers + form.extra_states) * hidden_dim, model.adapter.signal_dim
    if made != wanted:
        raise DrivingError(
            f"this model takes {wanted} numbers a pixel frame, a speech encoder of {num_layers} layers of "
            f"{hidden_dim} makes {made}; for 10752 use wav2vec2-base-960h, for 9216 "
            "chinese-wav2vec2-base"
        )


def _samples_per_frame(model: Drivable) -> int:
    if SAMPLE_RATE % model.fps:
        raise DrivingError(
            f"this model makes {model.fps} pixel frames a second, which does not divide {SAMPLE_RATE} Hz; "
            "set its fps to 16 or 25"
        )
    return SAMPLE_RATE // model.fps
