"""The live sessions that ComfyUI shows now, and those whose timelines can be edited: the server's threads meet here.

Sessions are shown in ComfyUI's own event loop, by the code of the live server; a node makes and computes them.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from server import PromptServer

from ...knot_live import face_pose
from ...knot_live.access import same_token
from ...knot_live.camera import Cameras
from ...knot_live.hub import Hub
from ...knot_live.limits import Limits
from ...knot_live.live_session import LiveSession
from ...knot_live.messages import Create
from ...knot_live.protocol import ProtocolError
from ...knot_live.sources import Made

SESSION, CHANGE, PAGE = "/knot_forcing/live/session", "/knot_forcing/live/change", "/knot_forcing/live/page"

_DAY = 86400.0  # seconds: how long a session lasts is the node's to say
LIMITS = replace(Limits(), max_sessions=8, max_connections=32, idle_seconds=_DAY, session_seconds=_DAY)
_TICK = 0.25  # seconds
_PATIENCE = 30.0  # seconds for ComfyUI's event loop to answer

Edit = Callable[[str, str], None]  # of a node by its id, to that text; KnotError where it cannot be


def _elsewhere(_: Create) -> Made:
    raise ProtocolError("not_here", "sessions are made here by the node Knot Forcing Live; attach to one of those")


_edits: dict[str, Edit] = {}  # by session; entries live as long as their session runs
_tasks: set[asyncio.Task[None]] = set()
_cameras: list[Cameras] = []  # one, once a camera's picture came


def _ended(live: LiveSession) -> None:
    for cameras in _cameras:
        cameras.forget(live.source)


HUB = Hub(_elsewhere, LIMITS, _ended)


@contextmanager
def shown(made: Made, edit: Edit) -> Iterator[LiveSession]:
    """Within it clients can attach to the session; called in the thread that computes it."""
    loop = PromptServer.instance.loop
    live = asyncio.run_coroutine_threadsafe(_add(made), loop).result(_PATIENCE)
    _edits[live.session_id] = edit
    try:
        yield live
    finally:
        del _edits[live.session_id]


async def _add(made: Made) -> LiveSession:
    tends = bool(HUB.sessions)
    live = HUB.add(made)
    if not tends:
        task = asyncio.create_task(_tend())
        _tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(_tasks.discard)
    return live


async def _tend() -> None:
    """End what is left alone, as long as there are sessions."""
    while HUB.sessions:
        HUB.tick(time.monotonic())
        await asyncio.sleep(_TICK)


def edit_of(session: str, token: str) -> Edit | None:
    """The function that edits that session's timelines, for whoever has its token."""
    live = HUB.sessions.get(session)
    known = live is not None and same_token(token, live.resume_token)
    return _edits.get(session) if known else None


def cameras() -> Cameras | None:
    """The tracker of drivers' faces, where faces can be found here."""
    if face_pose.missing():
        return None
    if not _cameras:
        _cameras.append(Cameras())
    return _cameras[0]
