"""Streams that go on: in the next prompt, after a restart, from where they were stopped; and files of every format."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from .comfyui import Run, Server
from .conftest import HOSTS, NO_HOST, host_version
from .test_queued_workflows import FPS, node_of, read_video, succeed, videos, with_inputs, workflow

pytestmark = pytest.mark.host

WRITER = "KnotForcingStreamToVideo"
Json = dict[str, Any]


def idle(seconds: float, **inputs: object) -> Json:
    """A stream of ben who idles, into `video/a`; with one step a chunk it is quick, and any stream will do here."""
    settings = workflow("portrait_chunks")
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


def test_an_error_in_mid_stream_keeps_what_was_made_and_leaves_a_state(server: Server) -> None:
    prompt = idle(600, filename_prefix="broken/a")
    driving = node_of(prompt, "KnotForcingDrivingIdle")
    prompt["breaks"] = {"class_type": "StandInBreakingDriving", "inputs": {"driving": [driving, 0], "latent_frame": 7}}
    prompt[node_of(prompt, WRITER)]["inputs"]["driving"] = ["breaks", 0]
    run = server.run(prompt)
    assert run.status == "error"
    assert "the stand-in breaks" in run.error["exception_message"]
    (path,) = (server.base / "output" / "broken").glob("a*.mp4")
    made = len(read_video(path)[0])
    assert made == 9 + 12, "chunks of latent frames 0-2 and 3-5; the third fails"
    rest = pictures_of(server, going_on("stopped [temp]", 12 / FPS))
    assert np.array_equal(pictures_of(server, idle((made + 12) / FPS))[made:], rest)


def test_a_disc_that_fills_up_ends_the_stream_in_one_sentence_and_the_file_plays(server: Server) -> None:
    resource = pytest.importorskip("resource", reason="NO LIMITS OF FILES HERE: a full disc is not tested")
    limit = 200_000 + server.log.stat().st_size  # the log may go on
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        run = server.run(idle(600, filename_prefix="full/a", if_stopped="nowhere"))
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
    assert run.status == "error"
    assert "cannot be written" in run.error["exception_message"]
    (path,) = (server.base / "output" / "full").glob("a*.mp4")
    frames = read_video(path)[0]
    assert len(frames) > 9
    assert (len(frames) - 9) % 12 == 0, "whole chunks: what did not fit is cut off"
    assert videos(server, succeed(server, idle(0.4))), "and the next prompt runs"


def test_no_state_is_left_where_none_is_wanted_and_one_file_where_it_is(server: Server) -> None:
    for where in ("nowhere", "in output/states"):
        before = set((server.base / "output" / "states").glob("stopped*"))
        assert server.run(idle(600, if_stopped=where), interrupt_after=1).status == "interrupted"
        left = set((server.base / "output" / "states").glob("stopped*")) - before
        assert len(left) == (where != "nowhere")


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
@pytest.mark.parametrize("host", HOSTS or [pytest.param(None, marks=pytest.mark.skip(reason=NO_HOST))],
                         ids=[host_version(host) for host in HOSTS] or ["no-comfyui"])  # fmt: skip
def test_a_comfyui_that_is_killed_leaves_a_video_up_to_its_last_chunk(host: Path, tmp_path: Path) -> None:
    folder = tmp_path / "output" / "killed"
    with Server(host, tmp_path) as server:
        server.post("/prompt", {"prompt": idle(3600, filename_prefix="killed/a")})
        deadline = time.monotonic() + 120
        while not (seen := sum(map(num_readable, folder.glob("a*.mp4")))) >= 9 + 2 * 12:
            assert time.monotonic() < deadline, server.log_tail()
            time.sleep(0.2)
        server.process.kill()
        server.process.wait()
    (path,) = folder.glob("a*.mp4")
    frames = read_video(path)[0]
    assert len(frames) >= seen
    assert (len(frames) - 9) % 12 == 0, "whole chunks"
    assert frames[-1].std() > 1


def num_readable(path: Path) -> int:
    """Pictures of a file that is still written."""
    try:
        return len(read_video(path)[0])
    except (av.error.FFmpegError, IndexError, ValueError):
        return 0


def test_two_streams_share_an_anchor_in_one_prompt(server: Server) -> None:
    """Each is what it is alone, of an anchor that nothing has used before."""
    alone = []
    for seed in (1, 2):
        server.post("/free", {"unload_models": True, "free_memory": True})
        alone.append(pictures_of(server, idle(0.84, seed=seed)))
    both = with_inputs(idle(0.84, seed=1), WRITER, video_format="png-folder", filename_prefix="shared/a")
    writer = both[node_of(both, WRITER)]
    both["second"] = {**writer, "inputs": writer["inputs"] | {"seed": 2, "filename_prefix": "shared/b"}}
    shutil.rmtree(server.base / "output" / "shared", ignore_errors=True)
    succeed(server, both)
    for name, pictures in zip("ab", alone, strict=True):
        found = sorted((server.base / "output" / "shared").glob(f"{name}*/*.png"))
        assert np.array_equal(np.stack([np.array(Image.open(path)) for path in found]), pictures)
    assert not np.array_equal(*alone)


def test_a_state_is_the_same_after_it_was_used(server: Server) -> None:
    """Gone on from by two nodes of one prompt, and again by a prompt that ComfyUI serves the same state."""
    (name,) = succeed(server, saving(idle(9 / FPS, whole_chunks=True), prefix="states/used")).outputs["save"]["text"]
    prompt = going_on(name, 0.48)
    prompt = {key: node for key, node in prompt.items() if node["class_type"] != WRITER}
    model, driving = node_of(prompt, "KnotForcingLoadModel"), node_of(prompt, "KnotForcingDrivingIdle")
    for number in range(2):
        given = {"model": [model, 0], "state": ["load", 0], "driving": [driving, 0], "chunks": 1 + number}
        prompt[f"go{number}"] = {"class_type": "KnotForcingSampleChunks", "inputs": given}
        kept = {"samples": [f"go{number}", 1], "filename_prefix": f"latents/used{number}"}
        prompt[f"keep{number}"] = {"class_type": "SaveLatent", "inputs": kept}
    one, two = (latents_kept(server, succeed(server, prompt)) for prompt in (prompt, with_prefix(prompt)))
    assert np.array_equal(one[0], one[1][:, :, : one[0].shape[2]]), "the same first chunk"
    assert all(np.array_equal(before, after[:, :, : before.shape[2]]) for before, after in zip(one, two, strict=True))


def with_prefix(prompt: Json) -> Json:
    """Its end is new, so it runs again; what it begins with comes from the cache."""
    again = json.loads(json.dumps(prompt).replace("latents/used", "latents/again"))
    for number in range(2):
        again[f"go{number}"]["inputs"]["chunks"] += 1
    return again


def latents_kept(server: Server, run: Run) -> list[np.ndarray]:
    from safetensors.numpy import load_file

    files = [run.outputs[f"keep{number}"]["latents"][0] for number in range(2)]
    return [load_file(server.base / "output" / file["subfolder"] / file["filename"])["latent_tensor"] for file in files]


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
