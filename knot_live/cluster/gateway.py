"""The gateway's half of a session that a worker draws: it holds what is needed to go on when that worker is lost."""

import asyncio
import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import ray

from ..controls import Control, Reference
from ..engine import KnotError
from ..events import Recorded
from ..limits import Limits
from ..messages import Create, Vocabulary
from ..protocol import ProtocolError
from ..references import UPLOADED, References
from ..sources import Audience
from . import hosting
from .cluster_options import Record, Told
from .failover import SessionLog
from .local import ClusterError
from .mono import Mono

logger = logging.getLogger(__name__)

_SPEAKS = 5.0  # seconds
_PLACING = 240.0  # seconds in which a worker must be found


@dataclass(frozen=True, kw_only=True)
class RemoteMade:
    """A session that a worker draws, as a hub needs it."""

    remote: "RemoteSource"
    width: int
    height: int
    fps: int
    words: Vocabulary
    about: Mapping[str, Any]
    identity: tuple[str, str, str]  # session id, resume token, view token

    def source(self) -> "RemoteSource":
        """The source that shows the session."""
        return self.remote


class RemoteSource:
    """A session in a worker; `listen`, `start` and the rest as `sources.Source` says.

    Its thread reads what the worker gives. Where the worker is lost, or its sessions leave it, the session goes on in
    another one, and its clients see an epoch begin.
    """

    def __init__(self, table: Any, record: Record, handle: Any, keeps: Callable[[str], None]) -> None:
        """`keeps` makes a picture, by its name, known to whoever draws the session."""
        self._table, self._record, self._handle, self._keeps = table, record, handle, keeps
        self.formats, self.worker = record.told.formats, record.worker
        self._log, self._mono = SessionLog(record.wish.reference), Mono()
        self._asking = threading.Lock()  # so that controls are asked for in the order of their numbers
        self._wanted = set(record.formats_wanted)
        self._shown = (0, -1)
        self._audience: Audience | None = None
        self._ended: tuple[str, str] | None = None
        self._thread = threading.Thread(target=self._run, name="knot-live-remote", daemon=True)
        self._fresh = self._moving = self._left = self._over = False

    def listen(self, audience: Audience) -> None:
        """Tell these of all that comes from here on."""
        self._audience = audience

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def take_over(self) -> None:
        """As `start`, for a session that another gateway began."""
        self._fresh = True
        self._thread.start()

    def apply(self, control: Control) -> int:
        """Ask for something; its number at once."""
        if isinstance(control, Reference) and control.name.startswith(UPLOADED):
            self._keeps(control.name)
        with self._asking:
            for one in self._mono.heard(control):
                number = self._log.ask(one)
                if not self._moving:  # else it is asked once the session goes on
                    self._handle.apply.remote(self._record.session_id, number, one)
        return number

    def acknowledge(self, epoch: int, frame: int) -> None:
        """The driver has shown that pixel frame."""
        self._shown = epoch, frame
        self._handle.acknowledge.remote(self._record.session_id, epoch, frame)

    def want(self, name: str) -> None:
        """Encode chunks in that format, too, from the next one on."""
        if name not in self._wanted:
            self._wanted.add(name)
            self._record = replace(self._record, formats_wanted=tuple(sorted(self._wanted)))
            self._table.register.remote(self._record)
        self._handle.want.remote(self._record.session_id, name)

    @property
    def record(self) -> Record:
        """The record that the table keeps."""
        return self._record

    @property
    def checkpointed(self) -> float:
        """Monotonic seconds: when the newest checkpoint came, or the session was made."""
        return self._log.checkpointed

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive() and not self._over

    async def wait(self) -> None:
        """Until its thread has ended."""
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        why = ("error", "the session cannot go on: no worker can draw it")
        try:
            while self._ended is None:
                lost = self._follow()
                if not (lost or self._left or self._ended):
                    return  # another gateway has taken it over, and this one is forgotten
                if self._ended is None:
                    self._go_elsewhere(lost=lost)
            why = self._ended
        except Exception as problem:
            logger.exception("a session ends")
            why = ("error", f"the session cannot go on: {problem}".replace("\n", " ")[:300])
        self._over = True
        self._table.forget.remote(self._record.session_id)
        self._audience.ended(why)

    def _follow(self) -> bool:
        """All that the worker gives, until the session ends or leaves it; whether the worker was lost."""
        try:
            items = self._handle.attach.options(num_returns="streaming").remote(self._record.session_id, self._fresh)
            self._fresh = True
            for reference in items:
                for kind, value in ray.get(reference):
                    self._take(kind, value)
        except ray.exceptions.RayError as problem:
            logger.warning("worker %s was lost: %s", self.worker, type(problem).__name__)
            return True
        return False

    def _take(self, kind: str, value: Any) -> None:
        log = self._log
        if kind == hosting.CHUNK:
            if log.take_chunk(value):
                self._audience.show(value)
        elif kind == hosting.EVENT:
            if log.take_event(value):
                self._audience.tell(self._here(value) if isinstance(value, Recorded) else value)
        elif kind == hosting.STEP:
            log.take_step(*value)
        elif kind == hosting.CHECKPOINT:
            log.take_checkpoint(value)
        elif kind == hosting.BEGUN:
            log.go_on(*value)
        elif kind == hosting.LEFT:
            self._left = True
        elif kind == hosting.FAILED:
            self._audience.fail(value)
        elif kind == hosting.ENDED:
            self._ended = value

    def _here(self, event: Recorded) -> Recorded:
        """A recording that another machine made is fetched."""
        if event.path.is_file():
            return event
        path = Path(tempfile.mkdtemp(prefix="knot-live-")) / event.path.name
        try:
            path.write_bytes(ray.get(self._handle.read_file.remote(event.path)))
        except (ray.exceptions.RayError, OSError) as problem:
            return Recorded(path, f"the recording was lost with its worker: {type(problem).__name__}")
        return Recorded(path, event.message)

    def _go_elsewhere(self, *, lost: bool) -> None:
        """On the worker that the table names, from where it stood; on another one where that one is lost, too."""
        since, session_id, but = time.monotonic(), self._record.session_id, (self.worker,)
        with self._asking:
            self._moving = True
        if lost:
            ray.get(self._table.gone.remote(self.worker), timeout=_PLACING)
        while True:
            name, handle = ray.get(self._table.place.remote(session_id, True, but), timeout=_PLACING)
            standing, asked = self._log.lost(), self._log.number
            try:
                ray.get(handle.resume.remote(session_id, self._record.wish, standing), timeout=_PLACING)
                break
            except ray.exceptions.RayActorError:
                but = (*but, name)
                ray.get(self._table.gone.remote(name), timeout=_PLACING)
        with self._asking:
            for number, control in self._log.left_behind(asked):
                handle.apply.remote(session_id, number, control)
            self._handle, self.worker = handle, name
            self._moving = self._fresh = self._left = False
        for wanted in self._wanted:
            handle.want.remote(session_id, wanted)
        handle.acknowledge.remote(session_id, *self._shown)
        self._record = replace(self._record, worker=name)
        self._table.register.remote(self._record)
        seconds = time.monotonic() - since
        self._audience.moved(seconds)
        facts = {"worker": name, "seconds": round(seconds, 3)}
        logger.info("a session goes on in another worker", extra={"facts": facts})


