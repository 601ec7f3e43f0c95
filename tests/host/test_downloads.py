"""The workflows whose files must be downloaded, queued with small random files and stand-ins for the encoders."""

import copy
from pathlib import Path
from typing import Any

import pytest

import knot_core
import knot_core.codec.taehv
import knot_core.wan.network

from .comfyui import PACK, Server
from .conftest import load_json
from .probe_files import SPEECH, write_files
from .test_queued_workflows import node_of, read_video, succeed, videos, with_inputs

pytestmark = pytest.mark.host

FPS = 16
STAND_INS = {"CLIPTextEncode": ("StandInPrompt", {"seed": 3}), "AudioEncoderLoader": ("StandInAudioEncoder", SPEECH)}
Json = dict[str, Any]


@pytest.fixture(scope="session")
def files(server: Server) -> Path:
    """Beside ComfyUI's own, in its base folder."""
    write_files(knot_core, server.base / "models")
    return server.base / "models"


def stood_in(name: str, **network: str) -> Json:
    """The workflow at 64 x 64 pixels, one second; without what would have to be downloaded."""
    prompt = copy.deepcopy(load_json(PACK / "workflows" / "api" / f"{name}.json"))
    for key, node in prompt.items():
        if node["class_type"] in STAND_INS:
            kind, inputs = STAND_INS[node["class_type"]]
            prompt[key] = {"class_type": kind, "inputs": dict(inputs)}
    for kind in ("CLIPLoader", "VAELoader"):
        del prompt[node_of(prompt, kind)]
    for node in prompt.values():
        node["inputs"].pop("vae", None)
    prompt = with_inputs(prompt, "KnotForcingEncodeAnchor", width=64, height=64)
    prompt = with_inputs(prompt, "KnotForcingStreamToVideo", seconds=1.0)
    return with_inputs(prompt, "UNETLoader" if "unet_name" in network else "KnotForcingLoadModel", **network)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("self_forcing_text_to_stream", {"unet_name": "self_forcing.safetensors"}),
        ("livetalk_portrait", {"model_name": "livetalk.safetensors"}),
    ],
)
def test_the_workflow_makes_its_video(server: Server, name: str, network: dict[str, str]) -> None:
    prompt = stood_in(name, **network)
    run = succeed(server, prompt)
    (path,) = videos(server, run)
    frames, _, facts = read_video(path)
    assert frames.shape == (FPS, 64, 64, 3)
    assert facts["rate"] == FPS
    assert run.progress[-1]["value"] == FPS
    again = with_inputs(prompt, "KnotForcingStreamToVideo", filename_prefix="again/downloads")
    (second,) = videos(server, succeed(server, again))
    assert (read_video(second)[0] == frames).all(), "model and anchor come from the cache, unchanged"


@pytest.mark.usefixtures("files")
def test_stop_is_obeyed_and_the_model_streams_again(server: Server) -> None:
    prompt = stood_in("self_forcing_text_to_stream", unet_name="self_forcing.safetensors")
    long = with_inputs(prompt, "KnotForcingStreamToVideo", seconds=3600.0, filename_prefix="stopped/host")
    assert server.run(long, interrupt_after=4).status == "interrupted"
    assert videos(server, succeed(server, prompt))


@pytest.mark.usefixtures("files")
def test_a_prompt_that_is_missing_is_asked_for(server: Server) -> None:
    prompt = stood_in("self_forcing_text_to_stream", unet_name="self_forcing.safetensors")
    del prompt[node_of(prompt, "KnotForcingEncodeAnchor")]["inputs"]["conditioning"]
    run = server.run(prompt)
    assert run.status == "error"
    assert "prompt" in run.error["exception_message"]


@pytest.mark.usefixtures("files")
def test_a_lora_and_the_stock_vae_loader_fit_between(server: Server) -> None:
    """Load LoRA between loader and Knot Forcing from MODEL; the latents go on to the host's own nodes."""
    prompt = stood_in("self_forcing_text_to_stream", unet_name="self_forcing.safetensors")
    loader, ours = node_of(prompt, "UNETLoader"), node_of(prompt, "KnotForcingFromModel")
    lora = {"model": [loader, 0], "lora_name": "host.safetensors", "strength_model": 0.75}
    prompt["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": lora}
    plain = videos(server, succeed(server, prompt))[0]
    prompt[ours]["inputs"]["model"] = ["lora", 0]
    changed = videos(server, succeed(server, prompt))[0]
    assert (read_video(plain)[0] != read_video(changed)[0]).any()
