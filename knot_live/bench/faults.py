"""Faults: what sessions go through when something breaks, or somebody misbehaves."""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import numpy as np

from .load import SMOOTH, Say, machine, serving, spread
from .processes import Server, busiest
from .viewer import Viewer, all_see, watching

_WATCHED = 4.0  # seconds at least that are watched after a fault
_PATIENCE = 30.0  # seconds after which a session that does not go on is lost
_BETWEEN = 3.0  # seconds between two faults
_SILENT = 3.0  # seconds without pictures, after which a session stands still
_FLOOD = 400  # messages without a pause
_SAMPLED = 2.0  # seconds between two looks at the memory
_OF_A_CLUSTER = ("kill", "kill", "drain")
_FLAT = 1.10  # last third of the memory over the first: what is flat


async def kill_workers(times: int, sessions: int, cluster: str, say: Say) -> dict[str, Any]:
    """SIGKILL to the busiest worker, again and again; seconds until the same streams go on at their clients."""
    before = machine()
    with Server(serving(sessions, cluster)) as server:
        viewers = [Viewer(server.url, seed=number) for number in range(sessions)]
        async with watching(viewers):
            await all_see(viewers)
            goes_on: list[float] = []
            for number in range(times):
                await asyncio.to_thread(server.wait_for_standby)  # a second death in a row is another question
                await asyncio.sleep(_BETWEEN)
                worker = await asyncio.to_thread(busiest, server)
                epochs, since = [_epoch(viewer) for viewer in viewers], time.monotonic()
                os.kill(worker, signal.SIGKILL)
                goes_on += await _gone_on(viewers, epochs, since)
                say(f"kill {number + 1} of {times}: {spread(goes_on)}")
            return {"before": before, "after": machine(), "kills": times, "goes_on_seconds": spread(goes_on)} | _kept(
                viewers
            )


async def _gone_on(viewers: list[Viewer], epochs: list[int], since: float) -> list[float]:
    """Seconds from `since` to the first pictures of a new epoch, of each stream that was concerned."""
    while True:
        await asyncio.sleep(0.1)
        away, found = time.monotonic() - since, []
        for viewer, epoch in zip(viewers, epochs, strict=True):
            new = [piece.at for piece in viewer.seen.pieces if piece.at > since and piece.epoch > epoch]
            found.append(new[0] - since if new else None)
        still = [value is None and _stands(viewer) for viewer, value in zip(viewers, found, strict=True)]
        if away > _PATIENCE or (away > _WATCHED and not any(still)):
            return [value for value in found if value is not None]


def _epoch(viewer: Viewer) -> int:
    return viewer.seen.pieces[-1].epoch if viewer.seen.pieces else 0


def _stands(viewer: Viewer) -> bool:
    """No pictures came for a while."""
    return not viewer.seen.pieces or time.monotonic() - viewer.seen.pieces[-1].at > _SILENT


def _kept(viewers: Sequence[Viewer]) -> dict[str, Any]:
    """How many sessions were kept and lost."""
    lost = [viewer.seen.ended or "it stands still" for viewer in viewers if viewer.seen.ended or _stands(viewer)]
    ratios = sorted(round(viewer.ratio, 4) for viewer in viewers)
    return {"sessions": len(viewers), "lost": len(lost), "because": sorted(set(lost)), "play_ratio": ratios,
            "missing_frames": sum(viewer.seen.missing for viewer in viewers)}  # fmt: skip


