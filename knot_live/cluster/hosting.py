"""A session in a worker: drawn by the worker's ticker, encoded in a thread, and all that it gives waits in an outlet.

Raw pictures never leave the process.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import replace
from math import inf
from threading import Condition
from typing import Any

from ..adapting import Adapting
from ..controls import Control
from ..engine import Stream, stream_parts
from ..events import Cut, Event, MediaChunk
from ..joint_drawing import Steps, alone
from ..journal import Step
from ..media_encoder import ChunkEncoder, EncodedChunk, EncoderThread
from ..session import Session
from ..sources import broken
from ..ticker import Ticker
from .checkpoints import Checkpoint, Parts, delta, flattened
from .failover import Lost

logger = logging.getLogger(__name__)

CHUNK, EVENT, STEP, CHECKPOINT, BEGUN, FAILED, ENDED, LEFT = (
    "chunk", "event", "step", "checkpoint", "begun", "failed", "ended", "left"
)  # fmt: skip
Item = tuple[str, Any]
_MOVING = 0.9  # seconds of pictures that a viewer should have when his session leaves: until it is drawn elsewhere
_MOST_AHEAD = 2  # chunks that are drawn for that at most
_KEPT_PIECES = 48  # encoded, for a gateway that was restarted


class Outlet:
    """A queue of messages for one gateway; `woken` is called from any thread."""

    def __init__(self, items: list[Item], woken: Callable[[], None]) -> None:
        self._items, self._lock, self._woken = deque(items), threading.Lock(), woken
        self._closed = False

    def put(self, item: Item) -> None:
        """One more."""
        with self._lock:
            self._items.append(item)
        self._woken()

    def take(self) -> list[Item] | None:
        """All that waits; None where nothing does, and nothing will."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
            return None if self._closed and not items else items

    def close(self) -> None:
        """Another one has taken its place, or all is said."""
        with self._lock:
            self._closed = True
        self._woken()


