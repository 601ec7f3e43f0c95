"""What a user is told on the node: warnings, in the run's history too; and errors under a name that is no path."""

import pytest

from .comfyui import Server
from .test_queued_workflows import node_of, succeed, with_inputs
from .test_states import WRITER, idle

pytestmark = pytest.mark.host
WARNINGS = "knot_forcing_warnings"


def faceless(batch: int = 1) -> dict:
    """Portrait Crop of pictures of one colour."""
    grey = {"width": 128, "height": 128, "batch_size": batch, "color": 0x808080}
    cut = {"image": ["grey", 0], "width": 128, "height": 128, "room": 2.8}
    return {
        "grey": {"class_type": "EmptyImage", "inputs": grey},
        "cut": {"class_type": "KnotForcingPortraitCrop", "inputs": cut},
        "seen": {"class_type": "PreviewImage", "inputs": {"images": ["cut", 0]}},
    }


def test_a_warning_stands_on_the_node_that_gave_it(server: Server) -> None:
    run = succeed(server, faceless())
    assert any("face" in text for text in run.outputs["cut"][WARNINGS])
    assert WARNINGS not in run.outputs["seen"], "ComfyUI's own node"
    server.wait_until_idle()  # then it is in the history
    history = server.get(f"/history/{run.prompt_id}")[run.prompt_id]["outputs"]
    assert history["cut"][WARNINGS] == run.outputs["cut"][WARNINGS]
    assert len(succeed(server, faceless(3)).outputs["cut"][WARNINGS]) == 1, "said of each picture, shown once"


def test_a_node_that_has_nothing_to_say_says_nothing(server: Server) -> None:
    prompt = idle(0.2)
    outputs = succeed(server, prompt).outputs
    assert not any(output.get(WARNINGS) for output in outputs.values())
    assert outputs[node_of(prompt, WRITER)]["images"], "beside what it shows"


@pytest.mark.parametrize(
    ("node", "inputs", "name"),
    [
        (WRITER, {"seconds": 0.0}, "KnotError"),  # of the nodes: idle motion never ends
        ("KnotForcingSettings", {"num_knot_frames": 8}, "SettingsError"),  # of the engine
    ],
)
def test_an_error_has_the_name_that_python_users_know(server: Server, node: str, inputs: dict, name: str) -> None:
    prompt = idle(0.2)
    prompt["word"] = {"class_type": "StandInWord", "inputs": {"text": ""}}
    prompt = with_inputs(prompt, node, **inputs)
    if node == "KnotForcingSettings":  # through a cable, so that it is not seen before the run
        prompt["quick"]["inputs"]["timesteps"] = ["word", 0]
    run = server.run(prompt)
    assert run.status == "error"
    assert run.error["exception_type"] == f"knot_core.{name}"


def test_frames_that_are_played_at_another_rate_are_said(server: Server) -> None:
    prompt = idle(0.2)
    writer = node_of(prompt, WRITER)
    kept = {name: prompt[writer]["inputs"][name] for name in ("model", "anchor", "driving", "seed", "seconds")}
    del prompt[writer]
    prompt["stream"] = {"class_type": "KnotForcingStream", "inputs": kept | {"settings": ["quick", 0]}}
    larger = {"image": ["stream", 0], "upscale_method": "bilinear", "scale_by": 1.5}
    prompt["larger"] = {"class_type": "ImageScaleBy", "inputs": larger}
    for fps in (30.0, 25.0):
        prompt["video"] = {"class_type": "CreateVideo", "inputs": {"images": ["larger", 0], "fps": fps}}
        prompt["seen"] = {"class_type": "PreviewAny", "inputs": {"source": ["video", 0]}}
        kept["seed"] += 1
        prompt["stream"]["inputs"] |= kept
        texts = succeed(server, prompt).outputs.get("stream", {}).get(WARNINGS, [])
        assert [text for text in texts if "play at 25 fps" in text] == texts
        assert len(texts) == (fps != 25.0)
