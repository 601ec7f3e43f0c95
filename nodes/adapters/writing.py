"""A stream into a file of ComfyUI's output folder, chunk by chunk."""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy.cli_args import args
from comfy_execution.graph_utils import ExecutionBlocker

from ...knot_core import KnotError, Snapshot, StreamStats, open_writer
from ...knot_core.media import FORMATS
from .live import Live
from .media import HostAudio, OutputFile, to_audio
from .names import next_free
from .runs import Run
from .states import state_kept

NO_VALUE = ExecutionBlocker(None)  # on a wire: what would take it does not run


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a stream left behind."""

    path: Path  # of the video, or the folder of pictures
    preview: Path | None  # of what a browser plays in its place
    state: Snapshot
    stats: StreamStats


def output_target(prefix: str, video_format: str) -> OutputFile:
    """The next free name in ComfyUI's output folder."""
    folder, name, subfolder = next_free(prefix)
    suffix = FORMATS[video_format].suffix if video_format in FORMATS else ""
    return OutputFile(folder / f"{name}{suffix}", subfolder)


def write_stream(  # noqa: PLR0913 - what a video is made of
    run: Run, path: Path, *, video_format: str, audio: HostAudio | None, played: float, metadata: dict[str, str],
    keep_state: str,
) -> Written:
    """Append chunk by chunk; whatever ends the stream, also stop, the file is closed properly and kept.

    The sound is that of the driving, `played` seconds in.
    """
    sound = to_audio(audio).starting_at(played) if audio else None
    with state_kept(run, keep_state), ExitStack() as open_files:
        live = None
        for chunk in run:
            if live is None:  # not before there is something to write: a stream that cannot begin leaves no file
                height, width = chunk.pixel_frames.shape[1:3]
                writer = open_files.enter_context(open_writer(
                    path, width=width, height=height, fps=run.model.fps, audio=sound, video_format=video_format,
                    metadata=metadata,
                ))  # fmt: skip
                live = Live(writer, run, sound)
                open_files.callback(live.close)
            since = time.perf_counter()
            writer.write(chunk.pixel_frames)
            run.log.add(chunk, write=time.perf_counter() - since)
            live.after(chunk)
    if live is None:
        raise KnotError("there is nothing to write: the driving has been played out. Set seconds, or connect another")
    return Written(path=path, preview=live.path, state=run.state(), stats=run.stats())


def container_metadata(prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
    """What the editor needs to open the graph again from the file, under the keys that ComfyUI's Save Video uses."""
    if args.disable_metadata:
        return {}
    found = {} if prompt is None else {"prompt": prompt}
    return {key: json.dumps(value) for key, value in (found | (extra_pnginfo or {})).items()}