class Hosted:
    """One session of a worker, which `open_session` makes; its `ticker` draws it.

    A checkpoint leaves before every `every` chunks; `packing` is one thread that packs them. `lost`: where it stood.
    """

    def __init__(
        self,
        open_session: Callable[["Hosted", Condition], Session],
        encoder: ChunkEncoder,
        ticker: Ticker,
        packing: Executor,
        every: int,
        lost: Lost | None = None,
    ) -> None:
        self._encoder, self._ticker, self._packing, self._every = encoder, ticker, packing, every
        self._lock = threading.Lock()  # of what follows
        self._outlet: Outlet | None = None
        self._num_steps, self._epoch, self._number = 0, 0, 0
        self._last: Checkpoint | None = None
        self._parts: Parts = {}
        self._steps: deque[tuple[int, Step]] = deque()  # since the last checkpoint
        if lost is not None:
            self._stand_at(lost)
        self._recent: deque[EncodedChunk] = deque(maxlen=_KEPT_PIECES)
        self._due, self._muted = 0, False
        self._ahead: int | None = None  # chunks that are drawn yet before it leaves; None: it stays
        self._over = threading.Event()
        self._drawn: EncoderThread | None = None  # from the first `attach` on
        self.session = open_session(self, ticker.changed)

    def _stand_at(self, lost: Lost) -> None:
        """For a gateway that is restarted before there is a checkpoint of its own."""
        self._num_steps, self._epoch = lost.num_steps, lost.epoch
        if lost.checkpoint is not None:
            self._last = replace(lost.checkpoint, tensors=lost.parts, whole=True)
            first = lost.num_steps - len(lost.steps)
            self._steps = deque(enumerate(lost.steps, start=first))

    def write(self, step: Step) -> None:
        """The session's journal."""
        with self._lock:
            self._steps.append((self._num_steps, step))
            self._put((STEP, (self._num_steps, step)))
            self._num_steps += 1

    def tell(self, event: Event) -> None:
        """The session's events."""
        with self._lock:
            if self._muted:
                return
            if isinstance(event, Cut):
                self._epoch = event.epoch
            self._put((EVENT, event))

    def before_chunk(self, stream: Stream) -> None:
        """Called in the thread that draws, between two chunks."""
        chunk = stream.plan.chunk
        if chunk >= self._due or chunk < self._due - self._every:
            self._due = chunk + self._every
            self._checkpoint()

    def apply(self, number: int, control: Control) -> None:
        """Ask the session; any thread."""
        self._number = max(self._number, number)
        self.session.apply(control, number)

    def attach(self, woken: Callable[[], None], *, fresh: bool) -> Outlet:
        """All that comes from here on, and first what a `fresh` gateway must know. The first call begins to draw."""
        with self._lock:
            if self._outlet is not None:
                self._outlet.close()
            self._outlet = Outlet(self._known() if fresh else [], woken)
        if self._drawn is None:
            self._drawn = EncoderThread(self._encoder, self._show, lambda problem: self._say((FAILED, broken(problem))))
            self._ticker.add(self, self._drawn.put, self._end)
        return self._outlet

    def _known(self) -> list[Item]:
        known: list[Item] = [] if self._last is None else [(CHECKPOINT, self._last)]
        known += [(STEP, step) for step in self._steps]
        return [*known, (BEGUN, (self._number, self._epoch)), *((CHUNK, chunk) for chunk in self._recent)]

    def leave(self) -> None:
        """End between two chunks, with a last checkpoint, so that it goes on elsewhere; the viewer gets pictures for
        the time that this takes first.
        """
        with self._ticker.changed:
            self._ahead = _MOST_AHEAD
            self._ticker.changed.notify_all()

    @property
    def alive(self) -> bool:
        """Whether it is drawn, or will be."""
        return not self._over.is_set()

    # what the ticker asks for

    @property
    def unplayed(self) -> float:
        """As `Session.unplayed`."""
        return self.session.unplayed

    @property
    def adapting(self) -> Adapting:
        """As `Session.adapting`."""
        return self.session.adapting

    def running(self) -> AbstractContextManager[None]:
        """As `Session.running`."""
        return self.session.running()

    def until_due(self) -> float | None:
        """As `Session.until_due`; None as well where it leaves."""
        seconds = self.session.until_due()
        if seconds is None or self._ahead is None or self.session.repeating:
            return seconds
        if self._ahead > 0 and 0 < self.session.unplayed < _MOVING and seconds < inf:
            return 0.0
        self._muted = True  # it does not end
        self._checkpoint()
        return None

    def rest(self) -> float:
        """As `Session.rest`."""
        return self.session.rest() if self._ahead is None else 0.0

    def step(self, waited: float = 0.0) -> MediaChunk | None:
        """As `Session.step`."""
        return alone(self.steps(waited))

    def steps(self, waited: float = 0.0) -> Steps[MediaChunk | None]:
        """As `Session.steps`."""
        if self._ahead is not None and not self.session.repeating:
            self._ahead -= 1
        return (yield from self.session.steps(waited))

    def _put(self, item: Item) -> None:
        if self._outlet is not None:
            self._outlet.put(item)

    def _show(self, chunk: EncodedChunk) -> None:
        with self._lock:
            self._recent.append(chunk)
            self._put((CHUNK, chunk))

    def _end(self, problem: Exception | None) -> None:
        """On a thread of the ticker, or where it could not begin."""
        last: Item = (ENDED, ("finished", "the session was finished"))
        if problem is not None:
            last = (ENDED, broken(problem))
        elif self._muted:
            last = (LEFT, None)
        self._over.set()
        self._drawn.close()
        self._packing.submit(self._say_last, last)  # behind the last checkpoint

    def _say(self, item: Item) -> None:
        with self._lock:
            self._put(item)

    def _say_last(self, item: Item) -> None:
        self._say(item)
        with self._lock:
            if self._outlet is not None:
                self._outlet.close()

    def _checkpoint(self) -> None:
        since = time.perf_counter()
        snapshot, notes = self.session.checkpoint()
        with self._lock:
            steps = self._num_steps
        chunk = snapshot.state.clock.chunk
        self._packing.submit(self._pack, chunk, steps, snapshot, notes, time.perf_counter() - since)

    def _pack(self, chunk: int, steps: int, snapshot: Any, notes: Any, taken: float) -> None:
        """Beside the drawing: one after the other, since each is what the next is compared with."""
        try:
            since = time.perf_counter()
            header, tensors = stream_parts(snapshot)
            parts = flattened(tensors)
            changed = delta(self._parts, parts)
            about = {"chunk": chunk, "steps": steps, "header": header, "notes": notes}
            seconds = taken, time.perf_counter() - since
            sent = Checkpoint(**about, tensors=changed, whole=not self._parts, seconds=seconds)
            with self._lock:
                self._parts = parts
                self._last = Checkpoint(**about, tensors=parts, whole=True, seconds=seconds)
                while self._steps and self._steps[0][0] < steps:
                    self._steps.popleft()
                self._put((CHECKPOINT, sent))
        except Exception:  # nobody waits for it: the session is drawn on, and less of it is safe
            logger.exception("a checkpoint is left out")
