"""References as a user gives them: none, several, and pictures that knot-tiny cannot render."""

import pytest

from .comfyui import Server
from .test_queued_workflows import node_of, succeed, videos
from .test_states import idle
from .test_warnings_in_history import WARNINGS

pytestmark = pytest.mark.host
ENCODE, CROP = "KnotForcingEncodeAnchor", "KnotForcingPortraitCrop"
HARDLY = "knot-tiny can hardly render this reference"


def of_one_colour(colour: int, batch: int = 1, **encode: object) -> dict:
    """A stream of 0.2 s for each of some pictures; each test has its own colour, for ComfyUI keeps what it made."""
    prompt = idle(0.2)
    prompt["plain"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 200, "height": 160, "batch_size": batch, "color": colour},
    }
    prompt[node_of(prompt, ENCODE)]["inputs"] |= {"image": ["plain", 0], **encode}
    return prompt


def logged(server: Server, prompt: dict) -> tuple[str, int]:
    """What ComfyUI's log says of a run, and how many videos came out."""
    before = server.log.stat().st_size
    run = succeed(server, prompt)
    return server.log.read_bytes()[before:].decode(errors="replace"), len(videos(server, run))


def on_the_node(server: Server, prompt: dict) -> tuple[list[str], int]:
    """The warnings that stand on Encode Reference Anchor, and how many videos came out."""
    run = succeed(server, prompt)
    return run.outputs.get(node_of(prompt, ENCODE), {}).get(WARNINGS, []), len(videos(server, run))


def test_a_picture_that_is_no_drawn_portrait_is_warned_of_on_the_node_and_streams(server: Server) -> None:
    warnings, count = on_the_node(server, of_one_colour(0x808080))
    assert len(warnings) == count == 1
    assert HARDLY in warnings[0]
    assert "knot-face" in warnings[0]


def test_several_pictures_are_as_many_streams_and_the_node_says_so(server: Server) -> None:
    warnings, count = on_the_node(server, of_one_colour(0x606060, 3))
    assert count == 3
    assert "3 pictures: 3 streams" in warnings[0]


def test_of_several_pictures_the_first_alone_can_be_taken(server: Server) -> None:
    log, count = logged(server, of_one_colour(0x404040, 3, pictures="first"))
    assert count == 1
    assert "3 pictures: the first one is the reference" in log


def test_without_a_picture_a_model_that_takes_no_text_is_refused(server: Server) -> None:
    prompt = idle(0.2)
    del prompt[node_of(prompt, ENCODE)]["inputs"]["image"]
    run = server.run(prompt)
    assert run.status == "error"
    assert "got no picture" in run.error["exception_message"]


def test_the_crop_says_what_it_found(server: Server) -> None:
    """It is a sample portrait; the portrait that is cut out of it streams without a warning."""
    prompt = idle(0.2)
    encode = prompt[node_of(prompt, ENCODE)]["inputs"]
    crop = {"image": encode["image"], "width": 256, "height": 256, "room": 2.8}
    encode["image"] = ["crop", 0]
    log, count = logged(server, prompt | {"crop": {"class_type": CROP, "inputs": crop}})
    assert count == 1
    assert "face found by" in log
    assert HARDLY not in log
