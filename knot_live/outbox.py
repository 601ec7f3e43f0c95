"""Messages that wait for one client. A client that does not read fills its own outbox, and nothing else."""

import asyncio
from collections import deque
from collections.abc import Sequence


class Outbox:
    """Messages in order, within bounds; put and taken in the event loop's thread."""

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._waiting: deque[str | bytes] = deque()
        self._num_bytes, self._there = 0, asyncio.Event()
        self.closed = False

    @property
    def num_messages(self) -> int:
        """The number of messages that wait."""
        return len(self._waiting)

    def put(self, messages: Sequence[str | bytes]) -> bool:
        """All of them, or none if they are too many; whether there was room."""
        size = sum(map(len, messages))
        if self.closed:
            return True
        if len(self._waiting) + len(messages) > self._most_messages or self._num_bytes + size > self._most_bytes:
            return False
        self._waiting.extend(messages)
        self._num_bytes += size
        self._there.set()
        return True

    async def take(self) -> str | bytes | None:
        """The next one, waited for; None once it is closed and empty."""
        while not self._waiting and not self.closed:
            self._there.clear()
            await self._there.wait()
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self._num_bytes -= len(message)
        return message

    def close(self) -> None:
        """Take no more messages; those that wait are still sent."""
        self.closed = True
        self._there.set()

    def drop(self) -> None:
        """Forget what waits, and close."""
        self._waiting.clear()
        self._num_bytes = 0
        self.close()
