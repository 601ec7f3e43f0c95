"""The time that a session lives by; tests give it another."""

from threading import Condition
from time import monotonic


class Clock:
    """Seconds since some moment, and waiting."""

    def now(self) -> float:
        return monotonic()

    def wait(self, changed: Condition, seconds: float) -> None:
        """Wait until `changed`, which is held, is notified, or so many seconds have passed."""
        changed.wait(seconds)
