"""Long, and often: half an hour of one stream, and many prompts after one another, in the memory of the first."""

import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import av
import pytest
import websocket

from . import comfyui
from .comfyui import Server, host_version
from .test_queued_workflows import FPS, node_of, succeed, videos, with_inputs, workflow
from .test_states import WRITER, idle

pytestmark = [pytest.mark.host, pytest.mark.slow]

MINUTES = 30
AROUND = 12  # samples of one minute
SOAK_LIMIT = 6 * 3600  # seconds; on one busy core it takes about as long as the video, on four idle ones minutes
Json = dict[str, Any]


@pytest.mark.skipif("KNOT_SOAK" not in os.environ, reason="NO SOAK TEST: half an hour of video; set KNOT_SOAK=1")
def test_half_an_hour_takes_the_memory_of_a_minute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2 %, as the stream's own figures tell; at a minute the process is warm. The video is all there.

    Beside it what the process alone holds (anonymous memory) is watched from outside: of the rest, which is mapped from
    files, a system that runs short takes away what it likes, and that must not hide a leak.
    """
    monkeypatch.setattr(comfyui, "RUN_LIMIT", SOAK_LIMIT)
    prompt = idle(60 * MINUTES, filename_prefix="video/long")
    prompt["stats"] = {"class_type": "KnotForcingStreamStats", "inputs": {"stats": [node_of(prompt, WRITER), 2]}}
    prompt["json"] = {"class_type": "PreviewAny", "inputs": {"source": ["stats", 0]}}
    with watched(server.process.pid) as own:
        run = succeed(server, prompt)
    (path,) = videos(server, run)
    found = figures(json.loads(run.outputs["json"]["text"][0]))
    told = {"comfyui": host_version(server.host), **found, "file_bytes": path.stat().st_size, "own_mib": own}
    tell(told)
    memory = found["memory_mib_by_minute"]
    assert len(memory) == MINUTES
    assert memory[-1] < 1.02 * memory[0], told
    assert median(own[-AROUND:]) < 1.02 * median(own[AROUND : 2 * AROUND]), told
    assert num_pictures(path) == 60 * MINUTES * FPS


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """A process's own memory in MiB, every 5 seconds."""
    found, over, place = [], Event(), Path(f"/proc/{pid}/smaps_rollup")

    def watch() -> None:
        while not over.wait(60 / AROUND):
            line = next(line for line in place.read_text().splitlines() if line.startswith("Anonymous:"))
            found.append(round(int(line.split()[1]) / 1024, 1))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def figures(stats: Json) -> Json:
    """Stream Stats' memory at each full minute of video (the most of the five seconds up to it), and its speed."""
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


def test_twenty_prompts_half_of_them_interrupted_leak_nothing(server: Server) -> None:
    """Queued all at once, videos and lists of chunks: memory within 1 %, the same threads and open files, nothing new
    in temp, and one state of the stream stopped last in output/states.

    Memory is what is allocated, which repeats to 0.1 %: what the system counts moves by 8 % from round to round,
    because glibc keeps some of what each thread has freed."""
    fill_pool(server)
    temp, states = server.base / "temp" / "knot_forcing", server.base / "output" / "states"
    queue_all(server, [a_prompt(number) for number in range(8)], stopped=range(0, 8, 2))
    before, there, saved = held(server), names_in(temp), names_in(states)
    ends = queue_all(server, [a_prompt(100 + number) for number in range(20)], stopped=range(0, 20, 2))
    assert ends == ["interrupted", "success"] * 10
    after = held(server)
    assert after["allocated"] < 1.01 * before["allocated"]
    assert after["objects"] < 1.03 * before["objects"]  # ComfyUI remembers 200 of each prompt that it ran
    assert after["threads"] <= before["threads"] + 1
    assert after["files"] <= before["files"] + 2
    assert names_in(temp) == there
    assert names_in(states) == saved | {"stopped.state.safetensors"}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}  # of none that is not there


def fill_pool(server: Server) -> None:
    """Have ComfyUI start the threads that its event loop reads files with: it starts one when all are busy, at any time
    up to asyncio's limit of 32, and keeps them."""
    with ThreadPoolExecutor(32) as clients:
        list(clients.map(server.data, ["/"] * 256))


def a_prompt(number: int) -> Json:
    """Every second one is to be stopped, and long; two and two are a video and a list of chunks."""
    seconds = 0.4 if number % 2 else 600
    if number % 4 < 2:
        return idle(seconds, seed=number)
    return with_inputs(with_inputs(workflow("portrait_chunks"), "KnotForcingSettings", steps=1), "KnotForcingStream",
                       seconds=seconds, seed=number)  # fmt: skip


def queue_all(server: Server, prompts: list[Json], stopped: range) -> list[str]:
    """How each of them ended; those of the numbers `stopped` are interrupted at their first preview."""
    client = uuid.uuid4().hex
    connection = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws?clientId={client}", timeout=300)
    try:
        ids = [server.post("/prompt", {"prompt": prompt, "client_id": client})["prompt_id"] for prompt in prompts]
        to_stop, ends, running = {ids[number] for number in stopped}, {}, None
        while len(ends) < len(ids):
            message = connection.recv()
            if isinstance(message, bytes):
                if running in to_stop:
                    to_stop.remove(running)
                    server.post("/interrupt", {"prompt_id": running})
                continue
            event = json.loads(message)
            kind, number = event["type"], event.get("data", {}).get("prompt_id")
            if kind == "execution_start":
                running = number
            elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                ends[number] = kind.removeprefix("execution_")
    finally:
        connection.close()
    server.wait_until_idle()
    return [ends[number] for number in ids]


def held(server: Server) -> dict[str, int]:
    """By ComfyUI's process: bytes that it has allocated, Python objects, threads, open files."""
    run = succeed(server, {"1": {"class_type": "StandInMemory", "inputs": {"number": uuid.uuid4().int % 2**31}}})
    place = Path(f"/proc/{server.process.pid}")
    return {
        **{name: value for name, (value,) in run.outputs["1"].items()},
        "threads": len(list((place / "task").iterdir())),
        "files": len(list((place / "fd").iterdir())),
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
