"""Streams that go on: in the next prompt, after a restart, from where they were stopped; and files of every format."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from . import comfyui
from .comfyui import Server
from .conftest import HOSTS, NO_HOST, host_version
from .test_run import FPS, node_of, read_video, succeed, videos, with_inputs, workflow

pytestmark = pytest.mark.host

WRITER = "KnotForcingStreamToVideo"
Json = dict[str, Any]


def idle(seconds: float, **inputs: object) -> Json:
    """A stream of ben who idles, into `video/a`; with one step a chunk it is quick, and any stream will do here."""
    settings = workflow("portrait_from_audio")
    settings = settings[node_of(settings, "KnotForcingSettings")] | {"_meta": {}}
    given = {"seconds": seconds, "filename_prefix": "video/a", "settings": ["quick", 0], **inputs}
    quick = {"quick": {**settings, "inputs": settings["inputs"] | {"steps": 1}}}
    return with_inputs(workflow("portrait_idle"), WRITER, **given) | quick


def going_on(state_file: str, seconds: float, **inputs: object) -> Json:
    """A prompt that knows nothing but the model, the driving and a file."""
    prompt = idle(seconds, **inputs)
    writer, model = node_of(prompt, WRITER), node_of(prompt, "KnotForcingLoadModel")
    anchor, portrait = node_of(prompt, "KnotForcingEncodeAnchor"), node_of(prompt, "KnotForcingSamplePortrait")
    load = {"model": [model, 0], "state_file": state_file}
    rest = {key: node for key, node in prompt.items() if key not in (anchor, portrait, "quick")}
    for cable in ("anchor", "settings"):
        del rest[writer]["inputs"][cable]
    rest[writer]["inputs"]["state"] = ["load", 0]
    return rest | {"load": {"class_type": "KnotForcingLoadState", "inputs": load}}


def saving(prompt: Json, prefix: str = "states/a") -> Json:
    state = [node_of(prompt, WRITER), 1]
    return prompt | {
        "save": {"class_type": "KnotForcingSaveState", "inputs": {"state": state, "filename_prefix": prefix}}
    }


def pictures_of(server: Server, prompt: Json) -> np.ndarray:
    """The very pixels, which no encoder has rounded."""
    folder = server.base / "output" / "shots"
    shutil.rmtree(folder, ignore_errors=True)
    succeed(server, with_inputs(prompt, WRITER, video_format="png-folder", filename_prefix="shots/a"))
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.rglob("*.png"))])


def test_going_on_in_the_next_prompt_gives_the_latents_that_would_have_come(server: Server) -> None:
    prompt = with_inputs(workflow("portrait_chunks"), "KnotForcingSettings", steps=1)
    whole = latents_of(server, prompt, chunks=3)
    first = with_inputs(prompt, "KnotForcingStream", seconds=9 / FPS, whole_chunks=True)
    first = {key: node for key, node in first.items() if node["class_type"].startswith("KnotForcing")}
    first["save"] = {
        "class_type": "KnotForcingSaveState",
        "inputs": {"state": [node_of(first, "KnotForcingStream"), 2], "filename_prefix": "states/b"},
    }
    (name,) = succeed(server, first).outputs["save"]["text"]
    rest = workflow("portrait_chunks")
    sampler = rest[node_of(rest, "KnotForcingStream")]["inputs"]
    del sampler["anchor"], sampler["settings"]
    sampler["state"] = ["load", 0]
    rest["load"] = {
        "class_type": "KnotForcingLoadState",
        "inputs": {"model": [node_of(rest, "KnotForcingLoadModel"), 0], "state_file": name},
    }
    assert all(map(np.array_equal, latents_of(server, rest, chunks=2), whole[1:]))


def latents_of(server: Server, prompt: Json, chunks: int) -> list[np.ndarray]:
    """What `KnotForcingStream` gives, chunk by chunk."""
    from safetensors.numpy import load_file

    seconds = (12 * chunks if "load" in prompt else 9 + 12 * (chunks - 1)) / FPS
    prompt = with_inputs(prompt, "KnotForcingStream", seconds=seconds)
    prompt = {key: node for key, node in prompt.items() if node["class_type"].startswith("KnotForcing")}
    link = [node_of(prompt, "KnotForcingStream"), 1]
    prompt["latents"] = {"class_type": "SaveLatent", "inputs": {"samples": link, "filename_prefix": "latents/s"}}
    saved = succeed(server, prompt).outputs["latents"]["latents"]
    return [load_file(server.base / "output" / file["subfolder"] / file["filename"])["latent_tensor"] for file in saved]


def test_an_interrupted_stream_leaves_a_playable_file_and_a_state_to_go_on_from(server: Server) -> None:
    run = server.run(idle(600, filename_prefix="stopped/a"), interrupt_after=2)
    assert run.status == "interrupted"
    (path,) = (server.base / "output" / "stopped").glob("a*.mp4")
    made = len(read_video(path)[0])
    assert made >= 9 + 12
    assert (made - 9) % 12 == 0
    rest = pictures_of(server, going_on("stopped [temp]", 12 / FPS))
    assert np.array_equal(pictures_of(server, idle((made + 12) / FPS))[made:], rest)
    shutil.rmtree(server.base / "output" / "stopped")


def test_no_state_is_left_where_none_is_wanted_and_one_file_where_it_is(server: Server) -> None:
    for where in ("nowhere", "in output/states"):
        before = set((server.base / "output" / "states").glob("stopped*"))
        assert server.run(idle(600, if_stopped=where), interrupt_after=1).status == "interrupted"
        left = set((server.base / "output" / "states").glob("stopped*")) - before
        assert len(left) == (where != "nowhere")


OUTSIDE = ("../../evil.state.safetensors", "/etc/passwd", "states/none.state.safetensors", "x.png")


@pytest.mark.parametrize("name", OUTSIDE)
def test_only_states_in_the_output_folder_are_read(server: Server, name: str) -> None:
    run = server.run(going_on(name, 0.4))
    assert run.status == "error"
    assert "state file" in run.error["exception_message"]


def test_a_prefix_cannot_leave_the_output_folder(server: Server) -> None:
    run = server.run(saving(idle(0.2), prefix="../../out_of_the_output_folder"))
    assert run.status == "error"
    assert not list(server.base.parent.rglob("out_of_the_output_folder*"))


def test_the_workflow_stands_in_the_file(server: Server) -> None:
    (path,) = videos(server, succeed(server, idle(0.2, seed=31)))
    with av.open(str(path)) as container:
        prompt = json.loads(container.metadata["prompt"])
    assert prompt[node_of(prompt, WRITER)]["inputs"]["seed"] == 31


@pytest.mark.parametrize("name", ["vp9-webm", "prores-mov"])
def test_other_formats(server: Server, name: str) -> None:
    prompt = idle(0.36, video_format=name)
    (result,) = succeed(server, prompt).outputs[node_of(prompt, WRITER)]["images"]
    path = server.file(result)
    assert path.suffix == {"vp9-webm": ".webm", "prores-mov": ".mov"}[name]
    assert len(read_video(path)[0]) == 9


def test_a_folder_of_pictures_gives_no_video_and_shows_one(server: Server) -> None:
    prompt = idle(0.36, video_format="png-folder", filename_prefix="folder/a")
    writer = node_of(prompt, WRITER)
    prompt["save"] = {"class_type": "SaveVideo", "inputs": {
        "video": [writer, 0], "filename_prefix": "x", "format": "auto", "codec": "auto"}}  # fmt: skip
    run = succeed(server, prompt)
    assert "save" not in run.outputs
    assert server.file(run.outputs[writer]["images"][0]).parent.parent.name == "temp"
    (folder,) = (server.base / "output" / "folder").iterdir()
    assert len(list(folder.glob("*.png"))) == 9
    assert "prompt" in Image.open(folder / "000000.png").text


def test_figures_of_a_run(server: Server) -> None:
    prompt = idle(0.8)
    prompt["stats"] = {"class_type": "KnotForcingStreamStats", "inputs": {"stats": [node_of(prompt, WRITER), 2]}}
    prompt["plot"] = {"class_type": "PreviewImage", "inputs": {"images": ["stats", 1]}}
    prompt["json"] = {"class_type": "PreviewAny", "inputs": {"source": ["stats", 0]}}
    run = succeed(server, prompt)
    told = json.loads(run.outputs["json"]["text"][0])
    assert [row["pixel_frames"] for row in told["chunks"]] == [9, 11]
    assert np.array(Image.open(server.file(run.outputs["plot"]["images"][0]))).std() > 10


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS or [pytest.param(None, marks=pytest.mark.skip(reason=NO_HOST))],
                         ids=[host_version(host) for host in HOSTS] or ["no-comfyui"])  # fmt: skip
def test_a_restart_changes_nothing(host: Path, tmp_path: Path) -> None:
    """One ComfyUI streams 3 chunks; one streams 1 and ends; a third, in another place, goes on from its file."""
    with Server(host, tmp_path / "one") as server:
        whole = pictures_of(server, idle(33 / FPS))
    with Server(host, tmp_path / "two") as server:
        (name,) = succeed(server, saving(idle(9 / FPS, whole_chunks=True))).outputs["save"]["text"]
        state = server.base / "output" / name
    with Server(host, tmp_path / "three") as server:
        shutil.copytree(state.parent, server.base / "output" / "states")
        rest = pictures_of(server, going_on(name, 24 / FPS))
    assert np.array_equal(whole[9:], rest)


@pytest.mark.slow
def test_twenty_prompts_half_of_them_interrupted_leak_nothing(server: Server) -> None:
    """Memory within 3 %, the same threads, and nothing new in temp but the one state of the stream stopped last."""
    def resident() -> int:
        return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])

    def threads() -> int:
        return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))

    temp = server.base / "temp" / "knot_forcing"
    for number in range(6):
        server.run(idle(0.4 if number % 2 else 600, seed=number), interrupt_after=None if number % 2 else 1)
    before, num_threads, there = resident(), threads(), {path.name for path in temp.iterdir()}
    for number in range(20):
        run = server.run(idle(0.4 if number % 2 else 600, seed=100 + number), interrupt_after=None if number % 2 else 1)
        assert run.status == ("success" if number % 2 else "interrupted")
    assert resident() < 1.03 * before
    assert threads() <= num_threads + 1
    assert {path.name for path in temp.iterdir()} == there | {"stopped.state.safetensors"}


@pytest.mark.slow
@pytest.mark.skipif("KNOT_SOAK" not in os.environ, reason="NO SOAK TEST: half an hour of video; set KNOT_SOAK=1")
def test_half_an_hour_takes_the_memory_of_a_minute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2 %, as the stream's own figures tell; at a minute the process is warm."""
    monkeypatch.setattr(comfyui, "RUN_LIMIT", 6 * 3600)
    prompt = idle(1800, filename_prefix="video/long")
    prompt["stats"] = {"class_type": "KnotForcingStreamStats", "inputs": {"stats": [node_of(prompt, WRITER), 2]}}
    prompt["json"] = {"class_type": "PreviewAny", "inputs": {"source": ["stats", 0]}}
    chunks = json.loads(succeed(server, prompt).outputs["json"]["text"][0])["chunks"]
    minute = [row["memory_mib"] for row in chunks if 60 * FPS <= row["first_pixel_frame"] < 65 * FPS]
    end = [row["memory_mib"] for row in chunks[-10:]]
    assert max(end) < 1.02 * max(minute)


def test_the_shipped_videos_are_one_stream(server: Server) -> None:
    prompt = workflow("portrait_resume")
    first, second = (read_video(path)[0] for path in sorted(videos(server, succeed(server, prompt))))
    begin = node_of(prompt, WRITER)
    prompt[begin]["inputs"] |= {"seconds": (len(first) + len(second)) / FPS, "whole_chunks": False}
    kept = ("KnotForcingSaveState", "KnotForcingLoadState", "KnotForcingStreamStats", "PreviewImage")
    alone = {
        key: node for key, node in prompt.items() if node["class_type"] not in kept and "state" not in node["inputs"]
    }
    (whole,) = (read_video(path)[0] for path in videos(server, succeed(server, alone)))
    difference = np.abs(np.concatenate([first, second]).astype(int) - whole).mean(axis=(1, 2, 3))
    assert difference.max() < 3, "no more than an encoder does"
