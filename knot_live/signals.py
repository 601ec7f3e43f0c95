"""A network's driving signal, chunk by chunk, from a live timeline and a face: three kinds, for three kinds of models.

Shapes: F latent frames, T = 4 pixel frames of a latent frame, S signal dim, P pixel frames.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np

from .engine import (
    CONTROLS,
    LIVE,
    MEL_DIM,
    MOUTH_CONTROLS,
    SIGNAL_DIM,
    TEMPORAL,
    UNITS_NAME,
    AdapterConfig,
    Driving,
    DrivingError,
    LiveMel,
    Model,
    SpeechEncoder,
    SpeechWindow,
    in_form,
    load_spoken_units,
    spoken_units,
    takes_controls,
)
from .face_motion import FaceMotion
from .sound_timeline import Timeline
from .voice_gate import LOOKS_BACK, voiced

_LEAD, _HANG = 2, 8  # pixel frames around them in which the mouth is the speech's as well
_OPENS, _OPEN_AT_MOST = (-45.0, -10.0), 0.7  # dB of full scale between which a mouth opens, and how far
_OPEN, _WIDE = (CONTROLS.index(name) for name in ("mouth_open", "mouth_wide"))
_SPEECH_FLAG, _POSE_FLAG, _MOUTH_FLAG = range(MEL_DIM + len(CONTROLS), MEL_DIM + len(CONTROLS) + 3)
assert MOUTH_CONTROLS == ("mouth_open", "mouth_wide")


class Signals(Protocol):
    """Draws the signal of latent frames from the timeline, as it is laid now."""

    hears: bool  # whether speech moves it
    moves: bool  # whether controls do

    @property
    def frames_past(self) -> int:
        """Pixel frames past a chunk's that it hears, where they are there."""

    def draw(self, first_latent: int, num_latents: int) -> np.ndarray:
        """float32 [F, T, S]; the first is where the session's next chunk begins."""


def signals_for(
    model: Model, timeline: Timeline, face: FaceMotion, encoder: SpeechEncoder | None, window: SpeechWindow | None
) -> Signals:
    """The signals as the model's adapter wants them.

    Raises:
        DrivingError: it is driven by wav2vec2 features, and there is no encoder, or one that does not fit.
    """
    if model.adapter is None:
        return NoSignals()
    if takes_controls(model.adapter):
        return FaceSignals(timeline, face, model.adapter)
    return HeardSignals(timeline, model, encoder, window or LIVE)


class NoSignals:
    """The signals for a model that nothing but its prompt moves."""

    hears = moves = False
    frames_past = 0

    def draw(self, _first_latent: int, num_latents: int) -> np.ndarray:
        """[F, T, S] zeros."""
        return np.zeros((num_latents, TEMPORAL, SIGNAL_DIM), dtype=np.float32)


