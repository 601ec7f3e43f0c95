"""Files' names from widgets: %words% are replaced without an editor, too, and every system can hold what comes out."""

import re
import time
from typing import Any

import pytest

from .comfyui import Server
from .test_queued_workflows import node_of, succeed, with_inputs
from .test_states import WRITER, idle, saving

pytestmark = pytest.mark.host
Json = dict[str, Any]


def names(server: Server, prefix: str, prompt: Json | None = None) -> tuple[str, str]:
    """The names of the video and the state within the output folder, without counter and suffix."""
    prompt = saving(with_inputs(prompt or idle(0.2), WRITER, filename_prefix=prefix), prefix=prefix)
    run = succeed(server, prompt)
    (result,) = run.outputs[node_of(prompt, WRITER)]["images"]
    assert server.file(result).is_file()
    state = run.outputs["save"]["text"][0]
    assert (server.base / "output" / state).is_file()
    video = f"{result['subfolder']}/{result['filename']}".lstrip("/")
    return re.sub(r"_\d{5}_\.mp4$", "", video), re.sub(r"_\d{5}_\.state\.safetensors$", "", state)


def test_words_are_replaced_as_stock_save_nodes_do(server: Server) -> None:
    prompt = idle(0.2)
    prompt[node_of(prompt, "KnotForcingSamplePortrait")]["_meta"] = {"title": "Who: a/b"}
    portrait = prompt[node_of(prompt, "KnotForcingSamplePortrait")]["inputs"]["portrait"]
    day = time.strftime("%Y-%m-%d")
    prefix = "%date:yyyy-MM-dd%/%date:yy%_%year%%month%%day%/%width%x%height%_%KnotForcingSamplePortrait.portrait%_"
    prefix += f"%{WRITER}.seconds%_%Who: a/b.portrait%_%KnotForcingSettings.use_anchor%"
    told = f"{day}/{day[2:4]}_{day.replace('-', '')}/128x128_{portrait}_0.2_{portrait}_true"
    assert names(server, prefix, prompt) == (told, told)


def test_a_name_for_search_and_replace_is_found_in_the_workflow(server: Server) -> None:
    prompt = idle(0.2)
    node = node_of(prompt, "KnotForcingSamplePortrait")
    prompt = with_inputs(prompt, WRITER, filename_prefix="%Someone.portrait%")
    workflow = {"nodes": [{"id": int(node), "properties": {"Node name for S&R": "Someone"}}]}
    queued = server.post("/prompt", {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": workflow}}})
    server.wait_until_idle()
    outputs = server.get(f"/history/{queued['prompt_id']}")[queued["prompt_id"]]["outputs"]
    (result,) = outputs[node_of(prompt, WRITER)]["images"]
    assert result["filename"].startswith(prompt[node]["inputs"]["portrait"] + "_")


def test_words_that_name_nothing_stay_and_a_widgets_slashes_do_not_make_folders(server: Server) -> None:
    assert names(server, "%nothing%_%None.widget%") == ("%nothing%_%None.widget%",) * 2
    assert names(server, "50%_%width%_%_%height%%") == ("50%_128_%_128%",) * 2
    prompt = idle(0.2)
    prompt["word"] = {"class_type": "StandInWord", "inputs": {"text": "../a/b:c"}}
    prompt["kept"] = {"class_type": "PreviewAny", "inputs": {"source": ["word", 0]}}
    assert names(server, "x_%StandInWord.text%", prompt) == ("x_.._a_b_c",) * 2


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", "knot_forcing"), (".", "knot_forcing"), ("sub/", "sub/knot_forcing"), ("a:b*?", "a_b__"), ("CON", "_CON"),
        ("con.txt/Nul", "_con.txt/_Nul"), ("lpt1", "_lpt1"), ("end. .", "end"), ("dot./space /x", "dot/space/x"),
        ('<a>|"b"', "_a___b_"), ("...", "_"), ("console", "console"), (" ", "_"),
    ],
)  # fmt: skip
def test_names_that_a_system_cannot_hold_are_made_safe(server: Server, prefix: str, name: str) -> None:
    assert names(server, prefix) == (name, name)


def test_a_file_that_was_deleted_is_made_again(server: Server) -> None:
    prompt = saving(idle(0.2, filename_prefix="video/again", seed=77), prefix="states/again")
    writer = node_of(prompt, WRITER)

    def run() -> tuple[Json, list[str]]:
        done = succeed(server, prompt)
        return done.outputs, done.cached

    first, _ = run()
    again, cached = run()
    assert writer in cached
    assert again == first
    server.file(first[writer]["images"][0]).unlink()
    second, cached = run()
    assert writer not in cached
    assert server.file(second[writer]["images"][0]).is_file()
    (server.base / "output" / second["save"]["text"][0]).unlink()
    third, cached = run()
    assert writer in cached, "the video is there"
    assert (server.base / "output" / third["save"]["text"][0]).is_file()
    assert run()[0] == third, "and both are again kept"


def test_no_file_that_is_there_is_written_over(server: Server) -> None:
    taken = server.base / "output" / "taken" / "a_00001_.mp4"
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    names(server, "taken/a")
    assert taken.read_text() == "mine"
