"""A workflow of a stranger does no more than run the nodes: names stay in their folders, whatever they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from .comfyui import Server
from .test_checks import only_saving
from .test_queued_workflows import node_of, succeed, with_inputs, workflow
from .test_states import WRITER, going_on, idle, saving

pytestmark = pytest.mark.host
Json = dict[str, Any]

LEADING_OUT = ("../knot_evil", "a/../../knot_evil", "/tmp/knot_evil", "../../../../../../tmp/knot_evil", "..")
A_FILE = "video/taken.txt"
UNWRITABLE = (f"{A_FILE}/knot_evil", "a\0knot_evil", "a\nknot_evil", "k" * 300, "k" * 300 + "/a", "\ud800knot_evil")
INSIDE = ("C:\\knot_evil", "..\\..\\knot_evil", "con/nul", "%date%/%width%", "a/./b/../c", "~/knot_evil", "ü/名")


@pytest.fixture
def around(server: Server) -> Any:
    """Calls give the files that are new and lie outside ComfyUI's output and temp folders."""
    folders = (server.base.parent, Path("/tmp"), Path.home())

    def seen() -> set[Path]:
        inside = {path for path in server.base.rglob("*") if path.is_file()}
        beside = {path for folder in folders for path in folder.glob("*knot_evil*")}
        return inside | beside

    before, places = seen(), (server.base / "output", server.base / "temp", server.base / "custom_nodes")
    return lambda: {
        path for path in seen() - before
        if path != server.log and not any(path.is_relative_to(place) for place in places)
    }  # fmt: skip


@pytest.mark.parametrize("prefix", [*LEADING_OUT, *UNWRITABLE], ids=lambda name: ascii(name)[:40])
def test_a_name_that_leads_out_or_cannot_be_is_refused_in_one_sentence(
    server: Server, around: Any, prefix: str
) -> None:
    taken = server.base / "output" / A_FILE
    taken.parent.mkdir(parents=True, exist_ok=True)
    taken.touch()
    later = prefix == f"{A_FILE}/knot_evil"  # is known only when the file is to be made
    saved = with_inputs(only_saving(idle(0.2)), "KnotForcingSaveState", filename_prefix=prefix)
    for prompt in (idle(0.2, filename_prefix=prefix), saved):
        if later:
            run = server.run(prompt)
            assert run.status == "error"
            said = run.error["exception_message"]
        else:
            with pytest.raises(ValueError, match="answered 400") as refused:
                server.post("/prompt", {"prompt": prompt})
            said = json.loads(str(refused.value).partition(": ")[2])["node_errors"].popitem()[1]["errors"][0]["details"]
        assert "got the filename_prefix" in said
        assert "\n" not in said.strip()
    assert around() == set()


@pytest.mark.parametrize("prefix", INSIDE, ids=ascii)
def test_a_strange_name_stays_inside(server: Server, around: Any, prefix: str) -> None:
    prompt = saving(idle(0.2, filename_prefix=prefix), prefix=prefix)
    run = succeed(server, prompt)
    (result,) = run.outputs[node_of(prompt, WRITER)]["images"]
    assert server.file(result).is_file()
    assert (server.base / "output" / run.outputs["save"]["text"][0]).is_file()
    assert around() == set()


@pytest.mark.parametrize(
    "name",
    ["../../evil.state.safetensors", "/etc/passwd", "states/none.state.safetensors", "x.png", "a\0.state.safetensors",
     "s" * 300 + ".state.safetensors", "..", "states", "\ud800.state.safetensors", ""],
    ids=ascii,
)  # fmt: skip
def test_only_states_in_the_output_folder_are_read(server: Server, name: str) -> None:
    run = server.run(going_on(name, 0.4))
    assert run.status == "error"
    assert "state file" in run.error["exception_message"]


@pytest.mark.parametrize(
    ("node", "widget", "value", "says"),
    [
        ("KnotForcingSamplePortrait", "portrait", "../../../../../../etc/passwd", "the pack has not"),
        ("KnotForcingSamplePortrait", "portrait", "/etc/passwd", "the pack has not"),
        ("KnotForcingSampleSpeech", "speech", "../portraits/ben.png", "the pack has not"),
        ("KnotForcingLoadModel", "model_name", "../../../../etc/passwd", ""),
        ("KnotForcingLoadModel", "codec", "/etc/passwd", ""),
        ("KnotForcingStreamToVideo", "video_format", "../x", "the video format is"),
        ("KnotForcingStreamToVideo", "filename_prefix", "../x", "got the filename_prefix"),
    ],
)
def test_choices_are_those_offered_by_widget_and_by_cable(
    server: Server, node: str, widget: str, value: str, says: str
) -> None:
    """ComfyUI refuses another value of a widget before it runs anything, but does not see what a cable brings."""
    prompt = with_inputs(workflow("portrait_from_audio"), WRITER, seconds=0.4)
    if widget != "filename_prefix":
        with pytest.raises(ValueError, match="answered 400"):
            server.post("/prompt", {"prompt": with_inputs(prompt, node, **{widget: value})})
    prompt["word"] = {"class_type": "StandInWord", "inputs": {"text": value}}
    run = server.run(with_inputs(prompt, node, **{widget: ["word", 0]}))
    assert run.status == "error"
    assert says in run.error["exception_message"]
    assert "root:" not in str(run.error), "no line of a file that was not meant"


def test_numbers_that_are_none_are_refused(server: Server) -> None:
    """Python's JSON, and so ComfyUI, knows NaN, which is neither above a widget's most nor below its least."""
    prompt = with_inputs(workflow("portrait_from_audio"), WRITER, seconds=float("nan"))
    run = server.run(prompt)
    assert run.status == "error"
    assert "got seconds that are no number" in run.error["exception_message"]
    for value in (float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="answered 400"):
            server.post("/prompt", {"prompt": with_inputs(prompt, WRITER, seconds=value)})
