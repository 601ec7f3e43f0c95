"""A session: a stream that is driven while it runs, and drawn as fast as it is watched.

Any thread asks (`apply`, `acknowledge`: see controlled.py); one thread, that which iterates over `chunks`, draws. It
computes with as many threads as the model's size pays for, which is one for a small model, and sleeps while nothing is
to be drawn: browser and encoder share the processor.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from . import controls, events, pacing
from .clock import Clock
from .controlled import Controlled
from .controls import Control, DrivingControl
from .drawn_chunks import DrawnChunk
from .engine import (
    Model,
    StateError,
)
from .events import ENDED, FINISHING, PAUSED, RUNNING, MediaChunk
from .joint_drawing import Steps, alone
from .session_files import load_session, restored

_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.05  # seconds, between two looks whether the host stops the session


class Session(Controlled):
    """One live session. It has ended when `chunks` has; what ended it otherwise than as asked is raised there."""

    repeating = False  # whether it does again what was done elsewhere

    @classmethod
    def resume(cls, path: str | os.PathLike[str], model: Model, **options: Any) -> "Session":
        """Go on, bit for bit, from what `save` wrote; `options` as when it was made, but for the seed.

        `encoder` and `window` as in `LiveDriving`, for models that are driven by wav2vec2 features.

        Raises:
            StateError: the files are none of a session, damaged, or of another model.
        """
        at, notes = load_session(path, model)
        clock = options.setdefault("clock", Clock())
        session = cls(model, at.anchor, at.settings, **restored(at, notes, model, clock.now, options))
        session._wishes.number, session._epoch = notes["number"], notes["epoch"]
        return session

    def chunks(self, wait: Callable[[], None] | None = None) -> Iterator[MediaChunk]:
        """Draw, in this thread, until the session ends. `wait` is called again and again meanwhile, and may raise."""
        with self.running(wait):
            while (seconds := self.until_due()) is not None:
                if seconds > 0:
                    self._sleep()
                elif (chunk := self.step()) is not None:
                    yield chunk

    @contextmanager
    def running(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """For whoever draws several sessions in turn: within it, `until_due` and `step`, in one thread at a time."""
        self._wait = wait or self._wait
        self._enter(RUNNING)
        try:
            with self._drawing:
                yield
        except Exception as problem:
            if not self._host_stops:
                self._ending = "error", f"the session cannot go on: {problem}"
            raise
        finally:
            self._end(*self._ending)

    def until_due(self) -> float | None:
        """Do what was asked; seconds until the next chunk should begin to be drawn, and None where the session ends."""
        while True:
            self._look()
            self._heed(Control)
            if (ending := self._why_it_ends()) is not None:
                self._ending = ending
                return None
            with self._changed:
                if not self._wishes.wait_for(Control):
                    return self._seconds_until_due()

    def rest(self) -> float:
        """Seconds for which there is nothing to do here unless `changed` is notified, which is held meanwhile."""
        return 0.0 if self._wishes.wait_for(Control) else self._seconds_until_due()

    def _why_it_ends(self) -> tuple[str, str] | None:
        """Reason and sentence, or None: another chunk is to be drawn."""
        if self._state == FINISHING:
            return "finished", "the session was finished"
        if self._drawing.stream.finished:
            return "driving", "what drives the session has come to its end"
        longest = self._drawing.next.first >= self._last_frame
        return ("longest", "the session has lasted as long as it may") if longest else None

    def _sleep(self) -> None:
        """Until the next chunk is due, or something was asked; not longer than the host can wait for an answer."""
        with self._changed:
            seconds = self.rest()
            if seconds > 0:
                self._clock.wait(self._changed, min(max(seconds, _SHORTEST_WAIT), _LONGEST_WAIT))

    def _seconds_until_due(self) -> float:
        if self._state == PAUSED:
            return inf
        if self._cutting:
            return 0.0
        return self._watching.unplayed - self._drawing.lead(self._watching.transport)

    def _look(self) -> None:
        """Give the host its chance to stop the session."""
        self._host_stops = True
        self._wait()
        self._host_stops = False

    def step(self, waited: float = 0.0) -> MediaChunk | None:
        """Draw the next chunk now; None where it was given up, or nothing of it can be shown in time."""
        return alone(self.steps(waited))

    def steps(self, waited: float = 0.0) -> Steps[MediaChunk | None]:
        """The same, for `alone` or `together`. It was due `waited` seconds ago, and others were drawn since."""
        with self._between:
            self._before_chunk(self._drawing.stream)
            unplayed = (self._drawing.next.first - self._watching.position) / self.fps
            drawn = yield from self._drawing.draw(unplayed, self._watching.transport, waited)
            if drawn is None:
                return None
            self._book(drawn.span)
        span = drawn.span
        first = span.first
        if self._cutting:
            first = max(first, int(min(self._wanted, self._watching.first_replaced(self._drawing.undecoded))))
        if first >= span.end:
            return None
        buffer = self._watching.unplayed
        self._watching.add(span.end)
        if self._cutting:
            self._begin_epoch(first)
        shown = self._shown(drawn, first, buffer)
        if self.degrades and (rung := self._drawing.other_rung(drawn)) is not None:
            self.apply(controls.Degrade(rung))
        return shown

    def _shown(self, drawn: DrawnChunk, first: int, buffer: float) -> MediaChunk:
        """A chunk from that frame on, as it is given; `buffer` seconds were unplayed when it was ready."""
        span, frames = drawn.span, drawn.frames[first - drawn.span.first :]
        skipped = pacing.first_sample(first, self.fps) - pacing.first_sample(span.first, self.fps)
        sound, speech = drawn.sound[skipped:], max(0, drawn.speech - skipped)
        self._recorder.shown.add(first, frames, sound)
        self._recorder.hand_on(int(self._watching.position))
        return MediaChunk(
            epoch=self._epoch, chunk=span.chunk, first_frame=first, frames=frames, sound=sound, speech=speech,
            applied=self._receipts.take(), seconds=drawn.seconds, buffer=buffer, every=self.adapting.rung.every,
        )  # fmt: skip

    def _breaks_off(self) -> bool:
        """Asked before each stage of a chunk: whether it is given up, to be drawn under what was asked meanwhile."""
        self._look()
        self._heed(DrivingControl)
        chunk = self._drawing.next.chunk
        length = self._drawing.again(self._watching.unplayed, self._watching.transport)
        if chunk == self._drawn_again or self._cutting or length is None:
            return False
        urgent = self._wishes.wait_for(controls.Cancel) or self._drawing.would_speak(
            length, committed=self._receipts.committed
        )
        if urgent or (self._receipts.urgent and chunk > self._drawn_again + 1):
            self._drawn_again = chunk
            self._drawing.draw_in_place(length)
            return True
        return False

    def _end(self, reason: str, message: str) -> None:
        self._wishes.close()
        self._recorder.end(self._watching.made)
        if self._state_path is not None and reason in ("error", "stopped"):
            try:
                self.save(self._state_path)
            except (StateError, RuntimeError) as problem:  # a device that failed may not give its tensors back
                message = f"{message}; and its state could not be saved: {problem}"
        self._enter(ENDED)
        self._tell(events.Ended(reason, message))
