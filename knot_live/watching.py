"""The viewer's position, as any thread may ask and tell at any time."""

from collections.abc import Callable
from threading import Condition

from . import pacing
from .clock import Clock
from .pacing import Playback


class Watching:
    """A session's playback over time. `changed` is held for moments, and notified of acknowledgements."""

    def __init__(self, playback: Playback, clock: Clock, changed: Condition) -> None:
        self._playback, self._clock, self._changed = playback, clock, changed

    @property
    def made(self) -> int:
        """Frames are made up to here."""
        return self._playback.made

    @property
    def position(self) -> float:
        """Frames are shown up to here."""
        return self._told(Playback.position)

    @property
    def unplayed(self) -> float:
        """Seconds of pictures that are made and not shown."""
        return self._told(Playback.unplayed)

    @property
    def ratio(self) -> float:
        """The share without stall of the time in which it was shown."""
        return self._told(Playback.ratio)

    def first_replaced(self, seconds: float) -> int:
        """The first frame that can still be replaced by one that leaves in so many seconds."""
        return self._told(lambda playback, now: pacing.first_replaced(playback, now + seconds))

    def add(self, end: int) -> None:
        """Frames up to `end` are made; after a cut that may be fewer than before."""
        self._change(lambda playback, now: playback.with_made(end, now))

    @property
    def transport(self) -> float:
        """Seconds from a picture's decoding here until the viewer can show it."""
        return self._playback.transport

    def acknowledge(self, frame: int, transport: float | None = None) -> None:
        """The viewer has shown that pixel frame; see `Playback.with_transport`, where he says how long that takes."""

        def told(playback: Playback, now: float) -> Playback:
            known = playback if transport is None else playback.with_transport(transport)
            return known.with_acknowledged(frame, now)

        self._change(told)

    def stand(self) -> None:
        """Nothing more is made for now, or it is again: what ran out meanwhile is no stall."""
        self._change(Playback.standing)

    def _told(self, question: Callable[[Playback, float], float]) -> float:
        with self._changed:
            return question(self._playback, self._clock.now())

    def _change(self, change: Callable[[Playback, float], Playback]) -> None:
        with self._changed:
            self._playback = change(self._playback, self._clock.now())
            self._changed.notify_all()
