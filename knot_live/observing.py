"""Figures of sessions: each session's own, and observers of all of them, such as `server_metrics.py`."""

from collections.abc import Iterable, Mapping

from .pacing import PATIENCE, Playback


class Observer:
    """Told of what sessions do, in the loop's thread; this one takes no note."""

    def began(self) -> None:
        """A session was made."""

    def refused(self, code: str) -> None:
        """Count a session that was refused with this code."""

    def ended(self, reason: str) -> None:
        """A session has ended."""

    def drew(self, worker: str, seconds: Mapping[str, float]) -> None:
        """A worker has drawn a chunk: seconds by stage, and "chunk" of all."""

    def moved(self, seconds: float) -> None:
        """A session was lost with its worker, or left it, and so long after goes on in another one."""

    def answered(self, seconds: float) -> None:
        """Count a control whose first pictures are sent so long after it was received."""


class SessionFigures:
    """How well one session is seen, as far as its server knows: by what it sent, and what the driver acknowledged.

    Times `now` are seconds of one clock.
    """

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._playback: Playback | None = None  # from the first pictures on
        self._asked: dict[int, float] = {}  # when controls were received, by number

    def asked(self, number: int, now: float) -> None:
        """A control was received."""
        self._asked[number] = now

    def forget(self, number: int) -> None:
        """Forget a control that is not done."""
        self._asked.pop(number, None)

    def sent(self, first_frame: int, end: int, now: float) -> None:
        """Pictures were sent, so that the client has them up to `end`."""
        playback = self._playback or Playback.at(first_frame, self._fps, PATIENCE * self._fps)
        self._playback = playback.with_made(end, now)

    def answers(self, applied: Iterable[int], now: float) -> list[float]:
        """Seconds since the receipt of these controls."""
        return [now - self._asked.pop(number) for number in applied if number in self._asked]

    def acknowledged(self, frame: int, now: float) -> None:
        """The driver has shown that frame."""
        if self._playback is not None:
            self._playback = self._playback.with_acknowledged(frame, now)

    def cut(self, first_frame: int, now: float) -> None:
        """Frames from that one on were sent, and are not shown."""
        if self._playback is not None:
            self._playback = self._playback.with_made(min(first_frame, self._playback.made), now)

    def stand(self, now: float) -> None:
        """Nothing more is sent for now, or it is again: what runs out meanwhile is no stall."""
        if self._playback is not None:
            self._playback = self._playback.standing(now)

    def ratio(self, now: float) -> float:
        """The share without stall of the time in which it played; 1 before that."""
        return 1.0 if self._playback is None else self._playback.ratio(now)

    def unplayed(self, now: float) -> float:
        """Seconds of pictures that were sent and are not shown yet."""
        return 0.0 if self._playback is None else self._playback.unplayed(now)