class FaceSignals:
    """Speech as log-mel, controls, and flags: while somebody speaks the speech moves the mouth, else the controls.

    A model of units gets speech as units of the mouth as well, as in a recording's driving; but the last frames of a
    knot hear nothing of what follows. A mouth control that somebody sets counts beside the speech. If it is the width
    alone, the mouth opens as loud as the speech is: left at 0, the built-in model opened it by 23 % less than from the
    speech alone.
    """

    hears = moves = True
    frames_past = 0

    def __init__(self, timeline: Timeline, face: FaceMotion, adapter: AdapterConfig) -> None:
        self._timeline, self._face, self._adapter = timeline, face, adapter
        self._mel = LiveMel(timeline)
        self._mel.at(np.zeros(1, dtype=np.int64))  # loads what features are made with, or the first word waits for it
        self._spoken_units = load_spoken_units() if adapter.name == UNITS_NAME else None

    def draw(self, first_latent: int, num_latents: int) -> np.ndarray:
        """float32 [F, T, S]"""
        latents = np.arange(first_latent, first_latent + num_latents, dtype=np.int64)
        # latent frame 0 covers pixel frame 0 alone, which fills all four places
        places = np.maximum(TEMPORAL * latents[:, None] - np.arange(TEMPORAL - 1, -1, -1), 0)
        frames, back = np.unique(places, return_inverse=True)
        return self._rows(frames)[back.reshape(places.shape)]

    def _rows(self, frames: np.ndarray) -> np.ndarray:
        """[P, S] of ascending pixel frames without a gap."""
        rows = np.zeros((len(frames), SIGNAL_DIM), dtype=np.float32)
        controls, mouth_set = self._face.draw(frames)
        spoken = self._spoken(frames)
        mouth = ~spoken | mouth_set.any(axis=1)
        controls[:, _OPEN] = np.where(spoken & ~mouth_set[:, 0], self._opening(frames), controls[:, _OPEN])
        controls[:, [_OPEN, _WIDE]] *= mouth[:, None]
        if spoken.any():
            rows[spoken, :MEL_DIM] = self._mel.at(frames)[spoken]
        rows[:, MEL_DIM : MEL_DIM + len(CONTROLS)] = controls
        rows[:, _SPEECH_FLAG], rows[:, _POSE_FLAG], rows[:, _MOUTH_FLAG] = spoken, 1, mouth
        said = None
        if self._spoken_units is not None and spoken.any():
            first, stop = int(frames[0]), int(frames[-1]) + 1
            said = spoken_units(self._spoken_units, self._mel, first, stop, end=stop)
        return in_form(rows, self._adapter, spoken_PU=said)

    def _opening(self, frames: np.ndarray) -> np.ndarray:
        """How far a voice of that loudness opens the mouth: [P]"""
        quiet, loud = _OPENS
        decibels = 20 * np.log10(self._timeline.levels(int(frames[0]), int(frames[-1]) + 1) + 1e-6)
        return _OPEN_AT_MOST * np.clip((decibels - quiet) / (loud - quiet), 0, 1)

    def _spoken(self, frames: np.ndarray) -> np.ndarray:
        """Whether somebody speaks in a pixel frame, or nearly: bool [P]."""
        first, stop = int(frames[0]), int(frames[-1]) + 1
        loud = voiced(self._timeline.levels(first - _HANG - LOOKS_BACK, stop + _LEAD))
        around = np.lib.stride_tricks.sliding_window_view(loud, _HANG + 1 + _LEAD)
        return around.any(axis=1)


class HeardSignals:
    """States of wav2vec2, of a window of sound around the chunk; what has not arrived yet is heard as silence."""

    hears, moves = True, False

    def __init__(self, timeline: Timeline, model: Model, encoder: SpeechEncoder | None, window: SpeechWindow) -> None:
        self._driving = Driving.from_audio(timeline, model, encoder=encoder, window=window)
        self._window = window

    @property
    def frames_past(self) -> int:
        return self._driving.form.ahead + self._window.ahead

    def draw(self, first_latent: int, num_latents: int) -> np.ndarray:
        """float32 [F, R, V], all of one window."""
        latents = np.arange(first_latent, first_latent + num_latents, dtype=np.int64)
        frames, _ = self._driving.form.frames(latents)
        first, group = int(frames.min()), int(frames.max() - frames.min()) + 1
        window = replace(self._window, group=group)
        # so the frames wanted are one group, number 1; number 0 begins with the stream
        track = replace(self._driving.speech, window=window, phase=first - group)
        return replace(self._driving, speech=track).signal(first_latent, num_latents).numpy()


NOT_HEARD = "this model has no driving adapter, so speech cannot move it: nothing but its prompt does"
NOT_MOVED = "this model takes no controls: head, eyes and mouth follow the speech alone"
NOT_DRIVEN = "this model has no driving adapter, so controls cannot move it: nothing but its prompt does"


def require_speech(signals: Signals) -> None:
    """Raises `DrivingError` where speech moves nothing."""
    if not signals.hears:
        raise DrivingError(NOT_HEARD)


def require_controls(signals: Signals) -> None:
    """Raises `DrivingError` where controls move nothing."""
    if not signals.moves:
        raise DrivingError(NOT_MOVED if signals.hears else NOT_DRIVEN)


def require_no_speech(beneath: Driving | None) -> None:
    """Raises `DrivingError` where what lies beneath a live driving speaks, or is not made of controls."""
    if beneath is None:
        return
    beneath.require_controls("speech cannot lie beneath a live driving; give it by append_speech")
    if beneath.speech is not None:
        raise DrivingError("the driving beneath speaks; give one of controls alone, and speech by append_speech")
