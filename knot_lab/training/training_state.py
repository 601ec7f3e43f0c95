"""What every training stage needs: checkpoints that resume bit for bit, a learning-rate curve, a log."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import torch


def cosine(step: int, steps: int, warmup: int, floor: float = 0.01) -> float:
    """Learning-rate factor: a linear rise over ``warmup`` steps, then half a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside, then replace: a run killed while saving keeps its last checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_checkpoint(path: Path) -> dict | None:
    """The state that ``save_checkpoint`` wrote, or None where there is none yet."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def log_line(path: Path, **values: float) -> None:
    """Append one JSON line, and show it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)  # noqa: T201
