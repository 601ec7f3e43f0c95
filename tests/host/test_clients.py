"""clients/queue.py and farm.py as their users run them: a process, a folder for the result, an exit code."""

import json
import os
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .comfyui import PACK, RUN_LIMIT, Server, free_port
from .conftest import load_json
from .test_queued_workflows import FPS, check_video, node_of, num_chunks, succeed, videos, workflow

pytestmark = pytest.mark.host

SCRIPT = PACK / "clients" / "queue.py"
FARM = PACK / "clients" / "farm.py"
API = PACK / "workflows" / "api"


def command(server: Server | str, out: Path, *options: str) -> list[str]:
    address = server if isinstance(server, str) else f"127.0.0.1:{server.port}"
    return [sys.executable, str(SCRIPT), "--server", address, "--out", str(out), *options]


def queue(server: Server | str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = command(server, out, *options)
    return subprocess.run(line, capture_output=True, text=True, timeout=RUN_LIMIT, check=False)


def fetched(run: subprocess.CompletedProcess[str]) -> list[Path]:
    """What it says it fetched is there, and nothing is half there."""
    paths = [Path(line) for line in run.stdout.splitlines()]
    assert all(path.is_file() for path in paths)
    assert not [part for path in paths for part in path.parent.glob("*.part")]
    return paths


def refused(run: subprocess.CompletedProcess[str]) -> str:
    """It failed, in one sentence; what stands above it is no traceback."""
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    *_, last = run.stderr.splitlines()
    assert last.startswith("error: ")
    return last


def test_the_bundled_workflow(server: Server, tmp_path: Path) -> None:
    run = queue(server, tmp_path / "new" / "folder", "--seconds", "1", "--seed", "3", "--save-stills")
    assert run.returncode == 0, run.stderr
    (path,) = fetched(run)
    assert path.parent == tmp_path / "new" / "folder"
    assert len(check_video(path, seconds=1.0, sound=True)) == FPS
    said = [line for line in run.stderr.splitlines() if line.startswith("chunk ")]
    assert len(said) == num_chunks(FPS)
    assert said[-1].startswith("chunk 3: 1.0 of 1.0 s, ")
    assert f"after {num_chunks(FPS)} previews" in run.stderr
    stills = sorted(path.parent.glob("still_*.jpg"))
    assert len(stills) == num_chunks(FPS)
    assert all(min(Image.open(still).size) >= 128 for still in stills)


def test_own_picture_and_sound(server: Server, tmp_path: Path) -> None:
    """Names as people give them; another size, by --set, in place of the workflow's."""
    rng = np.random.default_rng(0)
    picture, sound = tmp_path / 'me "now" ä.png', tmp_path / "my voice.wav"
    Image.fromarray(rng.integers(0, 255, (90, 210, 3), dtype=np.uint8)).save(picture)
    with wave.open(str(sound), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes(rng.integers(-9000, 9000, 44_100 * 2, dtype=np.int16).tobytes())
    changes = ["--set", "4.width=160", "--set", "4.height=128", "--set", "4.fit=letterbox", "--seconds", "0"]
    run = queue(server, tmp_path, "--reference", str(picture), "--audio", str(sound), *changes)
    assert run.returncode == 0, run.stderr
    (path,) = fetched(run)
    assert check_video(path, seconds=1.0, sound=True).shape == (FPS, 128, 160, 3)


def test_another_workflow_whose_result_another_node_saves(server: Server, tmp_path: Path) -> None:
    """The video, not the stills that are shown beside it."""
    run = queue(server, tmp_path, "--workflow", str(API / "portrait_chunks.json"), "--seconds", "0.5")
    assert run.returncode == 0, run.stderr
    (path,) = fetched(run)
    check_video(path, seconds=0.5, sound=True)
    again = queue(server, tmp_path, "--workflow", str(API / "portrait_chunks.json"), "--seconds", "0.5")
    assert fetched(again) == [path], "served from ComfyUI's cache"


def test_a_value_that_no_node_takes_is_one_sentence(server: Server, tmp_path: Path) -> None:
    sentence = refused(queue(server, tmp_path, "--set", "2.portrait=nobody.png"))
    assert "node 2 (KnotForcingSamplePortrait)" in sentence
    assert "nobody.png" in sentence
    assert "no input 'wdth', but " in refused(queue(server, tmp_path, "--set", "4.wdth=160"))
    assert "with a node of 1, 2" in refused(queue(server, tmp_path, "--set", "99.width=160"))
    idle = ("--workflow", str(API / "portrait_idle.json"))
    assert "--audio" in refused(queue(server, tmp_path, *idle, "--audio", str(SCRIPT)))
    running = refused(queue(server, tmp_path, *idle, "--seconds", "0"))  # known only when the node runs
    assert "node 7 (Knot Forcing Stream to Video)" in running
    assert "never ends" in running


def test_a_workflow_with_unknown_nodes_is_one_sentence(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "unknown.json"
    prompt = load_json(API / "portrait_headless.json")
    prompt["6"]["class_type"] = "NoSuchNode"
    file.write_text(json.dumps(prompt), encoding="utf-8")
    sentence = refused(queue(server, tmp_path, "--workflow", str(file)))
    assert "not found" in sentence or "does not exist" in sentence  # 0.33 names it by its title, 0.8 by its class
    assert "#6" in sentence or "NoSuchNode" in sentence
    del prompt["6"]
    file.write_text(json.dumps(prompt), encoding="utf-8")
    assert "no outputs" in refused(queue(server, tmp_path, "--workflow", str(file)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is no workflow"),
        ("{}", "is no workflow"),
        ('{"1": {"inputs": {}}}', "is no workflow"),
        ('{"nodes": []}', "in the editor's form"),
    ],
)
def test_a_file_that_is_no_workflow_is_refused_before_anything_else(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text, encoding="utf-8")
    assert said in refused(queue("127.0.0.1:9", tmp_path, "--workflow", str(file)))
    assert "bad.json" in refused(queue("127.0.0.1:9", tmp_path, "--workflow", str(tmp_path / "no" / "bad.json")))


def test_a_wrong_address_is_one_sentence(tmp_path: Path) -> None:
    port = free_port()
    sentence = refused(queue(f"127.0.0.1:{port}", tmp_path))
    assert f"no ComfyUI answers at http://127.0.0.1:{port}" in sentence
    assert "--server" in sentence
    assert "no ComfyUI answers" in refused(queue("ftp://127.0.0.1", tmp_path))
    assert "no ComfyUI answers" in refused(queue("127.0.0.1:port", tmp_path))


def test_a_server_that_is_no_comfyui_is_one_sentence(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            assert "no ComfyUI answers" in refused(queue(f"http://127.0.0.1:{other.server_port}/", tmp_path))
        finally:
            other.shutdown()
            thread.join()


@contextmanager
def started(server: Server, out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """It runs; whatever happens, it does not go on afterwards."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command(server, out, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as process:  # fmt: skip
        try:
            yield process
        except BaseException:  # what still runs there would keep every test that comes next waiting
            server.post("/queue", {"clear": True})
            server.post("/interrupt", {})
            raise
        finally:
            process.kill()


@contextmanager
def one_runs_one_waits(server: Server, out: Path) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """Two long streams: the first has made a chunk, the second is queued behind it."""
    idle = ("--workflow", str(API / "portrait_idle.json"), "--seconds", "3600")
    with started(server, out, *idle) as first:
        wait_for(first, "chunk 1:")
        with started(server, out, *idle, "--seed", "9") as second:
            wait_for(second, "queued as ")
            yield first, second


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if line.startswith(beginning):
            return
        said.append(line)
    raise AssertionError(f"it ended before it said {beginning!r}: {''.join(said)}")


def interrupted(process: subprocess.Popen[str], *, code: int = 130) -> tuple[list[str], str]:
    """Ctrl-C; the paths that it prints, and what it says."""
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=RUN_LIMIT)
    assert process.returncode == code, said
    return out.splitlines(), said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that reaches one process as Ctrl-C does")
def test_ctrl_c_finishes_the_stream_as_a_success(server: Server, tmp_path: Path) -> None:
    with started(server, tmp_path, "--workflow", str(API / "portrait_idle.json"), "--seconds", "-1") as process:
        wait_for(process, "chunk 3: 1.3 s, ")
        (path,), said = interrupted(process, code=0)
    assert "finishing" in said
    assert "done, after" in said
    assert len(check_video(Path(path), seconds=None, sound=False)) >= 9 + 12 + 12
    newest = max(server.get("/history").values(), key=lambda entry: entry["prompt"][0])
    assert newest["status"]["status_str"] == "success"
    assert newest["outputs"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that reaches one process as Ctrl-C does")
def test_a_second_ctrl_c_stops_at_once_and_keeps_what_was_made(server: Server, tmp_path: Path) -> None:
    prompt, chunks = load_json(API / "portrait_from_audio.json"), load_json(API / "portrait_chunks.json")
    slow = chunks[node_of(chunks, "KnotForcingSettings")]
    prompt["slow"] = slow | {"inputs": slow["inputs"] | {"steps": 50, "num_chunk_frames": 9, "num_window_frames": 9}}
    prompt[node_of(prompt, "KnotForcingStreamToVideo")]["inputs"]["settings"] = ["slow", 0]
    (tmp_path / "slow.json").write_text(json.dumps(prompt), encoding="utf-8")
    options = ("--workflow", str(tmp_path / "slow.json"), "--seconds", "-1")
    with started(server, tmp_path, *options) as process:
        wait_for(process, "chunk 1:")
        process.send_signal(signal.SIGINT)
        wait_for(process, "finishing")
        (path,), said = interrupted(process)
    assert "stopping" in said
    assert len(check_video(Path(path), seconds=None, sound=True)) >= 9
    server.wait_until_idle()
    assert len(videos(server, succeed(server, short_idle()))) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that reaches one process as Ctrl-C does")
def test_ctrl_c_takes_a_waiting_prompt_back_and_leaves_the_running_one(server: Server, tmp_path: Path) -> None:
    with one_runs_one_waits(server, tmp_path) as (first, second):
        assert interrupted(second)[0] == []
        assert len(server.get("/queue")["queue_running"]) == 1
        assert server.get("/queue")["queue_pending"] == []
        wait_for(first, "chunk ")
        interrupted(first, code=0)
    server.wait_until_idle()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that reaches one process as Ctrl-C does")
def test_a_prompt_that_is_taken_out_of_the_queue_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    with one_runs_one_waits(server, tmp_path) as (first, second):
        server.post("/queue", {"clear": True})
        _, said = second.communicate(timeout=RUN_LIMIT)
        assert second.returncode == 1
        assert "taken out of ComfyUI's queue" in said
        interrupted(first, code=0)
    server.wait_until_idle()


def short_idle() -> dict:
    prompt = workflow("portrait_idle")
    prompt["7"]["inputs"]["seconds"] = 0.5
    return prompt


def test_help_tells_every_option() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    for option in ("--server", "--workflow", "--reference", "--audio", "--seed", "--seconds", "--set", "--out"):
        assert option in run.stdout
    assert run.stderr == ""
    wrong = subprocess.run([sys.executable, str(SCRIPT), "--sede", "1"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2


def farm(server: Server, jobs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """With a second machine that nobody ever reached."""
    machines = ["--comfy", f"127.0.0.1:{server.port}", "--comfy", f"127.0.0.1:{free_port()}"]
    line = [sys.executable, str(FARM), str(jobs), *machines, "--backoff", "0.2", "--give-up", "1", "--out", str(out)]
    return subprocess.run(line, capture_output=True, text=True, timeout=RUN_LIMIT, check=False)


def test_a_farm_makes_a_video_of_each_row(server: Server, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (160, 160, 3), dtype=np.uint8)).save(tmp_path / "me.png")
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(rng.integers(-9000, 9000, 24_000, dtype=np.int16).tobytes())
    rows = [
        "name,reference,audio,seed,seconds,4.width,4.height",
        "mine,me.png,voice.wav,3,0,,",
        "bundled,,,4,1,160,128",
        "no,,,5,-2,,",
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(rows), encoding="utf-8")
    run = farm(server, tmp_path / "jobs.csv", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert run.returncode == 1, run.stderr
    assert {job["name"]: job["state"] for job in found["jobs"]} == {
        "mine": "done",
        "bundled": "done",
        "no": "failed",
    }, run.stderr
    assert next(job for job in found["jobs"] if job["name"] == "no")["reason"]
    files = {job["name"]: job["files"] for job in found["jobs"] if job["state"] == "done"}
    assert check_video(tmp_path / "out" / files["mine"][0], seconds=1.0, sound=True).shape[1:] == (128, 128, 3)
    assert check_video(tmp_path / "out" / files["bundled"][0], seconds=1.0, sound=True).shape[1:] == (128, 160, 3)
    again = farm(server, tmp_path / "jobs.csv", tmp_path / "out")
    assert "3 jobs, 2 of them done before" in again.stderr
