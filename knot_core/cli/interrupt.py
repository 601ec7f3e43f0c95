"""Ctrl-C, and what it asks a command to do."""

import signal
from types import FrameType

INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended


class Interrupt:
    """The first Ctrl-C asks to stop, the second one stops."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