async def kill_gateway(times: int, sessions: int, cluster: str | None, say: Say) -> dict[str, Any]:
    """SIGKILL to what holds the clients' sockets, which is begun again at once; seconds until pictures come again.

    A Ray at an address of its own has no gateway that could be killed here: `cluster` is "" or None.
    """
    before = machine()
    with Server(serving(sessions, cluster)) as server:
        viewers = [Viewer(server.url, seed=number) for number in range(sessions)]
        async with watching(viewers):
            await all_see(viewers)
            for number in range(times):
                await asyncio.sleep(_BETWEEN)
                await asyncio.to_thread(server.kill_gateway)
                until = time.monotonic() + _PATIENCE
                while time.monotonic() < until and any(
                    len(viewer.seen.outages) <= number and not viewer.seen.ended for viewer in viewers
                ):
                    await asyncio.sleep(0.1)
                say(f"kill {number + 1} of {times}: {[viewer.seen.outages for viewer in viewers]}")
            outages = [value for viewer in viewers for value in viewer.seen.outages]
            return {"before": before, "after": machine(), "kills": times, "outage_seconds": spread(outages)} | _kept(
                viewers
            )


async def drain(times: int, update: str | None, sessions: int, cluster: str, say: Say) -> dict[str, Any]:
    """Workers that are drained one after the other, then all of them for other weights: how long the clients stall."""
    before = machine()
    with Server(serving(sessions, cluster)) as server:
        viewers = [Viewer(server.url, seed=number) for number in range(sessions)]
        async with watching(viewers):
            await all_see(viewers)
            await asyncio.sleep(_BETWEEN)
            found: dict[str, Any] = {}
            if times:
                found["drained"] = await _stalls(viewers, [_drain_busy] * times, server, say)
            if update is not None:
                found["updated"] = await _stalls(viewers, [lambda one: one.tell_cluster("update", update)], server, say)
            chunk = max(viewer.created["chunk_seconds"] for viewer in viewers)
            return {"before": before, "after": machine(), "chunk_seconds": chunk} | found | _kept(viewers)


def _drain_busy(server: Server) -> None:
    """The worker that has most sessions."""
    workers = server.tell_cluster("status")["workers"]
    server.tell_cluster("drain", max(workers, key=lambda worker: len(worker["sessions"]))["name"])


async def _stalls(
    viewers: Sequence[Viewer], acts: Sequence[Callable[[Server], Any]], server: Server, say: Say
) -> dict[str, Any]:
    """Every stall from before the first of the acts until after the last one, and without any act for comparison."""
    quiet = await _stalls_within(viewers, asyncio.sleep(_WATCHED))
    found: list[float] = []
    for act in acts:

        async def once(act: Callable[[Server], Any] = act) -> None:
            await asyncio.to_thread(act, server)
            await asyncio.sleep(_WATCHED)

        found += await _stalls_within(viewers, once())
        say(f"stalls: {spread(found)}")
    return {"times": len(acts), "stall_seconds": spread(found), "without": spread(quiet)}


async def _stalls_within(viewers: Sequence[Viewer], acting: Awaitable[Any]) -> list[float]:
    before = [len(viewer.seen.stalls) for viewer in viewers]
    await acting
    return [stall for viewer, count in zip(viewers, before, strict=True) for stall in viewer.seen.stalls[count:]]


async def misbehave(seconds: float, sessions: int, cluster: str | None, say: Say) -> dict[str, Any]:
    """Clients that join, flood, send nonsense and stop reading; how the others play meanwhile."""
    before, counts = machine(), Counter()
    with Server(serving(sessions + 1, cluster)) as server:
        viewers = [Viewer(server.url, seed=number) for number in range(sessions)]
        async with watching(viewers):
            await all_see(viewers)
            await asyncio.sleep(_BETWEEN)
            for viewer in viewers:
                viewer.forget()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                name, act = list(_MISCHIEF.items())[sum(counts.values()) % len(_MISCHIEF)]
                counts[name] += 1
                await act(server.url)
            kept = _kept(viewers)
    say(f"{dict(counts)}: {kept}")
    smooth = sum(ratio >= SMOOTH for ratio in kept["play_ratio"])
    return {"before": before, "after": machine(), "seconds": seconds, "mischief": dict(counts), "smooth": smooth} | kept


