"""A stream into a file of ComfyUI's output folder, chunk by chunk."""

import json
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from comfy.cli_args import args
from comfy_execution.graph_utils import ExecutionBlocker

from ...knot_core import Chunk, KnotError, Snapshot, StreamStats, open_writer
from ...knot_core.media import FORMATS
from ...knot_core.run import LateFile, write_chunks
from .crop_placement import Placed, pasting
from .editor_feed import Live
from .media import HostAudio, OutputFile, to_audio
from .names import next_free
from .running_streams import controlled
from .runs import HostRun
from .states import filled_prefix, state_kept

NO_VALUE = ExecutionBlocker(None)  # on a wire: what would take it does not run


@dataclass(frozen=True, kw_only=True)
class Written:
    """The results of a stream that was written to a file."""

    path: Path  # of the video, or the folder of pictures
    preview: Path | None  # of what a browser plays in its place
    state: Snapshot
    stats: StreamStats
    cut_short: bool  # by whoever watched: it is not what its inputs ask for


def output_target(prefix: str, video_format: str, begun: Snapshot, hidden: Any) -> OutputFile:
    """The next free name in ComfyUI's output folder; `hidden` is the node's, with the prompt and the workflow."""
    suffix = FORMATS[video_format].suffix if video_format in FORMATS else ""
    return OutputFile(*next_free(filled_prefix(prefix, begun, hidden), suffix))


def write_stream(  # noqa: PLR0913 - what a video is made of
    run: HostRun,
    path: Path,
    *,
    video_format: str,
    audio: HostAudio | None,
    played: float,
    metadata: dict[str, str],
    keep_state: str,
    workflow: object = None,
    placed: Placed | None = None,
) -> Written:
    """Append chunk by chunk; whatever ends the stream, also stop, the file is closed properly and kept.

    The sound is that of the driving, `played` seconds in. Whoever queued the prompt may let it wait between two chunks,
    or finish: then the video is what was made, and nothing has failed.
    """
    sound = None if audio is None else to_audio(audio).starting_at(played)
    opened = partial(open_writer, path, audio=sound, video_format=video_format, metadata=metadata)
    with (
        state_kept(run, keep_state),
        controlled() as one,
        closing(LateFile(run, opened, pasting(placed))) as file,
        Live(run, one, path, sound, workflow) as live,
    ):

        def after(chunk: Chunk) -> bool:
            live.after(file.writer, chunk)
            return live.goes_on()

        write_chunks(run, file, after)
    if file.writer is None:
        raise KnotError("there is nothing to write: the driving has ended. Set seconds, or connect another")
    return Written(
        path=path, preview=live.path, state=run.state(), stats=run.stats(),
        cut_short=run.num_made < run.num_pixel_frames,
    )  # fmt: skip


def workflow_id(extra_pnginfo: Any) -> str | None:
    """The identifier by which the editor recognises a graph, if it gave one."""
    workflow = (extra_pnginfo or {}).get("workflow")
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found if isinstance(found, str) else None


def container_metadata(prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
    """The metadata from which the editor can open the graph again, under the keys that ComfyUI's Save Video uses."""
    if args.disable_metadata:
        return {}
    found = {} if prompt is None else {"prompt": prompt}
    return {key: json.dumps(value) for key, value in (found | (extra_pnginfo or {})).items()}
