"""Messages to the user: notes on the node while it runs; warnings on the node, in the log and in the run's history.

Whatever the pack logs as a warning while one of its nodes executes is shown, so `knot_core` needs to know of no node.
"""

import functools
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

logger = logging.getLogger(__name__)

WARNINGS = "knot_forcing_warnings"  # in a node's `ui`: a list of sentences; web/warnings.js shows them
EVENT = "knot_forcing.warning"

_told: ContextVar[list[str] | None] = ContextVar(WARNINGS, default=None)  # by the node that executes


def say(text: str) -> None:
    """Log a note, and show it under the node."""
    logger.info(text)
    context = get_executing_context()
    if context is not None:
        PromptServer.instance.send_progress_text(text, context.node_id)


def warn_on_node(text: str) -> None:
    """One sentence for the user, about the node that executes. The run goes on."""
    logger.warning("%s", text)


def with_warnings(node: type) -> type:
    """The node, whose warnings are shown on it."""
    execute = node.__dict__["execute"].__func__
    if hasattr(execute, "__wrapped__"):  # the list of nodes is asked for again
        return node

    @functools.wraps(execute)
    def watched(cls: type, *cables: Any, **widgets: Any) -> Any:
        token = _told.set([])
        try:
            output = execute(cls, *cables, **widgets)
            return _with_texts(output, _told.get() or [])
        finally:
            _told.reset(token)

    node.execute = classmethod(watched)
    return node


class _ShownOnNode(logging.Handler):
    """Passes on what is logged by the thread that executes a node; said twice is shown once."""

    def emit(self, record: logging.LogRecord) -> None:
        told = _told.get()
        if told is None or (text := record.getMessage()) in told:
            return
        told.append(text)
        context, server = get_executing_context(), PromptServer.instance
        if context is not None and server.client_id is not None:
            said = {"node": context.node_id, "prompt_id": context.prompt_id, "text": text}
            server.send_sync(EVENT, said, server.client_id)


def _with_texts(output: Any, texts: list[str]) -> Any:
    """ComfyUI joins the `ui` of a node that ran several times key by key, so where there is one it has this key."""
    if output.ui is None and not texts:
        return output
    shown = output.ui or {}
    output.ui = (shown if isinstance(shown, Mapping) else shown.as_dict()) | {WARNINGS: texts}
    return output


logging.getLogger(__name__.rpartition(".nodes.")[0]).addHandler(_ShownOnNode(logging.WARNING))  # the whole pack's
