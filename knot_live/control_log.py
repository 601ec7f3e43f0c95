"""A log of a session's controls and when each took hold: enough to drive a stream the same way again."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .controls import Control, Speech, from_json

MOST_ENTRIES = 10_000
MOST_SOUND = 32 * 2**20  # bytes


@dataclass(frozen=True)
class LogEntry:
    """A control by its number, and the chunk and its first pixel frame with which it took hold.

    Entries stand in the order in which that happened. `taken_back`: that chunk and later ones had been made, so many,
    and were cut; `stay`: the chunk before it was cut short to so many latent frames;
    `knot`: the knot before it was dropped.
    """

    number: int
    control: Control
    chunk: int
    frame: int
    taken_back: int = 0
    stay: int = 0
    knot: bool = False

    def to_json(self) -> str:
        """One line."""
        return json.dumps(vars(self) | {"control": self.control.to_json()})

    @classmethod
    def of_json(cls, line: str) -> "LogEntry":
        """The reverse."""
        values: Mapping[str, Any] = json.loads(line)
        return cls(**{**values, "control": from_json(values["control"])})


class ControlLog:
    """The last entries, oldest first; what is older is dropped, so that it never grows beyond a bound."""

    def __init__(self) -> None:
        self._entries: deque[LogEntry] = deque()
        self._num_bytes = 0
        self.num_dropped = 0

    def __iter__(self) -> Iterator[LogEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: LogEntry) -> None:
        self._entries.append(entry)
        self._num_bytes += _sound_bytes(entry)
        while len(self._entries) > MOST_ENTRIES or self._num_bytes > MOST_SOUND:
            self._num_bytes -= _sound_bytes(self._entries.popleft())
            self.num_dropped += 1


def _sound_bytes(entry: LogEntry) -> int:
    return entry.control.samples.nbytes if isinstance(entry.control, Speech) else 0
