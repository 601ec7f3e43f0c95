"""Streams that run now, and who may ask something of them: whoever was sent their token.

The token goes to the client that queued the prompt, over its own websocket, with everything that is told of the stream.
"""

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from ...knot_core.stream import StreamControl


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """One stream that runs, its name, and what opens it."""

    control: StreamControl = field(default_factory=StreamControl)
    stream: str = field(default_factory=lambda: uuid4().hex)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def opened_by(self, token: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(self.token.encode(), token.encode("utf-8", "replace"))


_running: dict[str, Controlled] = {}  # the server's threads meet here; entries live as long as their stream runs


@contextmanager
def controlled() -> Iterator[Controlled]:
    """A new stream, which can be controlled until it ends."""
    one = Controlled()
    _running[one.stream] = one
    try:
        yield one
    finally:
        del _running[one.stream]


def running_stream(stream: str) -> Controlled | None:
    return _running.get(stream)
