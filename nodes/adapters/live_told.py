"""How to attach to a live session, told to the client that queued the prompt, the editor or another one.

In events of the name `knot_forcing.live_session`: as it begins, once a second while nobody drives it, and at its end.
"""

import time
from collections.abc import Mapping
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...knot_live.live_session import LiveSession
from .live_hub import CHANGE, SESSION

EVENT = "knot_forcing.live_session"

_SECONDS_BETWEEN_REMINDERS = 1.0  # a page may have been loaded again


class Telling:
    """Tells the client that queued the prompt of its session."""

    def __init__(self, live: LiveSession, said: Mapping[str, Any]) -> None:
        self._live, self._told = live, time.monotonic()
        self._said = {"session": live.session_id, "token": live.resume_token, "url": SESSION, "change": CHANGE, **said}

    def send(self, **values: Any) -> None:
        """An event; without a client there is none."""
        context, server = get_executing_context(), PromptServer.instance
        if context is not None and server.client_id is not None:
            ids = {"node": context.node_id, "prompt_id": context.prompt_id}
            server.send_sync(EVENT, {**ids, **self._said, **values}, server.client_id)

    def remind(self) -> None:
        """While nobody drives it."""
        if self._live.driver is None and time.monotonic() >= self._told + _SECONDS_BETWEEN_REMINDERS:
            self._told = time.monotonic()
            self.send(waiting=True)
