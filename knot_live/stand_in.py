"""A stream that idles at the pace it is watched, until the session takes its place."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import controls
from .engine import Anchor, Driving, Model, StreamSettings, open_stream
from .events import Applied, Ended, Event, MediaChunk, StateChanged


class StandIn:
    """What the server needs of a session, and nothing that is driven."""

    def __init__(self, model: Model, anchor: Anchor, settings: StreamSettings, *, seed: int = 0) -> None:
        self._stream = open_stream(model, anchor, settings, Driving.idle(seed), seed)
        self._lock, self._wishes, self._number = threading.Condition(), [], 0
        self._paused, self._finish, self._frame = False, False, -1
        self._clock: float | None = None
        self.tell: Callable[[Event], None] = lambda _: None

    def apply(self, control: Any) -> int:
        with self._lock:
            self._number += 1
            if isinstance(control, controls.Pause | controls.GoOn):
                self._paused = isinstance(control, controls.Pause)
                self.tell(StateChanged("paused" if self._paused else "running"))
            self._finish = self._finish or isinstance(control, controls.Finish)
            self._wishes.append(self._number)
            self._lock.notify_all()
            return self._number

    def acknowledge(self, _: int, frame: int) -> None:
        with self._lock:
            self._frame = frame
            self._lock.notify_all()

    def chunks(self) -> Iterator[MediaChunk]:
        made, number = 0, 0
        self.tell(StateChanged("running"))
        while self._wait(made):
            with self._lock:
                wishes, self._wishes = self._wishes, []
            for wish in wishes:
                self.tell(Applied(wish, number, made))
            since = time.monotonic()
            frames = next(self._stream).pixel_frames.numpy()
            yield MediaChunk(
                epoch=0, chunk=number, first_frame=made, frames=frames, sound=np.zeros(960 * len(frames), np.float32),
                applied=tuple(wishes), seconds={"chunk": time.monotonic() - since}, buffer=0.0,
            )  # fmt: skip
            made, number = made + len(frames), number + 1
        self.tell(Ended("finished", "the session was finished"))

    def _wait(self, made: int) -> bool:
        with self._lock:
            while not self._finish and (self._paused or made - self._played(made) > 12):
                self._lock.wait(0.02)
            return not self._finish

    def _played(self, made: int) -> int:
        now = time.monotonic()
        self._clock = now if self._clock is None else self._clock
        return min(made, max(self._frame, int((now - self._clock) * 25)))
