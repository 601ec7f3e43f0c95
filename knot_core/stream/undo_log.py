"""Undo of a stream's last chunks: the state before each, and the keys and values that its commit overwrote."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..cache import Overwritten
from ..errors import SettingsError
from .snapshot import StreamState

MOST_KEPT = 64  # each takes the memory of a chunk's keys and values


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """The state of a stream before a chunk."""

    state: StreamState
    overwritten: Overwritten | None  # by the chunk's commit; None: the window was dropped since, by a cut


class UndoLog:
    """The last chunks of one stream, as many as were asked for."""

    def __init__(self) -> None:
        self._chunks: deque[Before] = deque(maxlen=0)

    @property
    def wanted(self) -> bool:
        """Whether any chunk is to be kept."""
        return self._chunks.maxlen != 0

    def keep(self, num_chunks: int) -> None:
        """From now on keep so many; of those kept so far the last stay.

        Raises:
            SettingsError: the number is negative, or more than anybody has memory for.
        """
        if not 0 <= num_chunks <= MOST_KEPT:
            raise SettingsError(f"{num_chunks} chunks are to be kept; it must be between 0 and {MOST_KEPT}")
        self._chunks = deque(self._chunks, maxlen=num_chunks)

    def add(self, state: StreamState, overwritten: Overwritten | None) -> None:
        """A chunk was committed: the state before it, and what was overwritten."""
        self._chunks.append(Before(state=state, overwritten=overwritten))

    def drop_windows(self) -> None:
        """The stream begins anew: of the window before that nothing is needed any more."""
        self._chunks = deque((replace(chunk, overwritten=None) for chunk in self._chunks), self._chunks.maxlen)

    @property
    def last(self) -> Before:
        """The last chunk's; it stays kept.

        Raises:
            SettingsError: nothing is.
        """
        (before,) = self.take(1)
        self._chunks.append(before)
        return before

    def take(self, num_chunks: int) -> Sequence[Before]:
        """The last chunks, the very last first; they are kept no longer.

        Raises:
            SettingsError: fewer are kept.
        """
        if not 0 <= num_chunks <= len(self._chunks):
            raise SettingsError(
                f"{num_chunks} chunks are to be taken back, and {len(self._chunks)} are kept; call keep with the "
                "number that is wanted before they are drawn"
            )
        return [self._chunks.pop() for _ in range(num_chunks)]
