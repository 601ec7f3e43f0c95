"""`LiveDriving`: a stream's driving that people and programs change while it plays.

Wishes come from any thread, and the newest wins. What a chunk is drawn under is frozen at its beginning and stays so:
frames that were drawn have the same signal whenever it is asked for again. Two drivings that are told the same between
the same chunks, with clocks that say the same, give the same signals bit for bit.

Shapes: F latent frames, T pixel frames of a latent frame, S signal dim.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .engine import Adapter, Driving, DrivingError, Model, SpeechEncoder, SpeechWindow, first_pixel_frame
from .face_motion import FaceMotion
from .gestures import ChosenGesture
from .signals import require_controls, require_no_speech, require_speech, signals_for
from .sound_bytes import from_text, to_text
from .speech_queue import SOUND_RATE, Laid
from .voice import HeardVoice

HISTORY = 64  # latent frames whose signal is kept: 10 seconds


class Plan(Protocol):
    """The part of a `ChunkPlan` that is needed here, in latent frames."""

    start: int
    num_frames: int
    num_knot_frames: int


@dataclass(frozen=True, kw_only=True)
class _Frozen:
    """The driving of the chunk at hand, fixed when it begins."""

    start: int  # latent frames
    stop: int  # of its own
    laid: Laid
    gestures: tuple[ChosenGesture, ...]
    speaking: bool


class LiveDriving:
    """Speech that arrives, eight controls, a camera's pose, gestures, and idle motion beneath all of it.

    `beneath`: what moves head, eyes and mouth where nobody does, in place of idle motion of that `seed`. `encoder` and
    `window`: for models that are driven by wav2vec2 features, as in `Driving.from_audio`. `clock`: seconds.
    """

    num_pixel_frames = None  # it never ends

    def __init__(
        self,
        model: Model,
        *,
        beneath: Driving | None = None,
        seed: int = 0,
        encoder: SpeechEncoder | None = None,
        window: SpeechWindow | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require_no_speech(beneath)
        if SOUND_RATE % model.fps:
            raise DrivingError(
                f"this model makes {model.fps} pixel frames a second, which does not divide {SOUND_RATE} Hz"
            )
        self.seed, self.fps = seed, model.fps
        self._per_frame = SOUND_RATE // model.fps
        self._clock, self._lock = clock, threading.RLock()
        self._face = FaceMotion(beneath, seed, model.fps)
        self._voice = HeardVoice(self._per_frame)
        self._signals = signals_for(model, self._voice.timeline, self._face, encoder, window)
        if beneath is not None:
            require_controls(self._signals)
        self._next: int | None = None  # latent frame with which the next chunk begins; None: not begun
        self._frozen: _Frozen | None = None
        self.spoken = 0  # samples of the last chunk, from its first on, that were speech; what was heard before is not
        self._drawn: dict[int, np.ndarray] = {}  # latent frame -> [T, S]

    # from any thread

    def set_controls(self, values: Mapping[str, float | None]) -> None:
        """Hold these controls from the next chunk on; None gives one back to what lies beneath.

        Raises:
            DrivingError: an unknown control, or a value that it cannot have; then nothing changes.
        """
        require_controls(self._signals)
        with self._lock:
            self._face.set_controls(values)

    def set_pose(self, values: Mapping[str, float]) -> None:
        """Set the controls that a camera saw, clipped to their ranges; they move what `set_controls` does not hold.

        Raises:
            DrivingError: an unknown control, or a value that is no number; then nothing changes.
        """
        require_controls(self._signals)
        with self._lock:
            self._face.set_pose(values, self._clock())

    def gesture(self, name: str, strength: float = 1.0) -> None:
        """Begin one of `GESTURES` with the next chunk.

        Raises:
            DrivingError: there is none of that name, or the strength is not from 0 to 2.
        """
        require_controls(self._signals)
        with self._lock:
            self._face.gesture(name, strength)

    def look(self, x: float, y: float) -> None:
        """Look at a point of the viewer's picture for a moment, from -1 to 1: x to the right, y up.

        Raises:
            DrivingError: the point lies outside.
        """
        require_controls(self._signals)
        with self._lock:
            self._face.look(x, y)

    def set_liveliness(self, value: float) -> None:
        """How much of the idle motion is shown, from 0 to 1; a driving beneath is shown as it is.

        Raises:
            DrivingError: it lies outside.
        """
        require_controls(self._signals)
        with self._lock:
            self._face.set_liveliness(value)

    def set_beneath(self, beneath: Driving | None) -> None:
        """Set the driving beneath, which moves what nobody else does, from the next chunk on; eased; None: it idles.

        Raises:
            DrivingError: it speaks, or this model takes no controls; then nothing changes.
        """
        require_controls(self._signals)
        require_no_speech(beneath)
        with self._lock:
            self._face.set_beneath(beneath)

    def append_speech(self, samples: Any, sample_rate: int, mode: str = "reply") -> None:
        """More speech, [S] or [C, S], int16 or float of full scale 1; see `speech_queue` for when it is heard.

        `mode` "reply": played in full, in order. "mirror": what comes more than 200 ms late is dropped.

        Raises:
            KnotError: it is no sound, or too much waits already; then nothing changes.
        """
        require_speech(self._signals)
        with self._lock:
            self._voice.append(samples, sample_rate, mode, self._clock())

    def commit_speech(self) -> None:
        """Say that the appended speech is complete: no more of it is waited for."""
        require_speech(self._signals)
        with self._lock:
            self._voice.commit(self._clock())

    def clear_speech(self) -> None:
        """Forget what waits. What a chunk at hand was given stays its own."""
        with self._lock:
            self._voice.clear()

    @property
    def speech_waiting(self) -> float:
        """Seconds of speech that no chunk has played."""
        with self._lock:
            return self._voice.waiting / SOUND_RATE

    @property
    def mirrors(self) -> bool:
        """Whether a microphone's voice comes, which the face mirrors."""
        with self._lock:
            return self._voice.mirrors

    @property
    def speaking(self) -> bool:
        """Whether the chunk at hand plays speech."""
        frozen = self._frozen
        return frozen is not None and frozen.speaking

    # from the session's thread, between chunks

    def begin_chunk(self, plan: Plan) -> None:
        """Freeze what this chunk is drawn under, with what is there now. Of one that began already: anew.

        Raises:
            DrivingError: it begins before what is kept, or not where the last one ended.
        """
        stop = plan.start + plan.num_frames
        if self._next is None:
            self._next = plan.start
            self._voice.timeline.begin(first_pixel_frame(plan.start) * self._per_frame)
        if plan.start < self._next:
            self.take_back(plan.start)
        if plan.start > self._next:
            raise DrivingError(f"a chunk begins at latent frame {plan.start}, and the last one ended at {self._next}")
        first, own, end = (first_pixel_frame(latent) for latent in (plan.start, stop, stop + plan.num_knot_frames))
        with self._lock:
            now = self._clock()
            wishes = self._face.wishes(now)
            laid = self._voice.lay(own - first, end - own, self._signals.frames_past, now)
        self._voice.timeline.lay(laid.sound)
        self._face.begin(first, own, wishes)
        drawn = self._signals.draw(plan.start, plan.num_frames + plan.num_knot_frames)
        self._drawn = {latent: row for latent, row in self._drawn.items() if latent < plan.start}
        self._drawn |= {plan.start + number: row for number, row in enumerate(drawn)}
        self._frozen = _Frozen(
            start=plan.start, stop=stop, laid=laid, gestures=wishes.gestures, speaking=self._voice.speaks(laid)
        )

    def end_chunk(self) -> np.ndarray:
        """The chunk is kept. Gives its sound, float32 [S] at `SOUND_RATE`: exactly what its frames were moved by."""
        frozen = self._frozen
        assert frozen is not None, "a chunk ends that did not begin"
        first, own = first_pixel_frame(frozen.start), first_pixel_frame(frozen.stop)
        sound = self._voice.timeline.play((own - first) * self._per_frame)
        with self._lock:
            self._voice.take(frozen.laid, len(sound))
            self._face.keep(first_pixel_frame(max(0, frozen.stop - HISTORY)), frozen.gestures)
        self.spoken = sum(take.silent * (take.own > 0) + take.own for take in frozen.laid.taken)
        self._next, self._frozen = frozen.stop, None
        self._drawn = {latent: row for latent, row in self._drawn.items() if latent >= frozen.stop - HISTORY}
        return sound

    def take_back(self, start_latent: int, heard_until: int | None = None) -> None:
        """Chunks from that latent frame on are cut. Controls stay; the sound they played is dropped for good.

        `heard_until`: of their sound, what lies before that pixel frame was heard, and stays where it was; speech that
        waits begins behind the chunk in which it ends, or that begins there. None: nothing was, and it begins at once.

        Raises:
            DrivingError: that is longer ago than what is kept.
        """
        if self._next is None or start_latent > self._next or start_latent < self._next - HISTORY // 2:
            raise DrivingError(
                f"latent frame {start_latent} cannot be taken back; the next chunk begins at {self._next}"
            )
        first = first_pixel_frame(start_latent)
        cut = self._voice.timeline.cut(first * self._per_frame)
        heard = None if heard_until is None else max(0, heard_until - first) * self._per_frame
        with self._lock:
            self._face.take_back(first)
            if start_latent < self._next:
                self._voice.take_back(cut, heard)
        self._drawn = {latent: row for latent, row in self._drawn.items() if latent < start_latent}
        self._next, self._frozen = start_latent, None

    # as the stream's driving

    def for_adapter(self, adapter: Adapter | None) -> "LiveDriving":
        """Itself: it was made for its model."""
        if (adapter is not None) != self._signals.hears:
            raise DrivingError("this live driving was made for another model; make one with LiveDriving(model)")
        return self

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        """float32 [F, T, S] of the chunk at hand with its knot, and of some ten seconds before it.

        Raises:
            DrivingError: a latent frame is not frozen yet, or longer ago than what is kept.
        """
        try:
            rows = [self._drawn[latent] for latent in range(first_latent, first_latent + num_latents)]
        except KeyError as missing:
            raise DrivingError(f"the signal of latent frame {missing} is not there: begin_chunk freezes those of a "
                               f"chunk, and the last {HISTORY} are kept") from None  # fmt: skip
        return torch.from_numpy(np.stack(rows))

    # states

    def to_state(self) -> Mapping[str, Any]:
        """Between two chunks: values that JSON holds, so that a saved session goes on."""
        assert self._frozen is None, "a chunk is at hand; end it first, or take it back"
        with self._lock:
            drawn = sorted(self._drawn)
            shape = list(self._drawn[drawn[0]].shape) if drawn else [0, 0]
            return {
                "seed": self.seed,
                "now": self._clock(),
                "next": self._next,
                "drawn": {"latents": drawn, "shape": shape, "values": [to_text(self._drawn[one]) for one in drawn]},
                "face": self._face.to_state(),
                "voice": self._voice.to_state(),
            }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], model: Model, **others: Any) -> "LiveDriving":
        """A driving that goes on from `to_state`, of the same model; `others` as when it was made, but for the seed."""
        self = cls(model, seed=state["seed"], **others)
        drawn = state["drawn"]
        values = [from_text(text).reshape(drawn["shape"]) for text in drawn["values"]]
        self._next, self._drawn = state["next"], dict(zip(drawn["latents"], values, strict=True))
        later = self._clock() - state["now"] if "now" in state else None
        self._face.restore(state["face"], later)
        self._voice.restore(state["voice"], self._clock(), later)
        return self
