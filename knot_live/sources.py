"""Sources of a session's encoded chunks and events: a session of this process, or of another one."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol

from .events import Event, MediaChunk
from .media_encoder import ChunkEncoder, EncodedChunk, EncoderThread, Formats
from .messages import Vocabulary
from .ticker import Ticker

logger = logging.getLogger(__name__)

Why = tuple[str, str]  # reason and sentence of a session's end


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Whom a source tells; each function may be called from any thread, and returns at once."""

    show: Callable[[EncodedChunk], None]
    tell: Callable[[Event], None]
    fail: Callable[[Why], None]  # the session must be ended, because its chunks cannot be encoded
    ended: Callable[[Why], None]  # nothing comes any more
    moved: Callable[[float], None]  # another worker draws it now, after so many seconds


class Source(Protocol):
    """One session as its clients' server sees it."""

    formats: Formats
    worker: str  # the name of what draws it, for figures and logs
    checkpointed: float | None  # monotonic seconds: when its newest checkpoint came; None: there is none

    def listen(self, audience: Audience) -> None:
        """Tell these of all that comes from here on; called once, before `start`."""

    def start(self) -> None:
        """Begin to draw."""

    def apply(self, control: Any) -> int:
        """Ask for something; its number at once."""

    def acknowledge(self, epoch: int, frame: int, transport: float | None = None) -> None:
        """The driver has shown that pixel frame; see `Session.acknowledge`."""

    def want(self, name: str) -> None:
        """Encode chunks in that format, too, from the next one on."""

    async def wait(self) -> None:
        """Until nothing runs any more that was started."""


class DrawnSession(Protocol):
    """A session as a hub needs it: `Session` is one."""

    def apply(self, control: Any) -> int: ...

    def acknowledge(self, epoch: int, frame: int, transport: float | None = None) -> None: ...

    def chunks(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Made:
    """A session as a studio makes it, and what its clients are told of it."""

    session: DrawnSession
    width: int
    height: int
    fps: int
    words: Vocabulary
    about: Mapping[str, Any] = field(default_factory=dict)  # of session.created
    listen: Callable[[Callable[[Event], None]], None] = lambda _: None  # hand its events to that function
    ticker: Ticker | None = None  # draws it in turn with others; None: it has a thread of its own
    identity: tuple[str, str, str] | None = None  # session id, resume token, view token, where it has them already

    def source(self) -> "LocalSource":
        """The source that shows the session."""
        return LocalSource(self)


class LocalSource:
    """A session that is drawn in a thread of this process, by a ticker or alone, and encoded in another one."""

    worker, checkpointed = "local", None

    def __init__(self, made: Made) -> None:
        self._made, self._encoder = made, ChunkEncoder(made.width, made.height, made.fps)
        self.formats = self._encoder.formats
        self._audience: Audience | None = None
        self._shown, self._over = ExitStack(), threading.Event()
        here = copy_context()  # what is logged in its thread, names the session
        self._thread = threading.Thread(target=here.run, args=(self._compute,), name="knot-live-session", daemon=True)

    def listen(self, audience: Audience) -> None:
        """Tell these of all that comes from here on."""
        self._audience = audience
        self._made.listen(audience.tell)

    def start(self) -> None:
        """Begin to draw."""
        if self._made.ticker is None:
            self._thread.start()
            return
        show = self._shown.enter_context(self.showing())
        self._made.ticker.add(self._made.session, show, self._end)

    def apply(self, control: Any) -> int:
        """Ask for something; its number at once."""
        return self._made.session.apply(control)

    def acknowledge(self, epoch: int, frame: int, transport: float | None = None) -> None:
        """The driver has shown that pixel frame; see `Session.acknowledge`."""
        self._made.session.acknowledge(epoch, frame, transport)

    def want(self, name: str) -> None:
        """Encode chunks in that format, too, from the next one on."""
        self._encoder.wanted.add(name)

    async def wait(self) -> None:
        """Until nothing runs any more that was started."""
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        elif self._made.ticker is not None:
            await asyncio.to_thread(self._over.wait)

    @contextmanager
    def showing(self) -> Iterator[Callable[[MediaChunk], None]]:
        """For the thread that draws: what shows a chunk, and on leaving, the session's end.

        A host that draws in a thread of its own, as ComfyUI does, does not `start` the source but uses this.
        """
        audience = self._audience
        encoder = EncoderThread(self._encoder, audience.show, lambda problem: audience.fail(broken(problem)))
        why = ("finished", "the session was finished")
        try:
            yield encoder.put
        except Exception as problem:
            why = broken(problem)
            raise
        finally:
            encoder.close()
            audience.ended(why)

    def _end(self, problem: Exception | None) -> None:
        """On a thread of the ticker."""
        self._shown.__exit__(type(problem) if problem else None, problem, None)
        self._over.set()

    def _compute(self) -> None:
        """In the session's own thread."""
        try:
            with self.showing() as show:
                for chunk in self._made.session.chunks():
                    show(chunk)
        except Exception:  # its clients are told
            logger.exception("a session ends")


def broken(problem: Exception) -> Why:
    """Reason and sentence of a session that something has broken."""
    return "error", f"the session cannot go on: {problem}".replace("\n", " ")
