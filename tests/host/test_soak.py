"""Long, and often: half an hour of one stream, and many prompts after one another, in the memory of the first."""

import json
import os
from pathlib import Path
from typing import Any

import av
import pytest

from . import comfyui
from .comfyui import Server, host_version
from .test_run import FPS, node_of, succeed, videos
from .test_states import WRITER, idle

pytestmark = [pytest.mark.host, pytest.mark.slow]

MINUTES = 30
SOAK_LIMIT = 6 * 3600  # seconds; on one busy core it takes about as long as the video, on four idle ones minutes
Json = dict[str, Any]


@pytest.mark.skipif("KNOT_SOAK" not in os.environ, reason="NO SOAK TEST: half an hour of video; set KNOT_SOAK=1")
def test_half_an_hour_takes_the_memory_of_a_minute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2 %, as the stream's own figures tell; at a minute the process is warm. The video is all there."""
    monkeypatch.setattr(comfyui, "RUN_LIMIT", SOAK_LIMIT)
    prompt = idle(60 * MINUTES, filename_prefix="video/long")
    prompt["stats"] = {"class_type": "KnotForcingStreamStats", "inputs": {"stats": [node_of(prompt, WRITER), 2]}}
    prompt["json"] = {"class_type": "PreviewAny", "inputs": {"source": ["stats", 0]}}
    run = succeed(server, prompt)
    (path,) = videos(server, run)
    found = figures(json.loads(run.outputs["json"]["text"][0]))
    told = {"comfyui": host_version(server.host), **found, "file_bytes": path.stat().st_size}
    tell(told)
    memory = found["memory_mib_by_minute"]
    assert len(memory) == MINUTES
    assert memory[-1] < 1.02 * memory[0], told
    assert num_pictures(path) == 60 * MINUTES * FPS


def figures(stats: Json) -> Json:
    """Of Stream Stats: memory at each full minute of video (the most of the five seconds up to it), and speed."""
    chunks = stats["chunks"]
    frames = sum(row["pixel_frames"] for row in chunks)
    ends = [60 * FPS * minute for minute in range(1, frames // (60 * FPS) + 1)]
    last = [[row for row in chunks if end - 5 * FPS <= row["first_pixel_frame"] < end] for end in ends]
    seconds = [sum(row["seconds"] for row in chunks if row["first_pixel_frame"] < end) for end in ends]
    return {
        "memory_mib_by_minute": [max(row["memory_mib"] for row in rows) for rows in last],
        "seconds_by_minute": [round(value, 1) for value in seconds],
        "pixel_frames": frames,
        "fps": stats["summary"]["fps"],
        "chunk_s_p50": stats["summary"]["chunk_s_p50"],
    }


def tell(figures: Json) -> None:
    """On the terminal (with -s), and in the file that KNOT_SOAK_FIGURES names."""
    text = json.dumps(figures, indent=1)
    print(text)  # noqa: T201 - for who runs a test of half an hour to read
    if "KNOT_SOAK_FIGURES" in os.environ:
        Path(os.environ["KNOT_SOAK_FIGURES"]).write_text(text, encoding="utf-8")


def num_pictures(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.pts is not None for packet in container.demux(video=0))
