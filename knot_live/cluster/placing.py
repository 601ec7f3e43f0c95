"""The table of sessions as an actor that outlives every gateway: it starts workers, watches them and ends them."""

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import ray

from ..controls import Finish
from .cluster_options import NAMESPACE, TABLE, ClusterOptions, Record, Told
from .table import DRAINING, READY, STARTING, Table
from .worker import WorkerActor

logger = logging.getLogger(__name__)

_TICK = 0.5  # seconds between two looks at the workers
_STARTS = 180.0  # seconds in which a worker must have loaded its weights
_ORPHANED = 120.0  # seconds after which a session that no gateway speaks of is ended
_LAST = 2**31  # the number of a control that nobody asked for
_NOBODY = "no worker has room; come back in a minute"
_PAUSE = 30.0  # seconds without a new worker after one that could not begin
_PREFIX = "knot-live-worker-"


class Placing:
    """All of it runs in the actor's event loop. Ray starts a worker that died again; this one only notices."""

    def __init__(self, options: ClusterOptions) -> None:
        self._options, self._version, self._number = options, 1, 0
        self._table = Table(options.sessions_per_worker or 1, options.standbys)
        self._handles: dict[str, Any] = {}
        self._seen: dict[str, float] = {}  # when a worker answered last, or was started
        self._figures: dict[str, dict[str, Any]] = {}
        self._records: dict[str, Record] = {}
        self._registered: dict[str, float] = {}  # when a gateway spoke of a session last
        self._pictures: dict[str, dict[str, Any]] = {}
        self._steps: Any = None
        self._shared: Any = None  # files of the weights that workers of one machine share
        self._told: Told | None = None
        self._failed: tuple[str, float] = "", -inf  # why the last worker could not begin, and when
        self._changing = asyncio.Lock()  # one update at a time
        self._watching: asyncio.Task[None] | None = None
        self._looking: dict[str, asyncio.Task[None]] = {}  # at a worker

    async def begin(self) -> ClusterOptions:
        """Begin to look after workers, unless that has begun; what the cluster is."""
        if self._watching is None:
            self._find_workers()
            self._watching = asyncio.create_task(self._watch())
        return self._options

    def _find_workers(self) -> None:
        """The gateway's sessions whose workers have died."""
        for known in ray.util.list_named_actors(all_namespaces=True):
            if known["namespace"] == NAMESPACE and known["name"].startswith(_PREFIX):
                name = known["name"]
                self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
                self._table.add(name, self._version, time.monotonic())
                self._seen[name] = time.monotonic()
                self._number = max(self._number, int(name.removeprefix(_PREFIX)))

    # for gateways

    async def told(self) -> Told:
        """A description of this cluster's sessions; waits for a worker once.

        Raises:
            ValueError: the workers cannot begin, with the sentence of one.
        """
        while self._told is None:
            if self._failed[0]:
                raise ValueError(self._failed[0])
            if not self._handles:
                self._start_worker()
            await asyncio.sleep(0.1)
        return self._told

    async def place(self, session_id: str, lost: bool, but: tuple[str, ...] = ()) -> tuple[str, Any]:
        """Name and handle of the worker that is to draw it; waits for one that is starting.

        Raises:
            ValueError: there is none, with a sentence.
        """
        until = time.monotonic() + _STARTS
        while (name := self._table.place(session_id, lost=lost, but=but)) is None:
            starting = any(row.state == STARTING for row in self._table.rows.values())
            if not starting and (lost or len(self._handles) < self._most):
                self._start_worker()
            elif time.monotonic() > until or not (starting or lost):
                raise ValueError(_NOBODY)
            but = () if lost else but  # it may have started again
            await asyncio.sleep(0.05)
        for picture_name, picture in self._pictures.get(session_id, {}).items():
            await self._handles[name].keep_picture.remote(picture_name, picture)
        return name, self._handles[name]

    async def gone(self, name: str) -> None:
        """A gateway has lost that worker."""
        self._table.gone(name)

    async def register(self, *records: Record) -> None:
        """Sessions that are drawn; gateways say so again and again, which also tells a table that died of them."""
        await self.begin()
        for record in records:
            self._records[record.session_id] = record
            self._registered[record.session_id] = time.monotonic()
            self._table.adopt(record.session_id, record.worker)

    async def trouble(self) -> str | None:
        """Why no session can be drawn now; None: one can, by a worker that is there or would be started."""
        if any(row.state == READY for row in self._table.rows.values()):
            return None
        if self._options.least == 0 and not self._failed[0]:
            return None  # a worker is started once somebody comes
        return self._failed[0] or "no worker is ready"

    async def records(self) -> list[Record]:
        """All sessions that are drawn."""
        return [replace(record, worker=self._table.worker_of(record.session_id) or record.worker)
                for record in self._records.values()]  # fmt: skip

    async def keep_picture(self, session_id: str, name: str, picture: Any) -> None:
        """A picture that a session uses; its worker has it when this returns."""
        self._pictures.setdefault(session_id, {})[name] = picture
        if (worker := self._table.worker_of(session_id)) is not None:
            await self._handles[worker].keep_picture.remote(name, picture)

    async def handle(self, name: str) -> Any:
        """A worker's handle; None where it is gone."""
        return self._handles.get(name)

    async def forget(self, session_id: str) -> None:
        """It has ended."""
        self._table.forget(session_id)
        self._records.pop(session_id, None)
        self._registered.pop(session_id, None)
        self._pictures.pop(session_id, None)

    # for operators

    async def status(self) -> dict[str, Any]:
        """All workers, and how their sessions are."""
        now = time.monotonic()
        return {
            "model": self._options.model,
            "version": self._version,
            "sessions": len(self._records),
            "sessions_per_worker": self._table.per_worker,
            "workers": [
                {
                    "name": row.name, "state": row.state, "version": row.version, "sessions": sorted(row.sessions),
                    "pid": self._figures.get(row.name, {}).get("pid"),
                    "differs": self._figures.get(row.name, {}).get("differs", 0), "strained": row.strained,
                    "play_ratios": self._figures.get(row.name, {}).get("sessions", {}),
                    "seconds_since_answer": round(now - self._seen.get(row.name, now), 3),
                }
                for row in self._table.rows.values()
            ],
        }  # fmt: skip

    async def drain(self, name: str) -> list[str]:
        """Let a worker's sessions go on elsewhere, each at the end of its chunk; then it ends. Gives their names.

        Raises:
            ValueError: there is no such worker.
        """
        row = self._table.rows.get(name)
        if row is None:
            raise ValueError(f"there is no worker {name!r}; there are {', '.join(self._table.rows) or 'none'}")
        if not any(other.state == READY and other is not row for other in self._table.rows.values()):
            self._start_worker()
            await self._wait_for_ready(but=name)
        row.state = DRAINING
        return await self._handles[name].leave.remote()

    async def update(self, model: str) -> None:
        """Other weights of the same shape: one worker after the other is replaced, and the sessions stay.

        Raises:
            ValueError: sessions of that model are of another size, rate or family.
        """
        async with self._changing:
            before, self._options = self._options, replace(self._options, model=model)
            old, self._steps, self._shared = list(self._table.rows), None, None
            self._version += 1
            try:
                await self._replace_first(old)
            except ValueError:
                self._options, self._version = before, self._version - 1
                raise
            for name in old[1:]:
                self._start_worker()
                await self._wait_for_ready(but=name)
                await self.drain(name)

    async def _replace_first(self, old: list[str]) -> None:
        first = self._start_worker()
        await self._wait_for_ready(only=first)
        told, was = await self._handles[first].told.remote(), self._told
        if was is not None and _family(told) != _family(was):
            self._end(first)
            raise ValueError(f"sessions are of {_family(was)}, and that model makes {_family(told)}; begin another "
                             "cluster for it")  # fmt: skip
        self._told = told
        if old:
            await self.drain(old[0])

    async def _wait_for_ready(self, but: str = "", only: str = "") -> None:
        until = time.monotonic() + _STARTS
        while not any(row.state == READY and row.name != but and row.version == self._version
                      and only in ("", row.name) for row in self._table.rows.values()):  # fmt: skip
            if time.monotonic() > until:
                raise ValueError(f"no worker was ready in {_STARTS:.0f} seconds; see its log")
            await asyncio.sleep(0.05)

    # workers

    @property
    def _most(self) -> int:
        return self._options.most + self._options.standbys

    def _start_worker(self) -> str:
        self._number += 1
        name, options = f"{_PREFIX}{self._number}", self._options
        self._handles[name] = WorkerActor.options(
            name=name, namespace=NAMESPACE, lifetime="detached", max_restarts=-1, max_concurrency=1000,
            num_cpus=options.processors, num_gpus=options.devices, scheduling_strategy="SPREAD",
        ).remote(name, options, self._steps, self._shared)  # fmt: skip
        self._table.add(name, self._version, time.monotonic())
        self._seen[name] = time.monotonic()
        return name

    def _end(self, name: str) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._handles[name], no_restart=True)
        for known in (self._handles, self._seen, self._figures, self._table.rows):
            known.pop(name, None)

    async def _watch(self) -> None:
        while True:
            try:
                for name in self._handles:  # each by itself: one that starts, or hangs, keeps nobody waiting
                    if name not in self._looking:
                        self._looking[name] = asyncio.create_task(self._look_at(name))
                        self._looking[name].add_done_callback(partial(self._looked, name))
                self._end_orphans()
                self._scale()
            except Exception:  # it must never end
                logger.exception("looking after the workers failed")
            await asyncio.sleep(_TICK)

    def _looked(self, name: str, task: asyncio.Task[None]) -> None:
        del self._looking[name]
        if not task.cancelled() and (problem := task.exception()) is not None:
            logger.error("looking at worker %s failed", name, exc_info=problem)

    async def _look_at(self, name: str) -> None:
        row = self._table.rows[name]
        patience = _STARTS if row.state == STARTING else self._options.hangs_after
        try:
            figures = await asyncio.wait_for(_answer(self._handles[name].pulse.remote()), patience)
        except asyncio.TimeoutError:
            if name not in self._handles:
                return
            logger.warning("worker %s does not answer: it is killed, and starts again", name)
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(self._handles[name], no_restart=False)
            self._table.gone(name)
            return
        except ray.exceptions.RayError as problem:
            self._table.gone(name)
            self._figures.pop(name, None)
            if getattr(problem, "actor_init_failed", False):  # Ray does not start such a one again
                why = str(problem).strip().rpartition("\n")[2]
                logger.error("worker %s cannot begin: %s", name, why)
                self._failed = f"no worker can begin: {why}", time.monotonic()
                self._end(name)
            return
        if name not in self._handles:  # it was ended meanwhile
            return
        self._seen[name], self._figures[name] = time.monotonic(), figures
        row.strained = figures["strained"]
        if row.state == STARTING:
            row.state = READY
            self._shared = self._shared or await self._handles[name].shared.remote()
            self._steps = self._steps or figures["steps"]
            self._table.per_worker = self._options.sessions_per_worker or figures["room_for"]
            self._told = self._told or await self._handles[name].told.remote()
            self._failed = "", -inf

    def _end_orphans(self) -> None:
        """Sessions that no gateway has spoken of for long."""
        late = time.monotonic() - _ORPHANED
        for session_id in [name for name, at in self._registered.items() if at < late]:
            worker = self._table.worker_of(session_id)
            if worker is not None:
                self._handles[worker].apply.remote(session_id, _LAST, Finish())
            for known in (self._records, self._registered, self._pictures):
                known.pop(session_id, None)
            self._table.forget(session_id)

    def _scale(self) -> None:
        now, options = time.monotonic(), self._options
        for name, row in list(self._table.rows.items()):
            if row.state == DRAINING and not row.sessions and not self._figures.get(name, {}).get("sessions"):
                self._end(name)
        wanted = self._table.wanted(options.least, options.most)
        standing = sum(row.state != DRAINING for row in self._table.rows.values())
        if now > self._failed[1] + _PAUSE:
            for _ in range(wanted - standing):
                self._start_worker()
        for name in self._table.idle(now, options.empty_seconds)[: max(0, standing - wanted)]:
            self._end(name)


async def _answer(reference: Any) -> Any:
    return await reference


def _family(told: Told) -> str:
    return f"{told.about['model']}, {told.width}x{told.height} at {told.fps} a second"


def open_table(options: ClusterOptions | None) -> Any:
    """The table's handle; it is made where there is none and `options` are given.

    Raises:
        ValueError: there is no cluster of live sessions here.
    """
    if options is None:
        table = ray.get_actor(TABLE, namespace=NAMESPACE)
    else:
        table = ray.remote(Placing).options(
            name=TABLE, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0, max_restarts=-1,
            max_concurrency=1000,
        ).remote(options)  # fmt: skip
    ray.get(table.begin.remote(), timeout=60)
    return table
