"""A session that lasts: what it holds of memory, how it plays, and whether sound and picture stay together.

Read minute by minute, so that a trend shows. In `changing` runs driving, reference, settings and the connection change
all the time; in others only a slider moves.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .processes import memory_of

_BETWEEN = 2.5  # seconds between two changes, in the mean
_CHANGES: Mapping[str, str] = {
    "slider": "value => knotLive.interact({ controls: { yaw: value - 0.5, brow: 0.5 - value } })",
    "gesture": "value => knotLive.interact({ gesture: value > 0.5 ? 'nod' : 'wink' })",
    "sentence": "value => bench.say(0.5 + 2 * value)",
    "silence": "() => knotLive.silence()",
    "liveliness": "value => knotLive.send('session.update', { liveliness: value })",
    "chunk length": "value => knotLive.send('session.update', { settings: { num_chunk_frames: value > 0.5 ? 3 : 1 } })",
    "reference": "value => knotLive.interactReference(value > 0.5 ? 'builtin:ada' : 'builtin:ben', value > 0.7)",
    "reconnect": "() => knotLive.client.lose()",
}


def long_run(
    page: Any, process: int, minutes: int, say: Callable[[str], None], *, changing: bool, seed: int = 0
) -> dict[str, Any]:
    """Change a session that runs in `page` for so many minutes; `process` is its server's number.

    Memory is what the server's process alone holds, in MiB; the least of each minute, because a C library keeps some
    of what was freed for a while.
    """
    rng, rows, counts = random.Random(seed), [], dict.fromkeys(_CHANGES, 0)
    kinds = list(_CHANGES) if changing else ["slider"]
    for minute in range(minutes):
        began, stalls = page.evaluate("[performance.now(), knotLive.player.figures.stalls]")
        held, until = [], time.monotonic() + 60
        while time.monotonic() < until:
            page.wait_for_timeout(2000 * _BETWEEN * rng.random())
            kind = rng.choice(kinds)
            counts[kind] += 1
            page.evaluate(_CHANGES[kind], rng.random())
            held.append(memory_of(process, "Anonymous"))
        told = page.evaluate("since => bench.playing(since)", began)
        late = np.array(told["late"])
        rows.append({
            "played": told["frames"], "seconds": told["seconds"], "stalls": told["stalls"] - stalls,
            "late_ms": [float(value) for value in np.percentile(late, (50, 99))],
            "apart_ms_p99": float(np.percentile(np.abs(late), 99)), "memory_mib": min(held),
        })  # fmt: skip
        say(f"minute {minute + 1}: {rows[-1]}")
    return {"minutes": minutes, "changes": {kind: count for kind, count in counts.items() if count}} | summary(rows)


def summary(rows: Sequence[Mapping[str, Any]], fps: int = 25) -> dict[str, Any]:
    """Figures of all minutes, and the trend of what may drift."""
    seconds, memory = sum(row["seconds"] for row in rows), [row["memory_mib"] for row in rows]
    third = max(1, len(rows) // 3)
    return {
        "play_ratio": round(min(1.0, sum(row["played"] for row in rows) / fps / seconds), 4),
        "stalls": sum(row["stalls"] for row in rows),
        "sound_and_picture_apart_ms_p99": round(max(row["apart_ms_p99"] for row in rows), 1),
        "picture_behind_sound_ms_by_minute": [round(row["late_ms"][0], 1) for row in rows],
        "drift_ms_an_hour": trend([row["late_ms"][0] for row in rows]),
        "memory_mib_by_minute": [round(value, 1) for value in memory],
        "memory_last_third_over_first": round(float(np.median(memory[-third:]) / np.median(memory[:third])), 4),
    }


def trend(by_minute: Sequence[float]) -> float | None:
    """Change an hour of the straight line through values that were taken minute by minute."""
    if len(by_minute) < 2:
        return None
    return round(60 * float(np.polyfit(np.arange(len(by_minute)), by_minute, 1)[0]), 2)
