"""Figures of a run: percentiles, and the table that they are shown in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def spread(found: Sequence[float | None], *, unit: float = 0.001) -> dict[str, Any]:
    """p50, p95 and p99 in seconds of times in milliseconds; None counts as missed, and is in no percentile."""
    times = [unit * value for value in found if value is not None]
    p50, p95, p99 = np.percentile(times, (50, 95, 99)) if times else (None, None, None)
    rounded = {name: None if value is None else round(float(value), 4)
               for name, value in {"p50": p50, "p95": p95, "p99": p99}.items()}  # fmt: skip
    return {"events": len(found), "missed": len(found) - len(times)} | rounded


def playing(run: Mapping[str, Any], fps: int) -> dict[str, Any]:
    """Play ratio, and how far pictures are from the audio clock, in milliseconds, of what the page told of a run."""
    played = run["frames"] / fps
    return {
        "seconds": round(run["seconds"], 1),
        "play_ratio": round(min(1.0, played / run["seconds"]), 4) if run["seconds"] else None,
        "stalls": run["stalls"],
        "picture_behind_sound_ms": {
            name: round(float(np.percentile(np.abs(run["late"]), percent)), 1)
            for name, percent in (("p50", 50), ("p95", 95), ("p99", 99))
        },
    }


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, one row a figure that has percentiles."""
    lines = ["| Figure | events | missed | p50 | p95 | p99 |", "|---|---|---|---|---|---|"]
    for name, row in figures.items():
        if "p50" in row:
            times = " | ".join("-" if row[key] is None else f"{row[key]:.3f} s" for key in ("p50", "p95", "p99"))
            lines.append(f"| {name} | {row['events']} | {row['missed']} | {times} |")
    return "\n".join(lines)
