"""The figures of a server in Prometheus' text format; the library prometheus_client is part of the extra [cluster]."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

try:
    import prometheus_client
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:  # the server goes without
    prometheus_client, Collector = None, object

from .hub import Hub
from .live_session import LiveSession
from .observing import Observer

_ANSWERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # seconds: upper ends
_CHUNKS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0)
_MOST_NAMES = 64  # of reasons, codes and stages: a label with any number of values would fill Prometheus


def missing() -> str | None:
    """Why there are no metrics here, and how that is mended."""
    if prometheus_client is None:
        return 'metrics need prometheus_client: pip install "knot-forcing[cluster]"'
    return None


class Metrics(Observer):
    """Counts what it is told, and asks the hub for the rest whenever it is read."""

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()

        def make(kind: Any, name: str, text: str, labels: tuple[str, ...] = (), **options: Any) -> Any:
            return kind(f"knot_live_{name}", text, labels, registry=self._registry, **options)

        counter, histogram = prometheus_client.Counter, prometheus_client.Histogram
        self._begun = make(counter, "sessions_begun", "Sessions that were made")
        self._refused = make(counter, "sessions_refused", "Sessions that were asked for and not made", ("code",))
        self._ended = make(counter, "sessions_ended", "Sessions that have ended", ("reason",))
        self._answers = make(
            histogram, "answer_seconds", "From a control's receipt until pictures that it holds in are sent",
            buckets=_ANSWERS,
        )  # fmt: skip
        self._chunks = make(
            histogram, "chunk_seconds", "A chunk's time by stage; the stage chunk is all of it", ("worker", "stage"),
            buckets=_CHUNKS,
        )  # fmt: skip
        self._moves = make(
            histogram, "failover_seconds", "From a worker's loss or draining until its session goes on in another",
            buckets=_ANSWERS,
        )  # fmt: skip
        self._names: set[str] = set()

    def watch(self, hub: Hub) -> None:
        """Ask this one for what there is when the figures are read."""
        self._registry.register(_Now(hub))

    def text(self) -> bytes:
        """All of it, as of now."""
        return prometheus_client.generate_latest(self._registry)

    def began(self) -> None:
        """A session was made."""
        self._begun.inc()

    def refused(self, code: str) -> None:
        """Count a session that was refused with this code."""
        self._refused.labels(self._one_of_few(code)).inc()

    def ended(self, reason: str) -> None:
        """A session has ended."""
        self._ended.labels(self._one_of_few(reason)).inc()

    def drew(self, worker: str, seconds: Mapping[str, float]) -> None:
        """A worker has drawn a chunk."""
        for stage, value in seconds.items():
            self._chunks.labels(worker, self._one_of_few(stage)).observe(value)

    def moved(self, seconds: float) -> None:
        """A session goes on in another worker."""
        self._moves.observe(seconds)

    def answered(self, seconds: float) -> None:
        """A control shows."""
        self._answers.observe(seconds)

    def _one_of_few(self, name: str) -> str:
        if name not in self._names and len(self._names) >= _MOST_NAMES:
            return "other"
        self._names.add(name)
        return name


class _Now(Collector):
    """Gauges of what there is while they are read."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Any]:
        """Every gauge."""
        lives, now = list(self._hub.sessions.values()), time.monotonic()
        yield from _of_sessions(lives, now)
        yield GaugeMetricFamily(
            "knot_live_sessions_max", "Sessions that may run at a time", self._hub.limits.max_sessions
        )
        yield from _of_workers(lives, now)


def _of_sessions(lives: list[LiveSession], now: float) -> Iterator[Any]:
    driven = sum(live.driver is not None for live in lives)
    sessions = GaugeMetricFamily("knot_live_sessions", "Sessions that run", labels=("state",))
    sessions.add_metric(("driven",), driven)
    sessions.add_metric(("waiting",), len(lives) - driven)  # for a client that lost its connection
    yield sessions
    clients = GaugeMetricFamily("knot_live_clients", "Connections that are shown a session", labels=("role",))
    clients.add_metric(("driver",), driven)
    clients.add_metric(("viewer",), sum(len(live.viewers) for live in lives))
    yield clients
    ratios = sorted(live.figures.ratio(now) for live in lives) or [1.0]
    play = GaugeMetricFamily("knot_live_play_ratio", "Share of a session's time without stall", labels=("of",))
    play.add_metric(("worst",), ratios[0])
    play.add_metric(("mean",), sum(ratios) / len(ratios))
    yield play
    yield GaugeMetricFamily(
        "knot_live_sessions_smooth",
        "Sessions with a play ratio of at least 0.99",
        sum(r >= 0.99 for r in ratios[: len(lives)]),
    )
    slack = min((live.figures.unplayed(now) for live in lives if live.driver is not None), default=0.0)
    yield GaugeMetricFamily("knot_live_slack_seconds", "Until the first driver's pictures run out", slack)
    waiting = sum(client.outbox.num_messages for live in lives for client in live.clients)
    yield GaugeMetricFamily("knot_live_queue_messages", "Messages that wait to be sent to clients", waiting)


def _of_workers(lives: list[LiveSession], now: float) -> Iterator[Any]:
    sessions = GaugeMetricFamily("knot_live_worker_sessions", "Sessions that a worker draws", labels=("worker",))
    ratios = GaugeMetricFamily("knot_live_worker_play_ratio", "The worst of a worker's sessions", labels=("worker",))
    ages = GaugeMetricFamily(
        "knot_live_checkpoint_age_seconds", "Age of the oldest of a worker's newest checkpoints", labels=("worker",)
    )
    for name in sorted({live.source.worker for live in lives}):
        own = [live for live in lives if live.source.worker == name]
        sessions.add_metric((name,), len(own))
        ratios.add_metric((name,), min(live.figures.ratio(now) for live in own))
        made = [live.source.checkpointed for live in own if live.source.checkpointed is not None]
        if made:
            ages.add_metric((name,), now - min(made))
    yield from (sessions, ratios, ages)
