"""A live session in the node: it begins, answers to what is done by hand, and its recording is shown; twice."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from ..host.comfyui import Server
from .editor import OPEN_LIMIT_MS, READY, RUN_LIMIT_MS, Page, queue, shot, workflow

pytestmark = pytest.mark.host

NODE = "app.graph._nodes.find(node => node.type === 'KnotForcingLive')"
SESSION = f"{NODE}.knotForcingSession"
PLAYER = f"{SESSION}?.player"
SHOWN = f"({PLAYER}?.player?.playedFrame ?? -1)"
RECORDING = f"({NODE}.videoContainer?.querySelector('video') ?? document.querySelector('.video-preview video'))"
TIMELINE = "KnotForcingExpressionTimeline"


@pytest.fixture(autouse=True)
def no_session_is_left(server: Server) -> Iterator[None]:
    yield
    server.post("/interrupt", {})
    server.wait_until_idle()


def open_live(page: Page, graph: dict[str, Any] | None = None) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", graph or workflow("portrait_live"))
    page.wait_for_timeout(500)


def begin(page: Page, frames: int = 12) -> None:
    queue(page)
    page.wait_for_function(f"{PLAYER}?.state === 'live' && {SHOWN} >= {frames}", timeout=RUN_LIMIT_MS)


def finish(page: Page) -> None:
    page.evaluate(f"{PLAYER}.parts.finish.click()")
    page.wait_for_function("window.ended", timeout=RUN_LIMIT_MS)
    assert page.evaluate("window.ended") == "success"


def slide(page: Page, name: str, value: float) -> None:
    page.evaluate(
        f"""([name, value]) => {{
            const {{slider}} = {PLAYER}.controls.sliders.rows.get(name);
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
        }}""",
        [name, value],
    )


def test_it_is_moved_and_finished_and_the_recording_is_shown_twice(page: Page, server: Server) -> None:
    open_live(page)
    for number in range(2):
        begin(page)
        assert "queue waits" in page.evaluate(f"{PLAYER}.parts.notice.textContent")
        assert page.evaluate(f"{PLAYER}.parts.canvas.width") > 100
        slide(page, "yaw", 0.9)
        page.wait_for_function(f"{PLAYER}.measured.delays.length", timeout=RUN_LIMIT_MS)
        assert "control to visible" in page.evaluate(f"{PLAYER}.parts.figures.textContent")
        shot(page, f"live-session-{number}", server)
        finish(page)
        page.wait_for_function(f"!{SESSION} && {RECORDING}?.readyState >= 1", timeout=60_000)
        assert page.evaluate(f"{RECORDING}.duration") > 0.4
        shot(page, f"live-session-done-{number}", server)


def test_what_is_typed_is_said_or_a_sentence_says_why_not(page: Page) -> None:
    open_live(page)
    begin(page)
    if page.evaluate(f"{PLAYER}.speechless"):
        assert "espeak" in page.evaluate(f"{PLAYER}.parts.notice.textContent")
        return
    page.evaluate(f"""() => {{
        window.spoken = false;
        const {{client, parts}} = {PLAYER}, hear = client.onMessage;
        client.onMessage = (message) => {{ window.spoken ||= !!message.speech; hear(message); }};
        parts.sentence.value = "Good morning.";
        parts.speak.click();
    }}""")
    page.wait_for_function("window.spoken", timeout=RUN_LIMIT_MS)
    page.evaluate(f"{PLAYER}.parts.silence.click()")
    page.wait_for_function(f"{PLAYER}.player.played.epoch > 0", timeout=RUN_LIMIT_MS)
    finish(page)


def test_pause_stands_still_and_stop_leaves_the_last_picture(page: Page) -> None:
    open_live(page)
    begin(page)
    page.evaluate(f"{PLAYER}.parts.pause.click()")
    page.wait_for_function(f"{PLAYER}.state === 'paused'", timeout=RUN_LIMIT_MS)
    page.evaluate("app.api.interrupt()")
    page.wait_for_function("window.ended === 'interrupted'", timeout=RUN_LIMIT_MS)
    page.wait_for_function(f"{PLAYER}.state === 'ended'", timeout=60_000)
    assert page.evaluate(f"{PLAYER}.parts.problem.textContent") == ""
    assert page.evaluate(f"{PLAYER}.parts.finish.disabled")


def test_a_page_that_is_loaded_again_attaches_again(page: Page) -> None:
    open_live(page)
    begin(page)
    page.wait_for_timeout(1500)  # the editor stores the graph for the next visit
    page.reload()
    page.wait_for_function(READY, timeout=OPEN_LIMIT_MS)
    page.wait_for_function(f"({NODE}) && {PLAYER}?.state === 'live'", timeout=RUN_LIMIT_MS)
    shown = page.evaluate(SHOWN)
    page.wait_for_function(f"{SHOWN} > {max(shown, 0)} + 12", timeout=RUN_LIMIT_MS)
    page.evaluate(f"{PLAYER}.parts.finish.click()")
    page.wait_for_function(f"!{SESSION} && {RECORDING}?.readyState >= 1", timeout=60_000)


def test_without_webcodecs_it_plays_through_media_source_and_says_so(page: Page) -> None:
    open_live(page)
    page.evaluate("() => { window.kept = window.VideoDecoder; delete window.VideoDecoder; }")
    try:
        begin(page)
        assert "Media Source" in page.evaluate(f"{PLAYER}.parts.notice.textContent")
        assert page.evaluate(f"{PLAYER}.parts.video.readyState") >= 2
        finish(page)
    finally:
        page.evaluate("() => { window.VideoDecoder = window.kept; }")


def test_without_a_player_it_says_so(page: Page) -> None:
    open_live(page)
    page.evaluate("""() => {
        window.kept = [window.VideoDecoder, window.MediaSource];
        delete window.VideoDecoder; window.MediaSource = undefined;
    }""")
    try:
        queue(page)
        page.wait_for_function(f"{PLAYER}?.state === 'failed'", timeout=RUN_LIMIT_MS)
        assert "WebCodecs" in page.evaluate(f"{PLAYER}.parts.problem.textContent")
    finally:
        page.evaluate("() => { [window.VideoDecoder, window.MediaSource] = window.kept; }")


def with_timeline(graph: dict[str, Any]) -> dict[str, Any]:
    """The workflow with an Expression Timeline beneath the session."""
    graph = copy.deepcopy(graph)
    live = next(node for node in graph["nodes"] if node["type"] == "KnotForcingLive")
    slot = next(place for place, cable in enumerate(live["inputs"]) if cable["name"] == "driving")
    key, link = graph["last_node_id"] + 1, graph["last_link_id"] + 1
    output = {"name": "driving", "type": "KNOT_FORCING_DRIVING", "links": [link]}
    graph["nodes"].append({
        "id": key, "type": TIMELINE, "pos": [380, 620], "size": [300, 400], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [output], "properties": {}, "widgets_values": ['{"yaw": [[0, -0.9]]}'],
    })  # fmt: skip
    graph["links"].append([link, key, 0, live["id"], slot, "KNOT_FORCING_DRIVING"])
    live["inputs"][slot]["link"] = link
    graph["last_node_id"], graph["last_link_id"] = key, link
    return graph


def test_a_timeline_that_is_edited_moves_the_running_session(page: Page) -> None:
    open_live(page, with_timeline(workflow("portrait_live")))
    begin(page)
    widget = (
        f"app.graph._nodes.find(node => node.type === '{TIMELINE}').widgets.find(({{name}}) => name === 'timeline')"
    )
    write = f"text => {{ {widget}.value = text; }}"
    page.evaluate(write, '{"yaw": [[0, 0.9')
    page.wait_for_function(f"{PLAYER}.parts.problem.textContent.length > 20", timeout=60_000)
    with page.expect_response("**/knot_forcing/live/change", timeout=60_000) as answer:
        page.evaluate(write, '{"yaw": [[0, 0.9]]}')
    assert answer.value.status == 200
    page.wait_for_function(f"{PLAYER}.parts.problem.textContent === ''", timeout=60_000)
    page.complaints[:] = [text for text in page.complaints if "/live/change" not in text]  # the first text was refused
    finish(page)
