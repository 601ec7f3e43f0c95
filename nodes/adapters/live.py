"""Finished chunks to the editor while later ones are made: it is told where in which file they lie, and plays them.

The editor fetches the pieces from ComfyUI's own /view, so there is no route of ours. Without an editor nothing is sent.
"""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...knot_core import Audio, Chunk
from ...knot_core.media import LivePreview, Piece, Writer
from .runs import Run

EVENT = "knot_forcing.live"
FOLDER = "knot_forcing"  # in ComfyUI's temp folder


class Live:
    """Tells the editor of one stream's chunks."""

    def __init__(self, writer: Writer, run: Run, audio: Audio | None) -> None:
        self._run, self._stream = run, uuid4().hex
        self._preview = LivePreview(writer, _twin, fps=run.model.fps, audio=audio)

    @property
    def path(self) -> Path | None:
        """Of a preview that is a file of its own."""
        return self._preview.path

    def after(self, chunk: Chunk) -> None:
        """When it is written, and its figures are in the run's log."""
        piece = self._preview.after(chunk.pixel_frames)
        if piece is not None:
            self._send(_place(piece) | self._figures())

    def close(self) -> None:
        self._preview.close()
        self._send({"ended": True, "finished": self._run.num_made >= self._run.num_pixel_frames})

    def _figures(self) -> dict[str, Any]:
        """Of the newest chunk."""
        run = self._run
        row = run.log.row(-1)
        return {
            "chunk": int(row["chunk"]),
            "frames": run.num_made,
            "all_frames": run.num_pixel_frames,
            "rate": run.model.fps,
            "fps": row["pixel_frames"] / max(row["seconds"], 1e-9),
            "latency": row["seconds"],
            "memory_mib": row["memory_mib"],
            "device_mib": row["device_mib"],
        }

    def _send(self, values: dict[str, Any]) -> None:
        context, server = get_executing_context(), PromptServer.instance
        if context is None or server.client_id is None:
            return
        ids = {"node": context.node_id, "prompt_id": context.prompt_id, "stream": self._stream}
        server.send_sync(EVENT, ids | values, server.client_id)


def _twin() -> Path:
    return temp_folder() / f"live_{uuid4().hex}.mp4"


def temp_folder() -> Path:
    return Path(folder_paths.get_temp_directory()) / FOLDER


def _place(piece: Piece) -> dict[str, Any]:
    """As /view names it."""
    roots = {"output": folder_paths.get_output_directory(), "temp": folder_paths.get_temp_directory()}
    path = Path(os.path.abspath(piece.path))  # as /view: links in these folders stay the folders' own
    kind, root = next((kind, root) for kind, root in roots.items() if path.is_relative_to(os.path.abspath(root)))
    subfolder = path.parent.relative_to(os.path.abspath(root)).as_posix()
    place = {"filename": piece.path.name, "subfolder": "" if subfolder == "." else subfolder, "type": kind}
    return {"file": place, "start": piece.start, "stop": piece.stop, "mime": piece.mime}