@contextlib.asynccontextmanager
async def _socket(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/v1/session", max_msg_size=0) as socket:
        yield socket


async def _join(url: str) -> None:
    """Begin a session, see a second of it, finish it."""
    viewer = Viewer(url)
    async with watching([viewer]):
        await all_see([viewer])
        await asyncio.sleep(1.0)


async def _flood(url: str) -> None:
    """More messages than anybody may send."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async with _socket(url) as socket:
            await socket.send_str(json.dumps({"type": "session.create", "video": "h264"}))
            for number in range(_FLOOD):
                await socket.send_str(json.dumps({"type": "ping", "event_id": f"{number}"}))
            await socket.send_str(json.dumps({"type": "session.finish"}))


async def _nonsense(url: str) -> None:
    """Bytes and texts that are no messages."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async with _socket(url) as socket:
            for text in ("{", "[]", '{"type": "session.create", "seed": -1}', "x" * 100_000):
                await socket.send_str(text)


async def _deaf(url: str) -> None:
    """Begin a session as fast as can be drawn, and read nothing of it for some seconds."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async with _socket(url) as socket:
            await socket.send_str(json.dumps({"type": "session.create", "video": "h264"}))
            for frame in range(0, 10_000, 250):
                await socket.send_str(json.dumps({"type": "playback.ack", "epoch": 0, "frame": frame}))
                await asyncio.sleep(0.1)
            await socket.send_str(json.dumps({"type": "session.finish"}))


_MISCHIEF = {"join": _join, "flood": _flood, "nonsense": _nonsense, "deaf": _deaf}


async def chaos(seconds: float, sessions: int, cluster: str | None, seed: int, say: Say) -> dict[str, Any]:
    """Everything at random: lost connections, joins, floods, deaf clients; in a cluster workers killed and drained."""
    rng, before, counts, memory = random.Random(seed), machine(), Counter(), []
    server = Server(serving(sessions + 1, cluster))
    with server:
        viewers = [Viewer(server.url, seed=number) for number in range(sessions)]
        async with watching(viewers):
            await all_see(viewers)
            watch = asyncio.create_task(_sample(server, memory))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await asyncio.sleep(2 * _BETWEEN * rng.random())
                name = rng.choice(["lose", *_MISCHIEF, *(_OF_A_CLUSTER if cluster is not None else ())])
                counts[name] += 1
                await _one_fault(name, server, rng.choice(viewers))
            await asyncio.sleep(2 * _BETWEEN)
            watch.cancel()
            kept = _kept(viewers)
            outages = spread([value for viewer in viewers for value in viewer.seen.outages])
    left = await asyncio.to_thread(server.left_over)
    flat = _last_over_first(memory)
    say(f"{dict(counts)}: {kept}, memory {flat}, left over {left}")
    return {
        "before": before, "after": machine(), "seconds": seconds, "faults": dict(counts), "outage_seconds": outages,
        "memory_mib": [round(value) for value in memory], "memory_last_third_over_first": flat,
        "memory_is_flat": flat is not None and flat <= _FLAT, "leaked_processes": left,
    } | kept  # fmt: skip


async def _one_fault(name: str, server: Server, viewer: Viewer) -> None:
    if name == "lose":
        await viewer.lose()
    elif name == "kill":
        os.kill(await asyncio.to_thread(busiest, server), signal.SIGKILL)
    elif name == "drain":
        await asyncio.to_thread(_drain_busy, server)
    else:
        await _MISCHIEF[name](server.url)


async def _sample(server: Server, memory: list[float]) -> None:
    while True:
        memory.append(await asyncio.to_thread(server.memory))
        await asyncio.sleep(_SAMPLED)


def _last_over_first(memory: Sequence[float]) -> float | None:
    """The median of the last third over that of the first."""
    third = len(memory) // 3
    return round(float(np.median(memory[-third:]) / np.median(memory[:third])), 4) if third else None
