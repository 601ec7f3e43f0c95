"""How many sessions a machine carries: as fast as can be, and each at its viewer's pace."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .processes import Server, processor_seconds
from .viewer import Viewer, all_see, watching

SMOOTH = 0.99  # play ratio from which on nobody sees a stall
_FPS = 25
_SETTLE = 3.0  # seconds after the last session's first pictures that do not count
Say = Callable[[str], None]


def serving(sessions: int, cluster: str | None) -> list[str]:
    """Options of a server for so many sessions; `cluster`: "" for a local Ray, else its address; None: no cluster."""
    options = ["--max-sessions", str(sessions), "--session-seconds", "86400", "--idle-seconds", "86400"]
    return options if cluster is None else [*options, "--cluster", *filter(None, [cluster])]


def machine() -> dict[str, Any]:
    """The machine that the figures depend on."""
    return {"cores": os.cpu_count(), "load_average": [round(value, 2) for value in os.getloadavg()]}


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p95 and most, in seconds."""
    if not values:
        return {"count": 0, "p50": None, "p95": None, "most": None}
    p50, p95 = np.percentile(values, (50, 95))
    return {"count": len(values), "p50": round(float(p50), 4), "p95": round(float(p95), 4),
            "most": round(float(max(values)), 4)}  # fmt: skip


async def load(
    counts: Sequence[int], seconds: float, cluster: str | None, wish: dict[str, Any], say: Say,
    further: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Aggregate frames a second, and play ratios of so many sessions at once, for each of the counts.

    `further`: more options of the server.
    """
    found: dict[str, Any] = {"before": machine(), "fastest": [], "paced": []}
    with Server([*serving(max(counts), cluster), *further]) as server:
        shared = cluster is not None
        for count in counts:
            found["fastest"].append(await _measured(server, count, seconds, wish, greedy=True, cluster=shared))
            say(f"as fast as can be: {found['fastest'][-1]}")
        for count in counts:
            found["paced"].append(await _measured(server, count, seconds, wish, greedy=False, cluster=shared))
            say(f"at the viewers' pace: {found['paced'][-1]}")
    found["after"] = machine()
    return found | _summary(found)


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """The first row of the table of goals."""
    fastest = max(row["frames_a_second"] for row in found["fastest"])
    smooth = [row["sessions"] for row in found["paced"] if row["smooth"] == row["asked"]]
    return {"aggregate_fps": fastest, "goal": math.floor(0.9 * fastest / _FPS), "reached": max(smooth, default=0)}


async def _measured(
    server: Server, count: int, seconds: float, wish: dict[str, Any], *, greedy: bool, cluster: bool
) -> dict[str, Any]:
    await asyncio.sleep(_SETTLE)  # until those who were there before are gone
    viewers = [Viewer(server.url, greedy=greedy, **wish | {"seed": number}) for number in range(count)]
    async with watching(viewers):
        await all_see(viewers)
        if cluster:
            await asyncio.to_thread(server.wait_for_standby)
        await asyncio.sleep(_SETTLE)
        for viewer in viewers:
            viewer.forget()
        made, since = [viewer.made for viewer in viewers], time.monotonic()
        used, own = server.seconds_used(), processor_seconds(os.getpid())
        await asyncio.sleep(seconds)
        lasted = time.monotonic() - since
        cores = {number: value - used.get(number, 0.0) for number, value in server.seconds_used().items()}
        frames = [viewer.made - before for viewer, before in zip(viewers, made, strict=True)]
        return _row(viewers, frames, lasted, sum(cores.values()), processor_seconds(os.getpid()) - own)


def _row(viewers: list[Viewer], frames: list[int], lasted: float, server: float, clients: float) -> dict[str, Any]:
    there = [viewer for viewer in viewers if not viewer.seen.refused]
    ratios = sorted(round(viewer.ratio, 4) for viewer in there)
    return {
        "asked": len(viewers), "sessions": len(there), "seconds": round(lasted, 1),
        "refused": sorted({viewer.seen.refused for viewer in viewers if viewer.seen.refused}),
        "lost": sum(bool(viewer.seen.ended) for viewer in there),
        "frames_a_second": round(sum(frames) / lasted, 1),
        "play_ratio": ratios, "smooth": sum(ratio >= SMOOTH for ratio in ratios),
        "missing_frames": sum(viewer.seen.missing for viewer in there),
        "stall_seconds": spread([value for viewer in there for value in viewer.seen.stalls]),
        "steps": sorted({viewer.created.get("steps", 0) for viewer in there}),
        "chunk_seconds": spread([value for viewer in there for value in viewer.seen.drawn]),
        "way_seconds": spread([value for viewer in there for value in viewer.seen.ways]),
        "transport_seconds": spread([value for viewer in there for value in viewer.seen.transport]),
        "processors": {"server": round(server / lasted, 2), "clients": round(clients / lasted, 2)},
    }  # fmt: skip


async def overhead(seconds: float, cluster: str, wish: dict[str, Any], say: Say) -> dict[str, Any]:
    """Seconds from a chunk's encoding to its arrival: one session of a cluster against one of the single server."""
    found: dict[str, Any] = {"before": machine()}
    for name, where in (("single", None), ("cluster", cluster)):
        with Server(serving(1, where)) as server:
            found[name] = await _measured(server, 1, seconds, wish, greedy=False, cluster=where is not None)
            say(f"{name}: {found[name]}")
    times = {name: found[name]["way_seconds"] for name in ("single", "cluster")}
    more = {key: round(times["cluster"][key] - times["single"][key], 4) for key in ("p50", "p95")}
    return found | {"after": machine(), "more_in_the_cluster": more}
