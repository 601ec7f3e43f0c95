"""What every training stage needs: random clips, checkpoints that resume bit for bit, a learning-rate curve, a log."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..model import native_dtype

CONTROL_LOW = np.array([-0.85, -0.8, -0.8, 0.0, -0.9, 0.0, -0.8, -0.8], dtype=np.float32)
CONTROL_HIGH = np.array([0.85, 0.8, 0.8, 1.0, 0.9, 1.0, 0.8, 1.0], dtype=np.float32)


def mixed_precision(device: str | torch.device) -> torch.autocast:
    """Matrices in bfloat16 where the device's arithmetic has it; else nothing is cast: emulated, a convolution takes
    hundreds of times longer than in float32.
    """
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=native_dtype(device) == torch.bfloat16)


def lively_controls(rng: np.random.Generator, clips: int, frames: int) -> Tensor:
    """Controls [clips, frames, 8] that cover the whole range fast: every control glides between random values."""
    knots = rng.uniform(CONTROL_LOW, CONTROL_HIGH, (clips, 3, 8)).astype(np.float32)
    knots[..., 3] *= rng.random((clips, 3)) < 0.5
    knots[..., 5] *= rng.random((clips, 3)) < 0.7
    time = np.linspace(0, 1, frames, dtype=np.float32)[None, :, None] * rng.uniform(0.0, 1.9, (clips, 1, 8)).astype(
        np.float32
    )
    left, t = np.minimum(time.astype(int), 1), time - np.minimum(time.astype(int), 1)
    t = t * t * (3 - 2 * t)
    clip, control = np.arange(clips)[:, None, None], np.arange(8)[None, None]
    glide = knots[clip, left, control] * (1 - t) + knots[clip, left + 1, control] * t
    return torch.from_numpy(glide.astype(np.float32))


def cosine(step: int, steps: int, warmup: int, floor: float = 0.01) -> float:
    """Learning-rate factor: a linear rise over ``warmup`` steps, then half a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


def box_mask(boxes: Tensor, size: int) -> Tensor:
    """Boxes [..., 4] (top, left, bottom, right) -> masks [..., size, size] of 0 and 1."""
    index = torch.arange(size, device=boxes.device)
    top, left, bottom, right = (boxes[..., i, None] for i in range(4))
    rows, columns = (index >= top) & (index < bottom), (index >= left) & (index < right)
    return (rows[..., :, None] & columns[..., None, :]).float()


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
