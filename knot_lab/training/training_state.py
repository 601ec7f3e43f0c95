"""Parts of every training stage: checkpoints that resume bit for bit, and a log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from knot_core.errors import StateError


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside, then replace: a run killed while saving keeps its last checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_checkpoint(path: Path) -> dict | None:
    """The state that ``save_checkpoint`` wrote, or None where there is none yet."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def load_training(path: Path) -> dict | None:
    """The state of a stage, as the loop saves it.

    Raises: StateError for a checkpoint of an earlier version, whose stages had states of their own.
    """
    state = load_checkpoint(path)
    if state is not None and "fixed" not in state:
        raise StateError(
            f"{path} is a checkpoint of an earlier version, which this one does not go on from; train in another "
            "folder, or remove it to begin anew"
        )
    return state


def log_line(path: Path, **values: float) -> None:
    """Append one JSON line, and show it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)  # noqa: T201
