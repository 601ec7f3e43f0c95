"""A stream is paused, gone on with and finished while it runs, by whoever queued it and by nobody else."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .comfyui import Server
from .following import ROUTE, Following, ask
from .test_queued_workflows import FPS, node_of, read_video, videos
from .test_states import WRITER, going_on, idle, pictures_of, saving

pytestmark = pytest.mark.host
Json = dict[str, Any]
FOLDER = "controlled"


def endless(name: str, **inputs: object) -> Json:
    return idle(-1, filename_prefix=f"{FOLDER}/{name}", **inputs)


def file_of(server: Server, name: str) -> Path:
    (path,) = (server.base / "output" / FOLDER).glob(f"{name}_*.mp4")
    return path


def test_finishing_is_a_success_and_everything_behind_it_runs(server: Server) -> None:
    prompt = saving(endless("finish"), prefix="states/finished")
    with Following(server, prompt) as stream:
        begun = stream.until(lambda data: data.get("begun"))
        assert begun["target"]["subfolder"] == FOLDER
        assert begun["target"]["filename"] == file_name(begun["target"])
        stream.chunks(2)
        assert stream.ask("finish")["state"] == "finishing"
        run = stream.end()
    assert run.status == "success", run.error
    assert stream.live[-1]["ended"]
    assert stream.live[-1]["finished"]
    (path,) = videos(server, run)
    made = len(read_video(path)[0])
    assert made >= 9 + 12
    assert (made - 9) % 12 == 0, "whole chunks"
    assert server.get(f"/history/{run.prompt_id}")[run.prompt_id]["status"]["status_str"] == "success"
    (name,) = run.outputs["save"]["text"]
    rest = pictures_of(server, going_on(name, 12 / FPS))
    assert np.array_equal(pictures_of(server, idle((made + 12) / FPS))[made:], rest), "the very frames"


def file_name(place: Json) -> str:
    assert place["type"] == "output"
    assert place["filename"].startswith("finish_")
    return place["filename"]


def test_what_was_finished_early_is_not_what_its_inputs_ask_for(server: Server) -> None:
    """Queued again it runs again: the cache does not hand out the beginning for the whole."""
    prompt = idle(24, filename_prefix=f"{FOLDER}/again", seed=9)
    for _ in range(2):
        with Following(server, prompt) as stream:
            stream.chunks(1)
            stream.ask("finish")
            assert stream.end().status == "success"
    assert len(list((server.base / "output" / FOLDER).glob("again_*.mp4"))) == 2


def settled(measure: Callable[[], int]) -> int:
    """What is measured, once it is twice the same with a second between."""
    found, deadline = None, time.monotonic() + 30
    while found != (found := measure()):
        assert time.monotonic() < deadline, "it still grows"
        time.sleep(1)
    return found


def test_a_paused_stream_makes_nothing_runs_in_the_queue_and_goes_on(server: Server) -> None:
    with Following(server, endless("pause")) as stream:
        stream.chunks(1)
        stream.ask("pause")
        stream.until(lambda data: data.get("waiting"))
        waiting = stream.until(lambda data: data.get("waiting"))
        assert waiting["state"] == "paused"
        assert waiting["newest"]["chunk"] == max(data["chunk"] for data in stream.live if "chunk" in data)
        made = settled(lambda: len(read_video(file_of(server, "pause"))[0]))  # what was drawn ahead is written yet
        memory = settled(lambda: resident(server))
        time.sleep(2)
        assert len(read_video(file_of(server, "pause"))[0]) == made
        assert resident(server) - memory < 2**20, "bytes: nothing grows meanwhile"
        assert [entry[1] for entry in server.get("/queue")["queue_running"]] == [stream.run.prompt_id]
        assert stream.ask("go_on", path=f"/api{ROUTE}")["state"] == "running"
        stream.chunks(2)
        stream.ask("finish")
        assert stream.end().status == "success"
    frames = read_video(file_of(server, "pause"))[0]
    whole = server.run(idle(len(frames) / FPS, filename_prefix=f"{FOLDER}/unpaused"))
    assert np.array_equal(frames, read_video(videos(server, whole)[0])[0]), "a pause changes no frame"


def resident(server: Server) -> int:
    """Bytes of memory that the server holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def test_stop_is_obeyed_at_once_while_paused_and_leaves_a_state_in_the_output_folder(server: Server) -> None:
    for saved_as in ("one file in output/states", "in temp"):  # as older workflows have it
        with Following(server, endless("stop", if_stopped=saved_as)) as stream:
            stream.chunks(1)
            stream.ask("pause")
            stream.until(lambda data: data.get("waiting"))
            began = time.monotonic()
            server.post("/interrupt", {"prompt_id": stream.run.prompt_id})
            assert stream.end().status == "interrupted"
            assert time.monotonic() - began < 5, "seconds, on a machine that is busy"
        made = len(read_video(file_of(server, "stop"))[0])
        state = server.base / "output" / "states" / "stopped.state.safetensors"
        assert time.time() - state.stat().st_mtime < 60
        assert not list((server.base / "temp").rglob("*.state.safetensors"))
        for name in ("stopped", "stopped [temp]", "newest"):
            server.run(going_on(name, 0.48, filename_prefix=f"{FOLDER}/on"))
        rest = pictures_of(server, going_on("stopped", 12 / FPS))
        assert np.array_equal(pictures_of(server, idle((made + 12) / FPS))[made:], rest)
        for path in (server.base / "output" / FOLDER).glob("stop_*.mp4"):
            path.unlink()


