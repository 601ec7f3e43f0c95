"""The workflows, queued over HTTP and followed on the websocket as a headless user does."""

import copy
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from .comfyui import PACK, Run, Server
from .conftest import BUNDLED_WORKFLOWS, load_json

pytestmark = pytest.mark.host

FPS = 25
NAMES = [path.stem for path in BUNDLED_WORKFLOWS]
SAMPLERS = {"KnotForcingStream", "KnotForcingStreamToVideo", "KnotForcingSampleChunks"}
ONE_STREAM = [  # begun and ended by one node
    path.stem
    for path in BUNDLED_WORKFLOWS
    if sum(node["class_type"] in SAMPLERS for node in load_json(path).values()) == 1
]
Json = dict[str, Any]


def num_chunks(pixel_frames: int) -> int:
    """9 pixel frames, then 12, 12, ..."""
    return 1 + max(0, -(-(pixel_frames - 9) // 12))


def workflow(name: str) -> Json:
    return load_json(next(path for path in BUNDLED_WORKFLOWS if path.stem == name))


def node_of(prompt: Json, class_type: str) -> str:
    return next(key for key, node in prompt.items() if node["class_type"] == class_type)


def with_inputs(prompt: Json, class_type: str, **inputs: object) -> Json:
    prompt = copy.deepcopy(prompt)
    prompt[node_of(prompt, class_type)]["inputs"] |= inputs
    return prompt


def succeed(server: Server, prompt: Json) -> Run:
    run = server.run(prompt)
    assert run.status == "success", f"{run.error}\n{server.log_tail()}"
    return run


def videos(server: Server, run: Run) -> list[Path]:
    results = [result for output in run.outputs.values() for result in output.get("images", [])]
    return [server.file(result) for result in results if result["filename"].endswith(".mp4")]


def read_video(path: Path) -> tuple[np.ndarray, float, Json]:
    """Frames [T, H, W, 3], seconds of sound, and what the file says about itself."""
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], (container.streams.audio or [None])[0]
        facts = {
            "rate": picture.average_rate,
            "format": picture.pix_fmt,
            "codec": picture.codec_context.name,
            "sound": sound and sound.codec_context.name,
        }
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(picture)]
    if sound is None:
        return np.stack(frames), 0.0, facts
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return np.stack(frames), samples / sound.rate, facts


def check_video(path: Path, *, seconds: float | None, sound: bool) -> np.ndarray:
    frames, sound_seconds, facts = read_video(path)
    assert facts["rate"] == FPS
    assert facts["format"] == "yuv420p"
    assert facts["codec"] == "h264"
    assert min(frames.shape[1:3]) >= 128
    if seconds is not None:
        assert len(frames) == round(seconds * FPS)
    if sound:
        assert facts["sound"] == "aac"
        assert sound_seconds == pytest.approx(len(frames) / FPS, abs=0.1)
    else:
        assert facts["sound"] is None
    assert frames.std() > 1, "a picture of one colour"
    return frames


@pytest.fixture(scope="session")
def runs(server: Server) -> dict[str, tuple[Run, Run]]:
    """Every workflow as it is shipped, queued twice in a row."""
    prompts = {path.stem: load_json(path) for path in BUNDLED_WORKFLOWS}
    return {name: (succeed(server, prompt), succeed(server, prompt)) for name, prompt in prompts.items()}


@pytest.mark.parametrize("name", NAMES)
def test_queueing_twice_is_served_from_the_cache(runs: dict[str, tuple[Run, Run]], name: str) -> None:
    _, again = runs[name]
    assert set(again.cached) == set(workflow(name))


def test_portrait_from_audio(server: Server, runs: dict[str, tuple[Run, Run]]) -> None:
    run, _ = runs["portrait_from_audio"]
    (path,) = videos(server, run)
    frames = check_video(path, seconds=None, sound=True)
    assert len(frames) >= 10 * FPS
    assert run.num_previews == num_chunks(len(frames)), "a still per chunk"
    assert run.progress[-1]["value"] == run.progress[-1]["max"] == len(frames)


