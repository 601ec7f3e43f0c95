"""A stream and its driving in step: chunks with their sound, how long they take, and the way back.

All of it is the drawing thread's.

Shapes: S samples.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from . import pacing
from .clock import Clock
from .engine import Chunk, Stream, StreamSettings
from .pacing import Span


class Drawn(NamedTuple):
    """A chunk, where it lies, the sound [S] that it was moved by, and the seconds that it took."""

    chunk: Chunk
    span: Span
    sound: np.ndarray
    seconds: float


class Drawing:
    """`driving` is a `LiveDriving`, and moves the stream. The last `keep` chunks can be taken back."""

    def __init__(self, stream: Stream, driving: Any, fps: int, clock: Clock, keep: int) -> None:
        self.stream, self.driving, self._fps, self._clock = stream, driving, fps, clock
        self._made: deque[Span] = deque(maxlen=keep)
        self._taken: deque[float] = deque(maxlen=pacing.NUM_MEASURED)  # seconds of the last chunks

    @property
    def next(self) -> Span:
        """The chunk that comes next, or is under way."""
        plan = self.stream.plan
        return Span.of_latents(plan.chunk, plan.start, plan.num_frames)

    @property
    def lead(self) -> float:
        """Seconds of pictures that must lie ready when the next chunk begins."""
        return pacing.lead(self._taken, self.next.length / self._fps)

    def draw(self) -> Drawn | None:
        """The next chunk; None where it was given up, which leaves all as it was."""
        plan, since = self.stream.plan, self._clock.now()
        self.driving.begin_chunk(plan)
        chunk = next(self.stream, None)
        if chunk is None:
            self.driving.take_back(plan.start)
            return None
        sound, seconds, first = self.driving.end_chunk(), self._clock.now() - since, chunk.first_pixel_frame
        span = Span(chunk.index, chunk.start_frame, first, first + len(chunk.pixel_frames))
        self._made.append(span)
        if plan.chunk > 0:  # the first one also warms up
            self._taken.append(seconds)
        return Drawn(chunk, span, sound, seconds)

    def change(self, settings: Mapping[str, Any]) -> None:
        """Other settings from the next chunk on; the rest stay.

        Raises:
            SettingsError: one of them cannot be, or cannot change while a stream runs.
        """
        self.stream.set_settings(StreamSettings.from_dict(self.stream.settings.to_dict() | dict(settings)))
        self._taken.clear()  # chunks may take longer now

    def fall_silent(self, played_frame: int, position: float) -> int:
        """Forget all speech; how many chunks were taken back, to be drawn again without what of it is not played.

        `played_frame` was shown last; `position` frames are, when this is asked.
        """
        drawn = pacing.drawn_within(self._taken, self.next.length / self._fps)
        count = pacing.num_cut(self._made, position, drawn, self._fps)
        self.driving.clear_speech()
        if count:
            first = [self._made.pop() for _ in range(count)][-1]
            self.stream.take_back(count)
            self.driving.take_back(first.start, heard_until=played_frame + 1)
        return count

    def can_begin_again(self, unplayed: float) -> bool:
        """Whether the chunk under way can be given up and drawn again while `unplayed` seconds of pictures last."""
        return pacing.may_be_drawn_again(self._taken, unplayed)

    def would_speak(self, *, committed: bool) -> bool:
        """Whether the chunk under way is silent and would not be if it began now; `committed`: no more speech comes."""
        if self.driving.speaking:
            return False
        plan, waiting = self.stream.plan, self.driving.speech_waiting
        heard = Span.of_latents(plan.chunk, plan.start, plan.num_frames + plan.num_knot_frames).length / self._fps
        return waiting > (0 if committed else heard)
