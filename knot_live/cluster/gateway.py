"""The gateway's sessions: workers draw them, and the table says which."""

import logging
import secrets
import threading
from typing import Any
from weakref import WeakSet

import ray

from ..engine import KnotError
from ..limits import Limits
from ..messages import Create
from ..protocol import ProtocolError
from ..references import UPLOADED, References
from .cluster_options import Record, Told
from .local_ray import ClusterError
from .remote_source import PLACING_SECONDS, RemoteMade, RemoteSource

logger = logging.getLogger(__name__)

_SPEAKS = 5.0  # seconds


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
            self._told: Told = ray.get(table.told.remote(), timeout=PLACING_SECONDS)
        except ray.exceptions.RayTaskError as problem:
            raise ClusterError(str(problem.cause)) from None
        except ray.exceptions.GetTimeoutError:
            raise ClusterError(f"no worker has begun in {PLACING_SECONDS:.0f} seconds; see Ray's logs") from None
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
            name, handle = ray.get(self._table.place.remote(session_id, False), timeout=PLACING_SECONDS)
            told = ray.get(handle.create.remote(session_id, wish), timeout=PLACING_SECONDS)
        except KnotError as problem:
            raise ProtocolError("bad_value", str(problem)) from None
        except ray.exceptions.RayTaskError as problem:
            self._table.forget.remote(session_id)
            raise _refusal(problem) from None
        record = Record(session_id=session_id, resume_token=resume_token, view_token=view_token, wish=wish, told=told,
                        worker=name)  # fmt: skip
        ray.get(self._table.register.remote(record), timeout=PLACING_SECONDS)
        return self._made(record, handle)

    def standing(self) -> list[RemoteMade]:
        """Sessions that a gateway before this one began."""
        made = []
        for record in ray.get(self._table.records.remote(), timeout=PLACING_SECONDS):
            handle = ray.get(self._table.handle.remote(record.worker), timeout=PLACING_SECONDS)
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
            ray.get(
                self._table.keep_picture.remote(session_id, name, self.references.get(name)), timeout=PLACING_SECONDS
            )


def _refusal(problem: ray.exceptions.RayTaskError) -> ProtocolError:
    """A refusal by a worker or the table, in its words."""
    cause = problem.cause
    if isinstance(cause, ProtocolError):
        return ProtocolError(cause.code, str(cause))
    if isinstance(cause, ValueError):
        return ProtocolError("server_full", str(cause))
    raise problem
