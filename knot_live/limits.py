"""How much one client, and all of them together, may ask of a server."""

from dataclasses import dataclass

from .engine import SettingsError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Counts, seconds, bytes and pixels; an operator's to change.

    Raises:
        SettingsError: one is not above 0.
    """

    max_sessions: int = 2
    max_viewers: int = 16  # of one session
    max_connections: int = 128  # of all kinds, those that have not said yet what they want among them
    opening_seconds: float = 10.0  # in which a connection's first message must come
    heartbeat_seconds: float = 15.0  # between pings; half of it without an answer ends the connection
    idle_seconds: float = 600.0  # without anything that a person does
    session_seconds: float = 3600.0
    resume_seconds: float = 30.0  # that a session outlives its connection
    recording_seconds: float = 3600.0  # that a recording outlives its session
    messages_per_second: float = 200.0  # of one connection, and four times that at once
    bytes_per_second: float = 2.0**21  # of one connection, and eight times that at once: speech comes faster than life
    max_message_bytes: int = 2**20
    max_waiting_bytes: int = 2**22  # made for a connection that does not read
    max_waiting_messages: int = 600
    picture_bytes: int = 10 * 2**20
    picture_pixels: int = 2**24
    max_pictures: int = 64  # uploaded ones; older ones are forgotten

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise SettingsError(f"{name.replace('_', '-')} is {value:g}; it must be above 0")

    def told(self) -> dict[str, float]:
        """The limits that a client should know."""
        return {
            "message_bytes": self.max_message_bytes,
            "messages_per_second": self.messages_per_second,
            "bytes_per_second": self.bytes_per_second,
            "picture_bytes": self.picture_bytes,
            "picture_pixels": self.picture_pixels,
            "viewers": self.max_viewers,
            "idle_seconds": self.idle_seconds,
            "session_seconds": self.session_seconds,
            "resume_seconds": self.resume_seconds,
        }


class RateLimit:
    """A bucket that fills at `rate` a second up to `most`; taking more than is in it is refused."""

    def __init__(self, rate: float, most: float) -> None:
        self._rate, self._most, self._level, self._at = rate, most, most, 0.0

    def take(self, amount: float, now: float) -> bool:
        """Whether there was so much at the time `now`, in seconds of any clock that never goes back."""
        if self._at:
            self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        if amount > self._level:
            return False
        self._level -= amount
        return True
