"""Pause, go on and finish, for somebody who watches a stream; they take effect between two chunks."""

from collections.abc import Callable
from threading import Condition

PAUSE, GO_ON, FINISH = "pause", "go_on", "finish"
ACTIONS = (PAUSE, GO_ON, FINISH)
RUNNING, PAUSED, FINISHING = "running", "paused", "finishing"

_SECONDS_BETWEEN_LOOKS = 0.05  # at whether the host stops the stream, while it is paused


class StreamControl:
    """Asked from any thread; heeded by the one that takes the chunks, which asks `goes_on` after each."""

    def __init__(self) -> None:
        self._changed, self._state = Condition(), RUNNING

    @property
    def state(self) -> str:
        """`running`, `paused` or `finishing`, as it was asked; a chunk under way is made to its end all the same."""
        return self._state

    @property
    def finishing(self) -> bool:
        """Whether the stream is to end after the chunk at hand."""
        return self._state == FINISHING

    def ask(self, action: str) -> str:
        """The state after `pause`, `go_on` or `finish`. Finishing is never taken back."""
        assert action in ACTIONS, action
        with self._changed:
            if not self.finishing:
                self._state = {PAUSE: PAUSED, GO_ON: RUNNING, FINISH: FINISHING}[action]
            self._changed.notify_all()
            return self._state

    def goes_on(self, while_paused: Callable[[], None]) -> bool:
        """Whether there is to be another chunk; to be asked after each that was shown.

        Waits as long as the stream is paused, and calls `while_paused` about 20 times a second; what that raises, a
        host's stop say, ends the wait.
        """
        while self._state == PAUSED:
            while_paused()
            with self._changed:
                self._changed.wait_for(lambda: self._state != PAUSED, _SECONDS_BETWEEN_LOOKS)
        return not self.finishing