def test_a_paused_stream_can_be_finished(server: Server) -> None:
    with Following(server, endless("both")) as stream:
        stream.chunks(1)
        stream.ask("pause")
        stream.until(lambda data: data.get("waiting"))
        assert stream.ask("finish")["state"] == "finishing"
        assert stream.end().status == "success"
    assert stream.ask_refused("go_on") == 404, "it is over"


def test_streams_of_one_node_are_finished_one_by_one(server: Server) -> None:
    """A list of references; and a node of a subgraph, whose id has a colon."""
    prompt = endless("list")
    writer, anchor = node_of(prompt, WRITER), node_of(prompt, "KnotForcingEncodeAnchor")
    portrait = node_of(prompt, "KnotForcingSamplePortrait")
    prompt["both"] = {"class_type": "StandInList", "inputs": {"first": [portrait, 0], "second": [portrait, 0]}}
    prompt[anchor]["inputs"]["image"] = ["both", 0]
    prompt["12:7"] = prompt.pop(writer)
    streams = []
    with Following(server, prompt) as stream:
        for _ in range(2):
            begun = stream.until(lambda data: data.get("begun"))
            assert begun["node"] == "12:7"
            streams.append(begun["stream"])
            stream.chunks(1)
            stream.ask("finish")
        run = stream.end()
    assert run.status == "success", run.error
    assert len(set(streams)) == 2
    assert len(videos(server, run)) == 2


WRONG = [
    ("null", 403, {"Origin": "null"}),
    ("another site", 403, {"Origin": "https://evil.example"}),
    ("this machine, another port", 403, {"Origin": "http://127.0.0.1:1"}),
    ("no origin at all in it", 403, {"Origin": "file://"}),
    ("a name that leads here", 403, {"host": "evil.example:8188"}),
    ("another address", 403, {"host": "10.1.2.3"}),
    ("every address", 403, {"host": "0.0.0.0"}),
    ("no host", 403, {"host": "[::1"}),
    ("a form", 415, {"kind": "application/x-www-form-urlencoded"}),
    ("plain text, which asks no permission", 415, {"kind": "text/plain"}),
]


@pytest.fixture(scope="module")
def paused(server: Server) -> Any:
    """A stream that waits while others knock."""
    with Following(server, endless("refusals")) as stream:
        stream.chunks(1)
        stream.ask("pause")
        stream.until(lambda data: data.get("waiting"))
        yield stream
        stream.ask("finish")
        assert stream.end().status == "success"


def right(stream: Following) -> Json:
    return {"stream": stream.live[0]["stream"], "token": stream.live[0]["control"]["token"], "action": "finish"}


@pytest.mark.parametrize(("status", "headers"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_stranger_is_refused(server: Server, paused: Following, status: int, headers: Json) -> None:
    got, said = ask(server, right(paused), **headers)
    assert got == status
    if "plain" not in said:  # ComfyUI's own guard comes first, and says nothing
        is_a_sentence(said)
    still_waits(server, paused)


BODIES = [
    ("not JSON", 400, b"{"), ("nothing", 400, b""), ("no text", 400, b"\xff\xfe"), ("nested", 400, b"[" * 4000),
    ("a list", 400, []), ("a number", 400, 7), ("null", 400, None), ("huge", 413, b'{"token": "' + b"x" * 10**7),
    ("numbers", 400, {"stream": 1, "token": 2, "action": 3}), ("lists", 400, {"token": [], "stream": {}, "action": ""}),
    ("no token", 400, {"stream": "a", "action": "finish"}), ("unknown", 404, {"stream": "a"}),
    ("another token", 403, {"token": "a"}), ("an empty token", 403, {"token": ""}),
    ("no letters", 403, {"token": "\ud800ü"}),
    ("another action", 400, {"action": "explode\n"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "body"), BODIES, ids=[row[0] for row in BODIES])
def test_a_hostile_body_is_refused_in_one_sentence(
    server: Server, paused: Following, name: str, status: int, body: object
) -> None:
    if name in ("unknown", "another token", "an empty token", "no letters", "another action"):
        body = right(paused) | body
    got, said = ask(server, body)
    assert got == status
    is_a_sentence(said)
    still_waits(server, paused)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_only_post_is_taken(server: Server, paused: Following, method: str) -> None:
    for path in (ROUTE, f"/api{ROUTE}"):
        got, said = ask(server, right(paused), path=path, method=method)
        assert got == 405
        is_a_sentence(said)
    still_waits(server, paused)


def test_our_own_page_and_programs_are_let_in(server: Server, paused: Following) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]"):
        host = f"{name}:{server.port}"
        assert ask(server, right(paused) | {"action": "pause"}, host=host, Origin=f"http://{host}")[0] == 200
    assert ask(server, right(paused) | {"action": "pause"})[0] == 200


def test_the_token_is_told_to_nobody_else(server: Server, paused: Following) -> None:
    token = right(paused)["token"]
    for path in ("/queue", "/history", "/api/jobs", "/object_info/KnotForcingStreamToVideo"):
        assert token not in server.text(path)
    assert token not in server.log.read_text(encoding="utf-8", errors="replace")
    assert token.encode() not in file_of(server, "refusals").read_bytes()


def is_a_sentence(said: Json) -> None:
    assert set(said) == {"error"}
    assert "\n" not in said["error"]
    assert 20 < len(said["error"]) < 300


def still_waits(server: Server, stream: Following) -> None:
    assert [entry[1] for entry in server.get("/queue")["queue_running"]] == [stream.run.prompt_id]
