"""One stream to the editor while it runs: where finished chunks lie in which file, how it stands, how to control it.

The editor plays the pieces from ComfyUI's own /view. Only the client that queued the prompt is told, the editor or
another one; without one nothing is sent. All events have the name `knot_forcing.live`.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import folder_paths
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...knot_core import Audio, Chunk
from ...knot_core.media import LivePreview, Piece, Writer
from .routes import CONTROL
from .running_streams import Controlled
from .runs import HostRun, stop_if_asked

EVENT = "knot_forcing.live"
FOLDER = "knot_forcing"  # in ComfyUI's temp folder

_SECONDS_BETWEEN_REMINDERS = 1.0  # of a paused stream: a page may have been loaded again meanwhile


class Live:
    """Tells of one stream, from before its first chunk until its end."""

    def __init__(
        self, run: HostRun, controlled: Controlled, target: Path, audio: Audio | None, workflow: object
    ) -> None:
        """`target` is what the stream is written to; `workflow` the editor's own name of the graph, if there is one."""
        self._run, self._control, self._audio = run, controlled.control, audio
        self._said = {
            "stream": controlled.stream,
            "control": {"url": CONTROL, "token": controlled.token},
            "target": place_of(target),
            "workflow": workflow,
        }
        self._preview: LivePreview | None = None
        self._num_told, self._place, self._newest = 0, {}, {}
        self._reminded = 0.0

    def __enter__(self) -> "Live":
        self._send({"begun": True, "rate": self._run.model.fps, "all_frames": self._run.num_pixel_frames})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._preview is not None:
            self._preview.close()
        whole = self._run.num_made >= self._run.num_pixel_frames or self._control.finishing
        self._send({"ended": True, "finished": kind is None and whole})

    @property
    def path(self) -> Path | None:
        """The path of the preview's own file; None if it has none."""
        return None if self._preview is None else self._preview.path

    def after(self, writer: Writer, chunk: Chunk) -> None:
        """When it is written, and its figures are in the run's log; later ones may be there already."""
        if self._preview is None:
            self._preview = LivePreview(writer, _twin, fps=self._run.model.fps, audio=self._audio)
        piece = self._preview.after(chunk.pixel_frames)
        if piece is not None:
            self._place = _piece(piece)
        self._num_told += 1
        if self._place:
            self._newest = self._place | self._figures(chunk)
            self._send(self._newest)

    def goes_on(self) -> bool:
        """Whether another chunk is wanted; waits while the stream is paused, and obeys ComfyUI's stop meanwhile."""
        if self._run.num_made >= self._run.num_pixel_frames:
            return True  # it ends by itself: nothing to wait for
        return self._control.goes_on(self._while_paused)

    def _while_paused(self) -> None:
        stop_if_asked()
        if time.monotonic() >= self._reminded + _SECONDS_BETWEEN_REMINDERS:
            self._reminded = time.monotonic()
            self._send({"waiting": True, "newest": self._newest})

    def _figures(self, chunk: Chunk) -> dict[str, Any]:
        run = self._run
        row = run.log.row(self._num_told - 1)
        return {
            "chunk": int(row["chunk"]),
            "frames": run.end_of(chunk),
            "all_frames": run.num_pixel_frames,
            "rate": run.model.fps,
            "fps": row["pixel_frames"] / max(row["seconds"], 1e-9),
            "latency": row["seconds"],
            "memory_mib": row["memory_mib"],
            "device_mib": row["device_mib"],
        }

    def _send(self, values: Mapping[str, Any]) -> None:
        context, server = get_executing_context(), PromptServer.instance
        if context is None or server.client_id is None:
            return
        ids = {"node": context.node_id, "prompt_id": context.prompt_id, "state": self._control.state}
        server.send_sync(EVENT, {**ids, **self._said, **values}, server.client_id)


def _twin() -> Path:
    return temp_folder() / f"live_{uuid4().hex}.mp4"


def temp_folder() -> Path:
    return Path(folder_paths.get_temp_directory()) / FOLDER


def _piece(piece: Piece) -> dict[str, Any]:
    places = {"start": piece.start, "stop": piece.stop, "header": piece.header, "key": piece.key}
    return {"file": place_of(piece.path), "mime": piece.mime, **places}


def place_of(path: Path) -> dict[str, str]:
    """A file of ComfyUI's output or temp folder as /view names it."""
    roots = {"output": folder_paths.get_output_directory(), "temp": folder_paths.get_temp_directory()}
    path = Path(os.path.abspath(path))  # as /view: links in these folders stay the folders' own
    kind, root = next((kind, root) for kind, root in roots.items() if path.is_relative_to(os.path.abspath(root)))
    subfolder = path.parent.relative_to(os.path.abspath(root)).as_posix()
    return {"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": kind}
