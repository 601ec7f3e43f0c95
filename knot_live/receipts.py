"""Controls that were heeded, and the chunk with which they take hold: what is told and written down of that."""

from collections.abc import Callable

from .chunk_lengths import NOTHING, TakenBack
from .control_log import ControlLog, LogEntry
from .controls import ChunkLength, CommitSpeech, Degrade
from .events import Applied, Event
from .pacing import Span
from .preparing import Wish


class Receipts:
    """The drawing thread's own; `tell` is told of what takes hold, and `degraded` says what of another rung."""

    def __init__(self, tell: Callable[[Event], None], degraded: Callable[[Span], Event]) -> None:
        self.log, self._tell, self._degraded = ControlLog(), tell, degraded
        self._was_shorter = False
        self._heeded: list[tuple[Wish, TakenBack]] = []  # for the next chunk; and what was taken back for it
        self._applied: dict[int, None] = {}  # their numbers, for the next chunk that is given

    def heed(self, wish: Wish, taken_back: TakenBack = NOTHING) -> None:
        """Note that a control was done, and what was taken back for it."""
        self._heeded.append((wish, taken_back))

    def take_back(self, taken_back: TakenBack) -> None:
        """Chunks were taken back for what takes hold next."""
        (wish, _), *others = self._heeded
        self._heeded = [(wish, taken_back), *others]

    @property
    def heeded(self) -> bool:
        """Whether anything takes hold next."""
        return bool(self._heeded)

    @property
    def committed(self) -> bool:
        """Whether the end of a sentence is among what takes hold next."""
        return any(isinstance(wish.control, CommitSpeech) for wish, _ in self._heeded)

    @property
    def urgent(self) -> bool:
        """Whether something that somebody waits to see is among it."""
        return any(wish.control.urgent for wish, _ in self._heeded)

    def book(self, span: Span) -> None:
        """Record that the controls at hand take hold with that chunk."""
        wishes, self._heeded = self._heeded, []
        for wish, taken_back in wishes:
            self.log.add(LogEntry(wish.number, wish.control, span.chunk, span.first, *taken_back))
            if isinstance(wish.control, Degrade):
                self._tell(self._degraded(span))
            elif wish.number not in self._applied:
                self._applied[wish.number] = None
                self._tell(Applied(wish.number, span.chunk, span.first))

    def note_length(self, span: Span, num_latents: int, asked: int) -> None:
        """The chunk was drawn, of so many latent frames instead of `asked`, or of as many again."""
        if num_latents != asked or self._was_shorter:
            self.log.add(LogEntry(0, ChunkLength(num_latents), span.chunk, span.first))
        self._was_shorter = num_latents != asked

    def take(self) -> tuple[int, ...]:
        """The numbers of what has taken hold since it was asked last."""
        applied, self._applied = tuple(self._applied), {}
        return applied
