"""A live driving played chunk by chunk, as a session plays it, with a clock that follows what was played."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from knot_core.config import AdapterConfig
from knot_live.live_driving import LiveDriving
from knot_live.speech_queue import SOUND_RATE


@dataclass(frozen=True)
class Portrait:
    """What a live driving is told of a model with the built-in one's adapter."""

    adapter: AdapterConfig | None = field(default_factory=AdapterConfig)
    fps: int = 25
    timing: str = "own"


@dataclass(frozen=True)
class Plan:
    """The part of a chunk's plan that a driving is told."""

    start: int
    num_frames: int
    num_knot_frames: int


class Playing:
    """`driving`, at its next chunk; `seconds` of the clock go on with what is played, and when somebody sets them."""

    def __init__(self, model=None, *, num_frames=3, knot=1, state=None, **options) -> None:
        self.seconds, self.start, self.num_frames, self.knot = 0.0, 0, num_frames, knot
        make = LiveDriving if state is None else lambda model, **others: LiveDriving.from_state(state, model, **others)
        self.driving = make(Portrait() if model is None else model, clock=lambda: self.seconds, **options)
        self.sound: list[np.ndarray] = []

    def begin(self, num_frames=None) -> Tensor:
        """Freeze the next chunk; its signal [F, T, S] and the knot's."""
        plan = Plan(self.start, num_frames or self.num_frames, self.knot)
        self.driving.begin_chunk(plan)
        self._plan = plan
        return self.driving.signal(plan.start, plan.num_frames + plan.num_knot_frames)

    def end(self) -> np.ndarray:
        sound = self.driving.end_chunk()
        self.start += self._plan.num_frames
        self.seconds += len(sound) / SOUND_RATE
        self.sound.append(sound)
        return sound

    def chunk(self, num_frames=None) -> Tensor:
        """[F, T, S] of the chunk's own frames."""
        signal = self.begin(num_frames)
        self.end()
        return signal[: self._plan.num_frames]

    def frames(self, num_chunks: int) -> np.ndarray:
        """Pixel frame by pixel frame: [P, S]"""
        first = self.start
        rows = [row for _ in range(num_chunks) for row in self.chunk().numpy()]
        return np.concatenate([row[-1:] if first + number == 0 else row for number, row in enumerate(rows)])
