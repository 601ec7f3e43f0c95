"""The node Knot Forcing Live in a real ComfyUI: driven over its route, recorded, finished, and by nobody else."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import av
import numpy as np
import pytest
import websocket

from .comfyui import Server
from .conftest import LIVE_WORKFLOW, load_json
from .following import ask
from .live_sessions import LIVE, ROUTE, Driving, attaching, connect
from .test_downloads import files, stood_in  # noqa: F401 - `files` is a fixture
from .test_queued_workflows import FPS, node_of, read_video, videos
from .test_states import WRITER, going_on

pytestmark = pytest.mark.host
Json = dict[str, Any]
FOLDER = "live"
CHANGE = "/knot_forcing/live/change"
TURNED = '{"yaw": [[0, 0.9]]}'


def session(name: str, **inputs: object) -> Json:
    prompt = load_json(LIVE_WORKFLOW)
    prompt[node_of(prompt, LIVE)]["inputs"] |= {"filename_prefix": f"{FOLDER}/{name}"} | inputs
    return prompt


def timeline(prompt: Json, text: str) -> Json:
    """Beneath it, combined with idle motion."""
    prompt["idle"] = {"class_type": "KnotForcingDrivingIdle", "inputs": {"seed": 3}}
    prompt["curves"] = {"class_type": "KnotForcingExpressionTimeline", "inputs": {"timeline": text}}
    weights = {"mode": "blend", "head": 1.0, "eyes": 1.0, "brow": 1.0, "mouth": 0.0, "endless": False}
    both = {"first": ["idle", 0], "second": ["curves", 0], **weights}
    prompt["both"] = {"class_type": "KnotForcingCombineDriving", "inputs": both}
    prompt[node_of(prompt, LIVE)]["inputs"]["driving"] = ["both", 0]
    return prompt


def test_it_is_driven_recorded_and_finished(server: Server) -> None:
    with Driving(server, session("driven", longest=60.0)) as live:
        created = live.attach()
        assert created["fps"] == FPS
        assert {"yaw", "blink"} <= created["controls"].keys()
        live.chunks(2)
        live.send("session.interaction", event_id="turn", controls={"yaw": 0.8})
        applied = live.hear("control.applied", lambda said: said.get("event_id") == "turn")
        tone = (8000 * np.sin(np.arange(24_000) * 0.05)).astype("<i2")
        live.socket.send_binary(bytes([16]) + bytes(15) + tone.tobytes())
        live.send("input_audio_buffer.commit")
        live.hear("video.chunk_metadata", lambda said: said["speech"])
        live.chunks(2)
        live.send("session.finish")
        assert live.hear("session.ended")["reason"] == "finished"
        run = live.end()
    assert run.status == "success", run.error
    assert live.live[-1]["ended"]
    (path,) = videos(server, run)
    frames, _, facts = read_video(path)
    assert facts["rate"] == FPS
    assert len(frames) >= applied["frame"] + 12
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert np.abs(sound).max() > 0.1, "what was said is in the recording"
    assert b"trainedAlgorithmicMedia" in path.read_bytes()


def test_nobody_attaches_to_a_session_that_lasts_a_second(server: Server) -> None:
    """A client that only queues gets what it asked for; one who drives it may come later."""
    prompt = session("later", longest=1.0)
    with Driving(server, prompt) as live:
        live.until(lambda data: data.get("waiting"))
        live.attach_late()
        assert live.hear("session.ended")["reason"] == "longest"
        run = live.end()
    assert run.status == "success", run.error
    (path,) = videos(server, run)
    assert len(read_video(path)[0]) >= FPS


def test_the_state_goes_on_where_the_session_ended(server: Server) -> None:
    with Driving(server, session("state")) as live:
        live.attach()
        live.chunks(3)
        live.send("session.finish")
        live.hear("session.ended")
        assert live.end().status == "success"
    run = server.run(going_on("stopped", 12 / FPS, filename_prefix=f"{FOLDER}/on"))
    assert run.status == "success", run.error
    assert len(read_video(videos(server, run)[0])[0]) == 12


def test_comfyui_s_stop_ends_it_at_once_and_keeps_what_was_shown(server: Server) -> None:
    with Driving(server, session("stopped")) as live:
        live.attach()
        live.chunks(3)
        live.send("session.pause")
        live.hear("session.state", lambda said: said["state"] == "paused")
        began = time.monotonic()
        server.post("/interrupt", {"prompt_id": live.run.prompt_id})
        assert live.hear("session.ended")["reason"] == "stopped"
        assert live.end().status == "interrupted"
        assert time.monotonic() - began < 5, "seconds, on a machine that is busy"
    (path,) = (server.base / "output" / FOLDER).glob("stopped_*.mp4")
    assert len(read_video(path)[0]) >= 9 + 12


def test_a_timeline_that_is_edited_takes_hold_while_it_runs(server: Server) -> None:
    with Driving(server, timeline(session("edited"), '{"yaw": [[0, -0.9]]}')) as live:
        live.attach()
        assert live.begun["timelines"] == ["curves"]
        before = live.chunks(3)
        wish = {"session": live.begun["session"], "token": live.begun["token"], "node": "curves", "text": TURNED}
        assert ask(server, wish, path=CHANGE) == (200, {"node": "curves"})
        live.chunks(4)
        for node, text, status in (("idle", TURNED, 422), ("curves", "{", 422), ("curves", '{"jaw": []}', 422)):
            got, said = ask(server, wish | {"node": node, "text": text}, path=CHANGE)
            assert got == status
            assert "\n" not in said["error"]
        assert ask(server, wish | {"token": "x"}, path=CHANGE)[0] == 404
        live.send("session.finish")
        live.hear("session.ended")
        assert live.end().status == "success"
    (path,) = videos(server, live.run)
    frames = read_video(path)[0].astype(float)
    end = before["first_frame"] + before["frames"]
    across = np.abs(frames[end - 5] - frames[-1]).mean()
    within = np.abs(frames[end - 5] - frames[end - 8]).mean()
    assert across > 3 * within, "the head has turned to the other side"


@pytest.mark.usefixtures("files")
def test_a_model_that_comfyui_holds_is_told_other_prompts_while_it_runs(server: Server) -> None:
    """From the edited Prompt Timeline, and typed in; both are encoded between two chunks."""
    prompt = stood_in("self_forcing_text_to_stream", unet_name="self_forcing.safetensors")
    writer, anchor = prompt.pop(node_of(prompt, WRITER)), [node_of(prompt, "KnotForcingEncodeAnchor"), 0]
    prompt["clip"] = {"class_type": "StandInClip", "inputs": {}}
    timed = {"anchor": anchor, "prompts": "0:00 calm", "blend_chunks": 0, "clip": ["clip", 0]}
    prompt["prompts"] = {"class_type": "KnotForcingPromptTimeline", "inputs": timed}
    given = {"model": writer["inputs"]["model"], "anchor": ["prompts", 0], "clip": ["clip", 0], "seed": 0}
    given |= {"longest": 60.0, "filename_prefix": f"{FOLDER}/told"}
    prompt["live"] = {"class_type": LIVE, "inputs": given}
    with Driving(server, prompt) as live:
        created = live.attach()
        assert (created["prompts"], created["controls"]) == (True, {})
        assert live.begun["timelines"] == ["prompts"]
        live.chunks(1)
        wish = {"session": live.begun["session"], "token": live.begun["token"], "node": "prompts", "text": "laughing"}
        assert ask(server, wish, path=CHANGE)[0] == 422
        assert ask(server, wish | {"text": "0:00 laughing"}, path=CHANGE) == (200, {"node": "prompts"})
        live.send("session.interaction", event_id="told", prompt="somebody sings")
        live.hear("control.applied", lambda said: said.get("event_id") == "told")
        live.chunks(1)
        live.send("session.finish")
        live.hear("session.ended")
        run = live.end()
    assert run.status == "success", run.error
    assert len(read_video(videos(server, run)[0])[0]) > 9


def test_without_a_client_it_lasts_its_time_or_says_why_not(server: Server) -> None:
    for seconds, status in ((0.0, "error"), (0.6, "success")):
        answer = server.post("/prompt", {"prompt": session("alone", longest=seconds)})
        server.wait_until_idle()
        entry = server.get(f"/history/{answer['prompt_id']}")[answer["prompt_id"]]
        assert entry["status"]["status_str"] == status
    (path,) = (server.base / "output" / FOLDER).glob("alone_*.mp4")
    assert len(read_video(path)[0]) >= 15


STRANGERS = [
    {"origin": "null"}, {"origin": "https://evil.example"}, {"origin": "http://127.0.0.1:1"}, {"host": "evil.example"},
]  # fmt: skip


@pytest.fixture(scope="module")
def running(server: Server) -> Any:
    """A session that goes on while others knock."""
    with Driving(server, session("refusals")) as live:
        live.attach()
        live.chunks(1)
        yield live
        live.send("session.finish")
        live.hear("session.ended")
        assert live.end().status == "success"


@pytest.mark.parametrize("headers", STRANGERS, ids=lambda headers: next(iter(headers.values())))
def test_a_stranger_s_page_cannot_attach(server: Server, running: Driving, headers: Json) -> None:
    for path in (ROUTE, f"/api{ROUTE}"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            connect(server, attaching(running.begun), path, **headers)
        assert refusal.value.status_code == 403


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "session.create"}, "not_here"),
        ({"type": "session.attach", "session": "x", "token": "y"}, "unknown_session"),
        ({"type": "session.view", "view_token": "y"}, "unknown_session"),
        ({"type": "ping"}, "not_created"),
    ],
)
def test_another_opening_is_refused_in_a_sentence(server: Server, running: Driving, first: Json, code: str) -> None:
    socket = connect(server, first)
    said = json.loads(socket.recv())
    assert (said["type"], said["code"]) == ("error", code)
    assert not socket.recv()
    running.chunks(1)


def test_another_token_opens_nothing(server: Server, running: Driving) -> None:
    socket = connect(server, attaching(running.begun) | {"token": "x" * 32})
    assert json.loads(socket.recv())["code"] == "unknown_session"


def test_the_token_is_told_to_nobody_else(server: Server, running: Driving) -> None:
    token = running.begun["token"]
    for path in ("/queue", "/history", "/api/jobs", f"/object_info/{LIVE}"):
        assert token not in server.text(path)
    assert token not in server.log.read_text(encoding="utf-8", errors="replace")


def test_the_page_s_modules_are_served_and_nothing_beside_them(server: Server) -> None:
    for name in ("player.js", "live_client.js", "speaker_worklet.js"):
        for prefix in ("", "/api"):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{server.port}{prefix}/knot_forcing/live/page/{name}", timeout=60
            ) as answer:
                assert answer.headers["Content-Type"].startswith("text/javascript")
                assert answer.read()
    for name in ("../session.py", "%2e%2e%2fsession.py", "nothing.js", "..%5c..%5cpyproject.toml"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            server.data(f"/knot_forcing/live/page/{name}")
        assert refusal.value.code == 404