class ClusterStudio:
    """Makes sessions that workers draw; what a `Studio` is for a server of one process."""

    def __init__(self, table: Any, limits: Limits) -> None:
        """Waits until a worker is there.

        Raises:
            ClusterError: none can begin.
        """
        self._table, self.limits = table, limits
        self._sources: WeakSet[RemoteSource] = WeakSet()
        self._closed = threading.Event()
        self._trouble: str | None = None
        try:
            self._told: Told = ray.get(table.told.remote(), timeout=_PLACING)
        except ray.exceptions.RayTaskError as problem:
            raise ClusterError(str(problem.cause)) from None
        except ray.exceptions.GetTimeoutError:
            raise ClusterError(f"no worker has begun in {_PLACING:.0f} seconds; see Ray's logs") from None
        threading.Thread(target=self._speak_of_sessions, name="knot-live-registering", daemon=True).start()
        self.references = References(self._told.height, self._told.width, most_pixels=limits.picture_pixels,
                                     most_pictures=limits.max_pictures,
                                     aligned=self._told.about["aligns_faces"])  # fmt: skip

    def about(self) -> dict[str, Any]:
        """Facts that every client may know."""
        return dict(self._told.about)

    def warm(self) -> None:
        """Workers are warm when they are ready."""

    def make(self, wish: Create) -> RemoteMade:
        """A session as a client wants it.

        Raises:
            ProtocolError: its reference or its settings cannot be, or no worker has room.
        """
        session_id, resume_token, view_token = (secrets.token_urlsafe(24) for _ in range(3))
        try:
            self._keep_picture(session_id, wish.reference)
            name, handle = ray.get(self._table.place.remote(session_id, False), timeout=_PLACING)
            told = ray.get(handle.create.remote(session_id, wish), timeout=_PLACING)
        except KnotError as problem:
            raise ProtocolError("bad_value", str(problem)) from None
        except ray.exceptions.RayTaskError as problem:
            self._table.forget.remote(session_id)
            raise _refusal(problem) from None
        record = Record(session_id=session_id, resume_token=resume_token, view_token=view_token, wish=wish, told=told,
                        worker=name)  # fmt: skip
        ray.get(self._table.register.remote(record), timeout=_PLACING)
        return self._made(record, handle)

    def standing(self) -> list[RemoteMade]:
        """Sessions that a gateway before this one began."""
        made = []
        for record in ray.get(self._table.records.remote(), timeout=_PLACING):
            handle = ray.get(self._table.handle.remote(record.worker), timeout=_PLACING)
            made.append(self._made(record, handle))
        return made

    def trouble(self) -> str | None:
        """Why no session can be made, as of some seconds ago; None: one can."""
        return self._trouble

    def _speak_of_sessions(self) -> None:
        """Again and again, so that the table knows of them, also one that was begun again."""
        while not self._closed.wait(_SPEAKS):
            records = [source.record for source in list(self._sources) if source.alive]
            try:
                if records:
                    self._table.register.remote(*records)
                self._trouble = ray.get(self._table.trouble.remote(), timeout=_SPEAKS)
            except Exception as problem:  # Ray raises plain ones, too, where an actor is gone
                logger.debug("the table does not answer: %s", type(problem).__name__)
                self._trouble = "the cluster's table does not answer"

    def close(self) -> None:
        """Speak of sessions no more; they stay."""
        self._closed.set()

    def _made(self, record: Record, handle: Any) -> RemoteMade:
        def keeps(name: str) -> None:
            self._keep_picture(record.session_id, name)

        told, identity = record.told, (record.session_id, record.resume_token, record.view_token)
        source = RemoteSource(self._table, record, handle, keeps)
        self._sources.add(source)
        return RemoteMade(remote=source, width=told.width,
                          height=told.height, fps=told.fps, words=told.words,
                          about=told.about | {"references": self.references.names}, identity=identity)  # fmt: skip

    def _keep_picture(self, session_id: str, name: str) -> None:
        if name.startswith(UPLOADED):
            ray.get(self._table.keep_picture.remote(session_id, name, self.references.get(name)), timeout=_PLACING)


def _refusal(problem: ray.exceptions.RayTaskError) -> ProtocolError:
    """A refusal by a worker or the table, in its words."""
    cause = problem.cause
    if isinstance(cause, ProtocolError):
        return ProtocolError(cause.code, str(cause))
    if isinstance(cause, ValueError):
        return ProtocolError("server_full", str(cause))
    raise problem
