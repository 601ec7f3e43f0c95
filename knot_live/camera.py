"""Pictures of drivers' faces become poses, beside everything else: of each driver the newest picture counts."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from . import face_pose
from .controls import SetPose
from .engine import KnotError

logger = logging.getLogger(__name__)


class Cameras:
    """Follows one face for each session, on a thread of its own that all share."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "knot-live-camera")
        self._faces: dict[Any, face_pose.FacePose] = {}  # that thread's own
        self._newest, self._lock = {}, Lock()

    def see(self, session: Any, jpeg: bytes) -> None:
        """Move the session by this picture; one that still waits is left out."""
        with self._lock:
            waits, self._newest[session] = session in self._newest, jpeg
        if not waits:
            self._pool.submit(self._follow, session)

    def recentre(self, session: Any) -> None:
        """The next second of that driver's face is neutral."""
        self._pool.submit(self._recentre, session)

    def forget(self, session: Any) -> None:
        """Forget a session that has ended."""
        with self._lock:
            self._newest.pop(session, None)
        self._pool.submit(self._let_go, session)

    def close(self) -> None:
        """Nothing is followed any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for face in self._faces.values():
            face.close()

    def _follow(self, session: Any) -> None:
        with self._lock:
            jpeg = self._newest.pop(session, None)
        if jpeg is None:
            return
        try:
            if session not in self._faces:
                self._faces[session] = face_pose.FacePose()
            found = self._faces[session].controls(jpeg)
        except KnotError as problem:
            logger.info("a camera's picture moves nothing: %s", problem)
            return
        if found is not None:
            session.apply(SetPose(found))

    def _recentre(self, session: Any) -> None:
        if session in self._faces:
            self._faces[session].recentre()

    def _let_go(self, session: Any) -> None:
        face = self._faces.pop(session, None)
        if face is not None:
            face.close()
