"""Log lines as JSON objects, each with the session that it is about. Secrets are never handed to a logger."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone

SESSION: ContextVar[str | None] = ContextVar("knot_live_session", default=None)  # id of that which is served now


class SessionFilter(logging.Filter):
    """Puts the session's id on each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        record.session = SESSION.get()
        return True


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, session, `facts` of the call's `extra`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "session": getattr(record, "session", None),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


def log_to_stderr(form: str) -> None:
    """All that is logged, from "info" on, as "text" or as "json"; nothing where the host has seen to it already."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter("%(message)s"))
    handler.addFilter(SessionFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
