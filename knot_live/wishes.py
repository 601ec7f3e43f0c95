"""Controls that were asked for and have not taken hold: a list between those who ask and the thread that draws."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any

from .controls import Cancel, CancelReply, Control
from .preparing import Preparing, Wish

_MOST_WAITING = 10_000


class Wishes:
    """Filled from any thread, emptied by one. `changed` is held for moments, and notified of all that comes.

    `refused` is called with a control's number and a sentence, from any thread; `hooks` are those of `Preparing`.
    """

    def __init__(self, changed: Condition, refused: Callable[[int, str], None], **hooks: Any) -> None:
        self._changed, self._refused = changed, refused
        self._waiting: deque[Wish] = deque()
        self.number, self._closed = 0, False
        self._preparing = Preparing(self._add, refused, **hooks)

    def ask(self, control: Control, number: int | None = None) -> int:
        """The control's number, at once; it is the next one, or that which it was given elsewhere."""
        prepared = self._preparing.takes(control)
        with self._changed:
            self.number = self.number + 1 if number is None else number
            number, refusal = self.number, self._refusal()
            if isinstance(control, CancelReply | Cancel):
                self._preparing.silence(number)
            if refusal is None and not prepared:
                self._add([Wish(number, control)])
        if refusal is not None:
            self._refused(number, refusal)
        elif prepared:
            self._preparing.start(number, control)
        return number

    def ask_itself(self, control: Control) -> None:
        """A control that has no number: nobody asked for it."""
        self._add([Wish(0, control)])

    def take(self, kind: type[Control]) -> Wish | None:
        """The oldest, if it is of that kind."""
        with self._changed:
            return self._waiting.popleft() if self._waiting and isinstance(self._waiting[0].control, kind) else None

    def wait_for(self, kind: type[Control]) -> bool:
        """Whether one of that kind waits."""
        with self._changed:
            return any(isinstance(wish.control, kind) for wish in self._waiting)

    def close(self) -> None:
        """Refuse what waits, and all that is asked from here on."""
        self._preparing.close()
        with self._changed:
            self._closed, waiting = True, tuple(self._waiting)
            self._waiting.clear()
            refusal = self._refusal()
        for wish in waiting:
            self._refused(wish.number, refusal)

    def _refusal(self) -> str | None:
        if self._closed:
            return "the session has ended; begin another"
        if len(self._waiting) >= _MOST_WAITING:
            return f"{_MOST_WAITING} controls wait already; send fewer at a time"
        return None

    def _add(self, wishes: Sequence[Wish]) -> None:
        with self._changed:
            self._waiting.extend(wishes)
            self._changed.notify_all()
