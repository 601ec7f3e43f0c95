"""Every node is executed by a real ComfyUI: by a workflow that ships, or else here."""

import numpy as np
import pytest

from .comfyui import Server
from .conftest import API_WORKFLOWS, load_json
from .test_downloads import FPS, files, stood_in  # noqa: F401 - `files` is a fixture
from .test_nodes import NODE_IDS
from .test_queued_workflows import node_of, read_video, succeed, videos, with_inputs
from .test_states import WRITER, idle

pytestmark = pytest.mark.host
HERE = {"KnotForcingDrivingFromEncodedAudio", "KnotForcingPromptTimeline", "KnotForcingModelSettings"}
# in test_directed_workflows.py, test_paste_back_workflow.py
ELSEWHERE = {"KnotForcingPoseFromVideo", "KnotForcingPasteBack"}


def test_every_node_stands_in_something_that_is_executed() -> None:
    """`test_queued_workflows` queues the workflows that need no download, `test_downloads` the others."""
    shipped = {node["class_type"] for path in API_WORKFLOWS for node in load_json(path).values()}
    assert set(NODE_IDS) <= shipped | HERE | ELSEWHERE


@pytest.mark.usefixtures("files")
def test_encoded_audio_drives_livetalk_and_is_nothing_to_knot_tiny(server: Server) -> None:
    prompt = stood_in("livetalk_portrait", model_name="livetalk.safetensors")
    listening, sound = node_of(prompt, "StandInAudioEncoder"), node_of(prompt, "KnotForcingSampleSpeech")
    heard = {"audio_encoder": [listening, 0], "audio": [sound, 0]}
    prompt["heard"] = {"class_type": "AudioEncoderEncode", "inputs": heard}
    driving, model = node_of(prompt, "KnotForcingDrivingFromAudio"), node_of(prompt, "KnotForcingLoadModel")
    given = {"model": [model, 0], "audio_encoder_output": ["heard", 0]}
    prompt[driving] = {"class_type": "KnotForcingDrivingFromEncodedAudio", "inputs": given}
    (path,) = videos(server, succeed(server, prompt))
    assert read_video(path)[0].shape == (FPS, 64, 64, 3)
    tiny = idle(0.4)
    tiny |= {"heard": prompt["heard"], listening + "e": prompt[listening], sound + "s": prompt[sound]}
    tiny["heard"]["inputs"] = {"audio_encoder": [listening + "e", 0], "audio": [sound + "s", 0]}
    given = {"model": [node_of(tiny, "KnotForcingLoadModel"), 0], "audio_encoder_output": ["heard", 0]}
    tiny["driving"] = {"class_type": "KnotForcingDrivingFromEncodedAudio", "inputs": given}
    run = server.run(with_inputs(tiny, WRITER, driving=["driving", 0]))
    assert run.status == "error"
    assert "wav2vec2" in run.error["exception_message"]


@pytest.mark.usefixtures("files")
def test_prompts_change_the_stream_when_their_time_comes(server: Server) -> None:
    prompt = stood_in("self_forcing_text_to_stream", unet_name="self_forcing.safetensors")
    anchor = [node_of(prompt, "KnotForcingEncodeAnchor"), 0]
    prompt["clip"] = {"class_type": "StandInClip", "inputs": {}}
    found = []
    for text in ("0:00 calm", "0:00 calm / 0:01 laughing"):
        given = {"anchor": anchor, "prompts": text, "blend_chunks": 0, "clip": ["clip", 0]}
        prompt["prompts"] = {"class_type": "KnotForcingPromptTimeline", "inputs": given}
        prompt["plan"] = {"class_type": "PreviewAny", "inputs": {"source": ["prompts", 1]}}
        run = succeed(server, with_inputs(prompt, WRITER, anchor=["prompts", 0], seconds=2.0))
        found.append(read_video(videos(server, run)[0])[0])
    assert "laughing" in run.outputs["plan"]["text"][0]
    said = server.log.read_text(encoding="utf-8", errors="replace")
    assert said.count("the stream runs without an anchor") >= 2, "there is no picture to hold on to"
    calm, laughing = found
    assert np.array_equal(calm[:9], laughing[:9]), "the first chunk is before the second prompt"
    assert not np.array_equal(calm[-4:], laughing[-4:])


def test_a_state_goes_on_under_the_prompts_that_are_connected(server: Server) -> None:
    prompt = stood_in("self_forcing_text_to_stream", unet_name="self_forcing.safetensors")
    anchor, writer = [node_of(prompt, "KnotForcingEncodeAnchor"), 0], node_of(prompt, WRITER)
    prompt["clip"] = {"class_type": "StandInClip", "inputs": {}}
    prompt = with_inputs(prompt, WRITER, seconds=1.0, whole_chunks=True)
    found = []
    for text in ("0:00 calm", "0:00 calm / 0:01 laughing"):
        given = {"anchor": anchor, "prompts": text, "blend_chunks": 0, "clip": ["clip", 0]}
        prompt["prompts"] = {"class_type": "KnotForcingPromptTimeline", "inputs": given}
        goes_on = {"anchor": ["prompts", 0], "state": [writer, 1], "filename_prefix": "video/more"}
        kept = {name: value for name, value in prompt[writer]["inputs"].items() if name != "settings"}
        prompt["more"] = {"class_type": WRITER, "inputs": kept | goes_on}
        found.append(videos(server, succeed(server, prompt)))
    calm, laughing = (next(path for path in paths if "more" in path.name) for paths in found)
    assert not np.array_equal(read_video(calm)[0][-4:], read_video(laughing)[0][-4:])


def test_settings_by_line_are_the_settings_by_widget(server: Server) -> None:
    prompt = idle(0.84, seed=5)
    (by_widget,) = videos(server, succeed(server, prompt))
    model = node_of(prompt, "KnotForcingLoadModel")
    lines = {"model": [model, 0], "changes": "steps = 1  # quick"}
    prompt["lines"] = {"class_type": "KnotForcingModelSettings", "inputs": lines}
    prompt["told"] = {"class_type": "PreviewAny", "inputs": {"source": ["lines", 1]}}
    run = succeed(server, with_inputs(prompt, WRITER, settings=["lines", 0]))
    assert "steps = 1" in run.outputs["told"]["text"][0].splitlines()
    assert np.array_equal(read_video(videos(server, run)[0])[0], read_video(by_widget)[0])
