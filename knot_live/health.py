"""Addresses for whoever runs a server: whether it lives, whether it takes sessions, and its figures."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from .access import same_token
from .hub import Hub
from .server_metrics import Metrics, missing

_TEXT = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' format


@dataclass(frozen=True, kw_only=True)
class Health:
    """Health and figures of a server. `trouble` says why no session can be made now; None: one can."""

    metrics: Metrics | None = None
    token: str | None = None  # that the figures are shown for; None: to everybody
    trouble: Callable[[], str | None] = lambda: None

    def routes(self, hub: Hub) -> list[web.RouteDef]:
        """The routes for the server of that hub."""

        async def alive(_: web.Request) -> web.Response:
            return web.json_response({"alive": True})

        async def ready(_: web.Request) -> web.Response:
            why = self.trouble() or _full(hub)
            return web.json_response(
                {"ready": why is None, "reason": why, "sessions": hub.num_sessions}, status=200 if why is None else 503
            )

        async def figures(request: web.Request) -> web.Response:
            kind, _, token = request.headers.get("Authorization", "").partition(" ")
            if self.token is not None and not (kind.lower() == "bearer" and same_token(token.strip(), self.token)):
                raise web.HTTPUnauthorized(reason="give the server's token: Authorization: Bearer TOKEN")
            if self.metrics is None:
                raise web.HTTPNotImplemented(reason=missing() or "this server keeps no figures")
            return web.Response(body=self.metrics.text(), headers={"Content-Type": _TEXT, "Cache-Control": "no-store"})

        return [web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", figures)]


def _full(hub: Hub) -> str | None:
    if hub.closing:
        return "the server ends"
    most = hub.limits.max_sessions
    return None if hub.num_sessions < most else f"{most} of {most} sessions are running"