def test_portrait_photo(server: Server, runs: dict[str, tuple[Run, Run]]) -> None:
    """The photo as a whole, with a face in it that moves and says something, and with nothing else that stirs."""
    (path,) = videos(server, runs["portrait_photo"][0])
    frames, *_ = read_video(path)
    with Image.open(PACK / "knot_core" / "assets" / "photos" / "hopper.jpg") as photo:
        assert frames.shape[2:0:-1] == tuple(side // 2 * 2 for side in photo.size)
    apart = np.abs(frames[::5].astype(int) - frames[0]).max(axis=(0, 3))
    assert (apart > 40).mean() > 0.01
    assert (apart[:, :10] < 20).all()
    assert (apart[:, -10:] < 20).all()


def test_portrait_idle(server: Server, runs: dict[str, tuple[Run, Run]]) -> None:
    (path,) = videos(server, runs["portrait_idle"][0])
    prompt = workflow("portrait_idle")
    check_video(path, seconds=prompt[node_of(prompt, "KnotForcingStreamToVideo")]["inputs"]["seconds"], sound=False)


def test_portrait_chunks(server: Server, runs: dict[str, tuple[Run, Run]]) -> None:
    prompt, (run, _) = workflow("portrait_chunks"), runs["portrait_chunks"]
    seconds = prompt[node_of(prompt, "KnotForcingStream")]["inputs"]["seconds"]
    (path,) = videos(server, run)
    frames = check_video(path, seconds=seconds, sound=True)
    stills = [server.file(result) for result in run.outputs[node_of(prompt, "PreviewImage")]["images"]]
    assert len(stills) == len(frames)
    assert all(min(Image.open(still).size) >= 128 for still in stills)


def test_all_chunks_as_one_batch_make_one_video(server: Server) -> None:
    """With the frames of the list; a cable that comes after a run finds them, too."""
    prompt = with_inputs(workflow("portrait_chunks"), "KnotForcingStream", seconds=1.0, seed=21)
    stream = node_of(prompt, "KnotForcingStream")
    keep = {stream, *(key for key, node in prompt.items() if node["class_type"] != "CreateVideo")}
    alone = {key: prompt[key] for key in keep if prompt[key]["class_type"] != "SaveVideo"}
    succeed(server, alone)
    prompt["same"] = {"class_type": "StandInSharedMemory", "inputs": {"chunks": [stream, 0], "whole": [stream, 4]}}
    prompt["told"] = {"class_type": "PreviewAny", "inputs": {"source": ["same", 0]}}
    run = succeed(server, prompt)
    assert stream in run.cached
    (path,) = videos(server, run)
    assert len(check_video(path, seconds=1.0, sound=True)) == FPS
    assert run.outputs["told"]["text"] == ["True"], "the batch lies in the memory of the list, frame by frame"


def test_a_batch_that_no_memory_holds_is_refused_before_it_is_made(server: Server) -> None:
    run = server.run(with_inputs(workflow("portrait_chunks"), "KnotForcingStream", seconds=86400))
    assert run.status == "error"
    assert "Knot Forcing Stream to Video" in run.error["exception_message"]


def test_one_latent_batch_per_chunk(server: Server) -> None:
    prompt = with_inputs(workflow("portrait_chunks"), "KnotForcingStream", seconds=1.0)
    link = [node_of(prompt, "KnotForcingStream"), 1]
    prompt["latents"] = {"class_type": "SaveLatent", "inputs": {"samples": link, "filename_prefix": "latents/a"}}
    saved = succeed(server, prompt).outputs["latents"]["latents"]
    with_shapes = [safe_open(server.base / "output" / file["subfolder"] / file["filename"], "np") for file in saved]
    shapes = [file.get_slice("latent_tensor").get_shape() for file in with_shapes]
    assert shapes == [[1, 16, 3, 16, 16], [1, 16, 3, 16, 16], [1, 16, 1, 16, 16]]


@pytest.mark.parametrize("name", ONE_STREAM)
def test_same_seed_same_frames_from_cached_model_anchor_and_driving(server: Server, name: str) -> None:
    """ComfyUI hands the same objects out again; nothing in them may have been used up."""
    sampler = "KnotForcingStream" if name == "portrait_chunks" else "KnotForcingStreamToVideo"
    saver = "SaveVideo" if name == "portrait_chunks" else sampler
    short = with_inputs(workflow(name), sampler, seconds=1.0, seed=7)
    (first,) = videos(server, succeed(server, short))
    other = with_inputs(workflow(name), sampler, seconds=1.0, seed=8)
    succeed(server, other)  # drops seed 7 from the cache of 0.8, which keeps the last prompt only
    (second,) = videos(server, succeed(server, with_inputs(short, saver, filename_prefix=f"again/{name}")))
    assert second != first
    assert np.array_equal(read_video(first)[0], read_video(second)[0])


def test_own_picture_and_sound(server: Server) -> None:
    """Load Image and Load Audio in place of the samples; a picture of any shape, a sound of any rate."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 210, 3), dtype=np.uint8)).save(server.base / "input" / "own.png")
    with wave.open(str(server.base / "input" / "own.wav"), "wb") as sound:
        sound.setparams((2, 2, 44_100, 0, "NONE", ""))
        sound.writeframes(rng.integers(-9000, 9000, 44_100 * 2, dtype=np.int16).tobytes())
    prompt = workflow("portrait_from_audio")
    prompt[node_of(prompt, "KnotForcingSamplePortrait")] = {"class_type": "LoadImage", "inputs": {"image": "own.png"}}
    prompt[node_of(prompt, "KnotForcingSampleSpeech")] = {"class_type": "LoadAudio", "inputs": {"audio": "own.wav"}}
    prompt = with_inputs(prompt, "KnotForcingEncodeAnchor", fit="letterbox", width=160, height=128)
    (path,) = videos(server, succeed(server, prompt))
    assert check_video(path, seconds=1.0, sound=True).shape == (FPS, 128, 160, 3)


def test_video_output_feeds_the_hosts_own_nodes(server: Server) -> None:
    prompt = with_inputs(workflow("portrait_from_audio"), "KnotForcingStreamToVideo", seconds=1.0)
    link = [node_of(prompt, "KnotForcingStreamToVideo"), 0]
    save = {"video": link, "filename_prefix": "saved/again", "format": "auto", "codec": "auto"}
    prompt["save"] = {"class_type": "SaveVideo", "inputs": save}
    prompt["split"] = {"class_type": "GetVideoComponents", "inputs": {"video": link}}
    prompt["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["split", 0]}}
    run = succeed(server, prompt)
    assert len(run.outputs["show"]["images"]) == FPS
    check_video(server.file(run.outputs["save"]["images"][0]), seconds=1.0, sound=True)


def test_other_seed_other_frames(server: Server) -> None:
    prompt = with_inputs(workflow("portrait_idle"), "KnotForcingStreamToVideo", seconds=1.0)
    frames = []
    for seed in (1, 2):
        (path,) = videos(server, succeed(server, with_inputs(prompt, "KnotForcingStreamToVideo", seed=seed)))
        frames.append(read_video(path)[0])
    assert not np.array_equal(*frames)


def test_interrupt_keeps_the_video_and_the_server(server: Server) -> None:
    prompt = workflow("portrait_idle")
    long = with_inputs(prompt, "KnotForcingStreamToVideo", seconds=3600, filename_prefix="stopped/cut")
    run = server.run(long, interrupt_after=3)
    assert run.status == "interrupted"
    (path,) = (server.base / "output" / "stopped").glob("cut*.mp4")
    frames = check_video(path, seconds=None, sound=False)
    assert len(frames) >= 9 + 12
    after = succeed(server, with_inputs(prompt, "KnotForcingStreamToVideo", seconds=1.0))
    assert len(videos(server, after)) == 1


def test_interrupt_of_the_list_sampler(server: Server) -> None:
    prompt = with_inputs(workflow("portrait_chunks"), "KnotForcingStream", seconds=600)
    assert server.run(prompt, interrupt_after=2).status == "interrupted"
    assert succeed(server, with_inputs(prompt, "KnotForcingStream", seconds=1.0)).outputs


def test_endless_driving_without_seconds_is_refused_in_one_sentence(server: Server) -> None:
    run = server.run(with_inputs(workflow("portrait_idle"), "KnotForcingStreamToVideo", seconds=0.0))
    assert run.status == "error"
    assert "seconds" in run.error["exception_message"]


def test_settings_that_cannot_work_are_refused(server: Server) -> None:
    with pytest.raises(ValueError, match="num_knot_frames"):  # before the run
        server.run(with_inputs(workflow("portrait_chunks"), "KnotForcingSettings", num_knot_frames=8))
