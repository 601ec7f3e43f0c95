"""The sessions that there are, and the secrets that open them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .access import same_token
from .limits import Limits
from .live_session import LiveSession
from .messages import Attach, Create, Resume, View
from .observing import Observer
from .protocol import ProtocolError
from .sources import Made

_TICK = 0.25  # seconds


class _Left(NamedTuple):
    """The recording of a session that has ended."""

    resume_token: str
    path: Path
    since: float  # monotonic seconds


class Hub:
    """All sessions of a server."""

    def __init__(
        self,
        make: Callable[[Create], Made],
        limits: Limits,
        ended: Callable[[LiveSession], None] = lambda _: None,
        observer: Observer | None = None,
        *,
        lasting: bool = False,
    ) -> None:
        """`make` is called on a thread of its own; `ended` in the loop, of each session once. `lasting`: sessions are
        drawn elsewhere and outlive this process, so that another one takes them over.
        """
        self._lasting = lasting
        self._make, self.limits, self._ended = make, limits, ended
        self.sessions: dict[str, LiveSession] = {}
        self._left: dict[str, _Left] = {}
        self._opening = 0
        self.observer, self.closing = observer or Observer(), False

    @property
    def num_sessions(self) -> int:
        return len(self.sessions) + self._opening

    async def create(self, wish: Create) -> LiveSession:
        """A new session, driven by nobody yet.

        Raises:
            ProtocolError: there are as many as may be.
        """
        if self.num_sessions >= self.limits.max_sessions:
            most = self.limits.max_sessions
            raise ProtocolError("server_full", f"{most} of {most} sessions are running; come back when one has ended")
        self._opening += 1
        try:
            made = await asyncio.to_thread(self._make, wish)
        finally:
            self._opening -= 1
        live = self.add(made)
        live.source.start()
        return live

    def add(self, made: Made) -> LiveSession:
        """A session that is made already, such as by a node of ComfyUI; whoever adds it says where it computes."""
        live = LiveSession(made, self.limits, self._forget, self.observer)
        live.alone_since = time.monotonic()
        self.sessions[live.session_id] = live
        self.observer.began()
        return live

    def find(self, wish: Resume | View | Attach) -> LiveSession:
        """The session that is meant, if the secret that came with it is right.

        Raises:
            ProtocolError: there is none.
        """
        if isinstance(wish, View):
            found = next(
                (live for live in self.sessions.values() if same_token(wish.view_token, live.view_token)), None
            )
        else:
            name, token = (
                (wish.session_id, wish.resume_token) if isinstance(wish, Resume) else (wish.session, wish.token)
            )
            live = self.sessions.get(name)
            found = live if live is not None and same_token(token, live.resume_token) else None
        if found is None:
            raise ProtocolError("unknown_session", "there is no such session, or it has ended; begin a new one")
        return found

    def recording(self, session_id: str, token: str | None) -> Path | None:
        """The last recording of a session that runs or has ended, for whoever has its secret."""
        live, left = self.sessions.get(session_id), self._left.get(session_id)
        if live is not None and same_token(token, live.resume_token):
            return live.recording
        return left.path if left is not None and same_token(token, left.resume_token) else None

    def tick(self, now: float) -> None:
        """End what has lasted too long, or is left alone; forget recordings that nobody fetched."""
        for name, left in list(self._left.items()):
            if now - left.since > self.limits.recording_seconds:
                with suppress(OSError):  # somebody may be reading it, where that keeps a file from being removed
                    left.path.unlink()
                    del self._left[name]
        for live in list(self.sessions.values()):
            if live.alone_since is not None and now - live.alone_since > self.limits.resume_seconds:
                live.end("left", f"nobody drove the session for {self.limits.resume_seconds:.0f} seconds")
            elif now - live.last_wish > self.limits.idle_seconds:
                live.end("idle", f"nothing was asked of the session for {self.limits.idle_seconds:.0f} seconds")
            elif now - live.began > self.limits.session_seconds:
                live.end("time", f"a session lasts {self.limits.session_seconds:.0f} seconds at most")

    async def run(self) -> None:
        """Look after the sessions, for ever."""
        while True:
            self.tick(time.monotonic())
            await asyncio.sleep(_TICK)

    async def close(self) -> None:
        """End all sessions, unless they last."""
        self.closing = True
        if self._lasting:
            return
        sessions = list(self.sessions.values())
        for live in sessions:
            live.end("server", "the server was stopped")
        await asyncio.gather(*(live.source.wait() for live in sessions))

    def _forget(self, live: LiveSession) -> None:
        self.sessions.pop(live.session_id, None)
        self.observer.ended(live.ended_because[0])
        if live.recording is not None:
            self._left[live.session_id] = _Left(live.resume_token, live.recording, time.monotonic())
        self._ended(live)
