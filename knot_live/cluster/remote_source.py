"""A session that a worker draws, as the gateway sees it: it holds what is needed to go on when that worker is lost."""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from ..controls import Control, Reference
from ..events import Recorded
from ..messages import Vocabulary
from ..references import UPLOADED
from ..sources import Audience
from . import hosting
from .cluster_options import Record
from .failover import SessionLog
from .mono import Mono

logger = logging.getLogger(__name__)

PLACING_SECONDS = 240.0  # seconds in which a worker must be found


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
        self._shown: tuple[int, int, float | None] = (0, -1, None)
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
        """Start it as a session that another gateway began."""
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

    def acknowledge(self, epoch: int, frame: int, transport: float | None = None) -> None:
        """The driver has shown that pixel frame; see `Session.acknowledge`."""
        self._shown = epoch, frame, transport
        self._handle.acknowledge.remote(self._record.session_id, *self._shown)

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
            ray.get(self._table.gone.remote(self.worker), timeout=PLACING_SECONDS)
        while True:
            name, handle = ray.get(self._table.place.remote(session_id, True, but), timeout=PLACING_SECONDS)
            standing, asked = self._log.lost(), self._log.number
            try:
                ray.get(handle.resume.remote(session_id, self._record.wish, standing), timeout=PLACING_SECONDS)
                break
            except ray.exceptions.RayActorError:
                but = (*but, name)
                ray.get(self._table.gone.remote(name), timeout=PLACING_SECONDS)
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
