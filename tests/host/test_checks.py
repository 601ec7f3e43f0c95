"""What can be known from widgets is refused when a prompt is queued, in the words of the run."""

from typing import Any

import pytest

from .comfyui import Server
from .test_queued_workflows import node_of, succeed, with_inputs
from .test_states import WRITER, idle

pytestmark = pytest.mark.host
Json = dict[str, Any]


def refused(server: Server, prompt: Json) -> str:
    """What is said of a prompt of which nothing can run; another part of it, if it had one, would."""
    with pytest.raises(ValueError, match="answered 400") as found:
        server.post("/prompt", {"prompt": prompt})
    return str(found.value)


def only_saving(prompt: Json) -> Json:
    """A state before its first chunk, saved: without the video."""
    writer = node_of(prompt, WRITER)
    begin = {name: prompt[writer]["inputs"][name] for name in ("model", "anchor", "seed", "settings")}
    rest = {key: node for key, node in prompt.items() if key != writer}
    save = {"state": ["begun", 0], "filename_prefix": "states/a"}
    return rest | {"begun": {"class_type": "KnotForcingBeginStream", "inputs": begin},
                   "save": {"class_type": "KnotForcingSaveState", "inputs": save}}  # fmt: skip


@pytest.mark.parametrize(
    ("node", "widgets", "says"),
    [
        (WRITER, {"seconds": -0.5}, "got -0.5 seconds"),
        (WRITER, {"seconds": 1e9}, "give a number from"),
        (WRITER, {"filename_prefix": "../out"}, "got the filename_prefix"),
        ("KnotForcingSaveState", {"filename_prefix": "a\0b"}, "got the filename_prefix"),
        ("KnotForcingEncodeAnchor", {"width": 128, "height": 0}, "set both"),
        ("KnotForcingEncodeAnchor", {"width": 100, "height": 100}, "multiples of 16"),
        ("KnotForcingEncodeAnchor", {"width": 4096, "height": 4096}, "give a number from 0 to 2048"),
        ("KnotForcingSettings", {"num_chunk_frames": 2, "num_knot_frames": 3}, "longer than a chunk of 2"),
        ("KnotForcingSettings", {"num_chunk_frames": 99}, "give a number from 1 to 16"),
        ("KnotForcingSettings", {"timesteps": "1000, x"}, "'x' is none"),
        ("KnotForcingSettings", {"timesteps": "500, 1000"}, "each lower than the one before"),
        ("KnotForcingSettings", {"sink_decay": 0.5}, "there are no sinks"),
    ],
)
def test_widgets_that_cannot_work_are_refused_before_the_run(
    server: Server, node: str, widgets: Json, says: str
) -> None:
    prompt = only_saving(idle(0.2)) if node == "KnotForcingSaveState" else idle(0.2)
    assert says in refused(server, with_inputs(prompt, node, **widgets))


@pytest.mark.parametrize(
    ("class_type", "inputs", "says"),
    [
        ("KnotForcingExpressionTimeline", {"timeline": '{"yaw": [[0, 2]]}'}, "from -1 to 1"),
        ("KnotForcingExpressionTimeline", {"timeline": "yaw"}, "is not JSON"),
        ("KnotForcingExpressionTimeline", {"timeline": '{"loop": true, "seconds": 0, "yaw": [[0, 0]]}'}, "set seconds"),
        ("KnotForcingPromptTimeline", {"prompts": "calm", "blend_chunks": 0}, "has no time"),
        ("KnotForcingModelSettings", {"changes": "steps = many"}, "a whole number"),
        ("KnotForcingModelSettings", {"changes": "speed = 3"}, "there is no setting speed"),
        ("KnotForcingModelSettings", {"changes": "fusion = 3"}, "between 0 and 1"),
        ("KnotForcingPortraitCrop", {"width": 100, "height": 128, "room": 2.8}, "multiples of 16"),
    ],
)
def test_so_are_texts(server: Server, class_type: str, inputs: Json, says: str) -> None:
    prompt = idle(0.2)
    model, anchor = ([node_of(prompt, f"KnotForcing{name}"), 0] for name in ("LoadModel", "EncodeAnchor"))
    cables = {"KnotForcingPromptTimeline": {"anchor": anchor}, "KnotForcingModelSettings": {"model": model},
              "KnotForcingPortraitCrop": {"image": [node_of(prompt, "KnotForcingSamplePortrait"), 0]}}  # fmt: skip
    prompt["checked"] = {"class_type": class_type, "inputs": inputs | cables.get(class_type, {})}
    prompt["seen"] = {"class_type": "PreviewAny", "inputs": {"source": ["checked", 0]}}
    del prompt[node_of(prompt, WRITER)]
    assert says in refused(server, prompt)


def test_what_comes_through_a_cable_is_no_business_of_the_check(server: Server) -> None:
    prompt = idle(0.2)
    prompt["word"] = {"class_type": "StandInWord", "inputs": {"text": ""}}
    prompt["quick"]["inputs"]["timesteps"] = ["word", 0]
    succeed(server, prompt)


def test_a_length_below_zero_that_comes_through_a_cable_ends_at_once(server: Server) -> None:
    prompt = idle(0.2)
    prompt["length"] = {"class_type": "PrimitiveFloat", "inputs": {"value": -0.5}}
    run = server.run(with_inputs(prompt, WRITER, seconds=["length", 0]))
    assert run.status == "error"
    assert "got -0.5 seconds" in run.error["exception_message"]


def test_values_are_shown_in_short(server: Server) -> None:
    prompt = idle(0.2)
    sources = {"KnotForcingLoadModel": 0, "KnotForcingEncodeAnchor": 0, "KnotForcingDrivingIdle": 0, WRITER: 1}
    for class_type, slot in sources.items():
        prompt[class_type] = {"class_type": "PreviewAny", "inputs": {"source": [node_of(prompt, class_type), slot]}}
    outputs = succeed(server, prompt).outputs
    for class_type in sources:
        (text,) = outputs[class_type]["text"]
        assert len(text) < 200, text
        assert "tensor(" not in text


def test_the_plan_of_prompts_goes_by_model_and_settings(server: Server) -> None:
    prompt = idle(0.2)
    anchor, model = node_of(prompt, "KnotForcingEncodeAnchor"), node_of(prompt, "KnotForcingLoadModel")
    given = {"anchor": [anchor, 0], "prompts": "0:00 calm / 0:12 laughing", "blend_chunks": 0}
    chunks = prompt["quick"]["inputs"] | {"num_chunk_frames": 6}
    prompt["six"] = {"class_type": "KnotForcingSettings", "inputs": chunks}
    cables = {"model": [model, 0], "settings": ["six", 0]}
    wanted = {"plain": ((), 26), "model": (("model",), 26), "settings": (("settings",), 13),
              "both": (("model", "settings"), 13)}  # fmt: skip
    for name, (connected, _) in wanted.items():
        more = {cable: cables[cable] for cable in connected}
        prompt[f"of {name}"] = {"class_type": "KnotForcingPromptTimeline", "inputs": given | more}
        prompt[name] = {"class_type": "PreviewAny", "inputs": {"source": [f"of {name}", 1]}}
    outputs = succeed(server, prompt).outputs
    for name, (_, chunk) in wanted.items():
        assert outputs[name]["text"][0].splitlines()[1].startswith(f"chunk {chunk} at "), name
