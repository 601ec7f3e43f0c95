"""A session: a stream that is driven while it runs, and drawn as fast as it is watched.

Any thread asks (`apply`, `acknowledge`); one thread, that which iterates over `chunks`, draws. What is asked waits in a
list until that thread stands between two chunks, so that asking never waits for drawing. The drawing thread computes
with as many threads as the model's size pays for, which is one for a small model, and sleeps while nothing is to be
drawn: browser and encoder share the processor.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf
from threading import Condition, RLock
from typing import Any

import numpy as np

from . import controls, pacing
from .clock import Clock
from .control_log import ControlLog, LogEntry
from .controls import Control, DrivingControl
from .engine import Anchor, Chunk, Driving, Model, Stream, StreamSettings, open_stream
from .events import (
    ENDED,
    FINISHING,
    PAUSED,
    READY,
    RUNNING,
    Applied,
    Cut,
    Ended,
    Event,
    MediaChunk,
    Refused,
    StateChanged,
)
from .pacing import Playback, Span
from .preparing import Preparing, Speaker, Wish

_MOST_WAITING = 10_000  # controls that nobody has heeded yet
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.05  # seconds, between two looks whether the host stops the session


class Session:
    """One live session. It has ended when `chunks` has; what ended it otherwise than as asked is raised there."""

    def __init__(  # noqa: PLR0913 - the public door; all but the first three may be left out
        self,
        model: Model,
        anchor: Anchor,
        settings: StreamSettings,
        *,
        seed: int = 0,
        beneath: Driving | None = None,
        driving: Any = None,
        encode_text: Callable[[str], Any] | None = None,
        anchor_of: Callable[[str], Anchor] | None = None,
        speak: Speaker | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
        longest: float = inf,
        viewer: bool = True,
        keep: int = 2,
        clock: Clock | None = None,
    ) -> None:
        """A session before its first chunk.

        `beneath` moves the portrait where nothing else does; `driving` takes the place of the usual `LiveDriving`, and
        has its methods. `encode_text` encodes a prompt, `anchor_of` a picture by
        its name, `speak` makes sound of a sentence: they are called on a thread of their own. `on_event` is called from
        any thread and must return at once. `longest` is in seconds of pictures. `viewer` off: nobody acknowledges, and
        the clock plays. `keep` chunks can be taken back.
        """
        self.model, self.fps, self.log = model, model.fps, ControlLog()
        self.driving = _live_driving(model, beneath, seed) if driving is None else driving
        self.stream: Stream = open_stream(
            model, anchor, settings, self.driving, seed, should_stop=self._breaks_off, num_kept=keep
        )
        self._tell, self._clock, self._longest = on_event, clock or Clock(), longest * self.fps
        self._between = RLock()  # held while a chunk is drawn, or what it begins with is changed
        self._changed = Condition()  # held for moments only, of what follows here
        self._wishes: deque[Wish] = deque()
        self._number, self._state = 0, READY
        patience = float(self._next_span().end - self._next_span().first) if viewer else inf
        self._playback = Playback.at(self._next_span().first, self.fps, patience)
        self._preparing = Preparing(
            self._ask, lambda number, why: self._tell(Refused(number, why)),
            encode_text=encode_text, anchor_of=anchor_of, speak=speak,
        )  # fmt: skip
        # the drawing thread's own
        self._wait: Callable[[], None] = lambda: None
        self._host_stops = False
        self._heeded: list[Wish] = []  # while a chunk is drawn: they take hold with the next
        self._applied: list[int] = []  # numbers for the next chunk that is given
        self._made: deque[Span] = deque(maxlen=keep)
        self._taken: deque[float] = deque(maxlen=pacing.NUM_MEASURED)  # seconds of the last chunks
        self._epoch, self._cutting, self._drawn_again = 0, False, -1

    @property
    def state(self) -> str:
        """`ready`, `running`, `paused`, `finishing` or `ended`."""
        return self._state

    @property
    def play_ratio(self) -> float:
        """Of the time in which it was shown, the share without stall, by acknowledgements and made frames."""
        with self._changed:
            return self._playback.ratio(self._clock.now())

    def apply(self, control: Control) -> int:
        """Ask for something; returns its number at once. `Applied` or `Refused` is told of that number later."""
        with self._changed:
            self._number += 1
            number, refusal = self._number, self._refusal()
            if refusal is None and not self._preparing.takes(control):
                self._ask([Wish(number, control)])
        if refusal is not None:
            self._tell(Refused(number, refusal))
        elif self._preparing.takes(control):
            self._preparing.start(number, control)
        return number

    def acknowledge(self, epoch: int, frame: int) -> None:  # noqa: ARG002 - frames are counted on over epochs
        """The viewer has shown that pixel frame: drawing keeps in step with him."""
        with self._changed:
            self._playback = self._playback.with_acknowledged(frame, self._clock.now())
            self._changed.notify_all()

    def chunks(self, wait: Callable[[], None] | None = None) -> Iterator[MediaChunk]:
        """Draw, in this thread, until the session ends. `wait` is called again and again meanwhile, and may raise."""
        self._wait = wait or self._wait
        self._enter(RUNNING)
        reason, message = "stopped", "the host has stopped the session"
        try:
            while (ended := self._end_before_next_chunk()) is None:
                chunk = self._next_chunk()
                if chunk is not None:
                    yield chunk
            reason, message = ended
        except Exception as problem:
            if not self._host_stops:
                reason, message = "error", f"the session cannot go on: {problem}"
            raise
        finally:
            self._end(Ended(reason, message))

    def _refusal(self) -> str | None:
        if self._state == ENDED:
            return "the session has ended; begin another"
        if len(self._wishes) >= _MOST_WAITING:
            return f"{_MOST_WAITING} controls wait already; send fewer at a time"
        return None

    def _ask(self, wishes: Sequence[Wish]) -> None:
        with self._changed:
            self._wishes.extend(wishes)
            self._changed.notify_all()

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._tell(StateChanged(state))

    def _end_before_next_chunk(self) -> tuple[str, str] | None:
        """None once it is time to draw another chunk, else why there is none: reason and sentence."""
        while True:
            self._look()
            self._heed(Control)
            if self._state == FINISHING:
                return "finished", "the session was finished"
            if self.stream.finished:
                return "driving", "what drives the session has come to its end"
            if self._next_span().first >= self._longest:
                return "longest", f"the session has lasted {self._longest / self.fps:g} s, as long as it may"
            with self._changed:
                seconds = self._seconds_until_due()
                if seconds <= 0 and not self._wishes:
                    return None
                if not self._wishes:
                    self._clock.wait(self._changed, min(max(seconds, _SHORTEST_WAIT), _LONGEST_WAIT))

    def _look(self) -> None:
        """Give the host its chance to stop the session."""
        self._host_stops = True
        self._wait()
        self._host_stops = False

    def _seconds_until_due(self) -> float:
        if self._state == PAUSED:
            return inf
        lead = pacing.lead(self._taken, self._seconds_of(self._next_span()))
        return 0.0 if self._cutting else self._playback.unplayed(self._clock.now()) - lead

    def _next_span(self) -> Span:
        plan = self.stream.plan
        return Span.of_latents(plan.chunk, plan.start, plan.num_frames)

    def _seconds_of(self, span: Span) -> float:
        return (span.end - span.first) / self.fps

    def _heed(self, kind: type[Control]) -> None:
        """Do what was asked, in its order, as far as it is of that kind."""
        while True:
            with self._changed:
                if not self._wishes or not isinstance(self._wishes[0].control, kind):
                    return
                wish = self._wishes.popleft()
            with self._between:
                try:
                    self._do(wish.control, wish.made)
                except ValueError as problem:
                    self._tell(Refused(wish.number, str(problem)))
                else:
                    self._heeded.append(wish)
            if kind is Control:
                self._book()

    def _book(self) -> None:
        """What was heeded takes hold with the next chunk."""
        span = self._next_span()
        for wish in self._heeded:
            self.log.add(LogEntry(wish.number, wish.control, span.chunk, span.first))
            if wish.number not in self._applied:
                self._applied.append(wish.number)
                self._tell(Applied(wish.number, span.chunk, span.first))
        self._heeded = []

    def _do(self, control: Control, made: Any) -> None:
        match control:
            case DrivingControl():
                control.drive(self.driving)
            case controls.Prompt():
                self.stream.set_text(made)
            case controls.Reference():
                self.stream.set_anchor(made, cut=control.cut)
            case controls.Settings():
                changed = self.stream.settings.to_dict() | dict(control.changes)
                self.stream.set_settings(StreamSettings.from_dict(changed))
                self._taken.clear()  # a chunk may take longer now
            case controls.Cancel():
                self._cut(control.played_frame)
            case controls.Pause() if self._state == RUNNING:
                self._stand()
                self._enter(PAUSED)
            case controls.GoOn() if self._state == PAUSED:
                self._stand()
                self._enter(RUNNING)
            case controls.Finish():
                self._enter(FINISHING)

    def _stand(self) -> None:
        with self._changed:
            self._playback = self._playback.standing(self._clock.now())

    def _cut(self, played_frame: int) -> None:
        """Silence: go back to before the chunk that can still be seen anew, and draw it without speech."""
        now = self._clock.now()
        with self._changed:
            self._playback = self._playback.with_acknowledged(played_frame, now)
            drawn = pacing.drawn_within(self._taken, self._seconds_of(self._next_span()))
            count = pacing.num_cut(self._made, self._playback.position(now), drawn, self.fps)
        self.driving.clear_speech()
        if count:
            taken_back = [self._made.pop() for _ in range(count)][-1]
            self.stream.take_back(count)
            self.driving.take_back(taken_back.start)
            self.log.take_back(taken_back.chunk, taken_back.first)
            self._cutting = True
        elif not self._cutting:
            self._begin_epoch(self._playback.made)

    def _begin_epoch(self, first_frame: int) -> None:
        self._epoch, self._cutting = self._epoch + 1, False
        self._tell(Cut(self._epoch, first_frame))

    def _next_chunk(self) -> MediaChunk | None:
        """Draw a chunk; None where it was broken off, or nothing of it can be shown in time."""
        with self._between:
            plan, since = self.stream.plan, self._clock.now()
            self.driving.begin_chunk(plan)
            chunk = next(self.stream, None)
            self._book()
            if chunk is None:
                return None
            sound = self.driving.end_chunk()
        now = self._clock.now()
        if chunk.index > 0:  # the first one also warms up
            self._taken.append(now - since)
        return self._given(chunk, sound, now - since)

    def _given(self, chunk: Chunk, sound: np.ndarray, seconds: float) -> MediaChunk | None:
        first = chunk.first_pixel_frame
        span = Span(chunk.index, chunk.start_frame, first, first + len(chunk.pixel_frames))
        self._made.append(span)
        with self._changed:
            now = self._clock.now()
            shown = pacing.first_replaced(self._playback, now) if self._cutting else first
            if shown >= span.end:
                return None
            shown, buffer = max(shown, first), self._playback.unplayed(now)
            self._playback = self._playback.with_made(span.end, now)
        if self._cutting:
            self._begin_epoch(shown)
        applied, self._applied = tuple(self._applied), []
        return MediaChunk(
            epoch=self._epoch,
            chunk=chunk.index,
            first_frame=shown,
            frames=chunk.pixel_frames[shown - first :].numpy(),
            sound=sound[pacing.first_sample(shown, self.fps) - pacing.first_sample(first, self.fps) :],
            applied=applied,
            seconds={**chunk.seconds, "chunk": seconds},
            buffer=buffer,
        )

    def _breaks_off(self) -> bool:
        """Asked before each stage of a chunk: whether it is given up, to be drawn under what was asked meanwhile."""
        self._look()
        self._heed(DrivingControl)
        with self._changed:
            if any(isinstance(wish.control, controls.Cancel) for wish in self._wishes):
                return True
            unplayed = self._playback.unplayed(self._clock.now())
        begins_to_speak = not self.driving.speaking and self.driving.speech_waiting > 0
        chunk = self.stream.plan.chunk
        if begins_to_speak and chunk != self._drawn_again and pacing.may_be_drawn_again(self._taken, unplayed):
            self._drawn_again = chunk
            return True
        return False

    def _end(self, ended: Ended) -> None:
        self._preparing.close()
        with self._changed:
            self._wishes.clear()
        self._enter(ENDED)
        self._tell(ended)


def _live_driving(model: Model, beneath: Driving | None, seed: int) -> Any:
    from .driving import LiveDriving

    return LiveDriving(model, beneath=beneath, seed=seed)
