"""The workflows in ComfyUI's own editor, in a real browser: dropped on the canvas they open whole, queued they run."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ..host.comfyui import PACK, Server
from ..host.conftest import UI_WORKFLOWS, load_json
from .editor import (
    CLICK_LIMIT_MS,
    LIVE,
    NODE,
    RUN_LIMIT_MS,
    SET_VALUES,
    STATE,
    USUAL_SCREEN,
    VIDEO,
    Page,
    drop,
    load,
    open_templates,
    queue,
    shot,
)
from .layout import SCREEN, check_in_place, check_in_view

pytestmark = pytest.mark.host

BUNDLED = [path for path in UI_WORKFLOWS if path.stem.startswith("portrait_") and path.stem != "portrait_live"]
SHORT = {
    "KnotForcingStreamToVideo": {"seconds": 1.0},
    "KnotForcingStream": {"seconds": 0.6},
    "KnotForcingSampleChunks": {"chunks": 1},
}
# every Stream to Video has its finished video, and no player any more
ALL_SHOWN = """() => app.graph._nodes.filter(node => node.type === 'KnotForcingStreamToVideo').every(node =>
    !node.knotForcingLive && node.videoContainer?.querySelector('video')?.readyState >= 2)"""


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_dropped_workflow_opens_whole_and_queues_as_its_api_form(page: Page, server: Server, path: Path) -> None:
    drop(page, path)
    shot(page, path.stem, server)
    complaints = page.locator(".p-toast-message").all_inner_texts()
    assert not [text for text in complaints if "workflow" in text.lower()]
    nodes = page.evaluate(STATE)
    assert {node["type"] for node in nodes} == {node["type"] for node in load_json(path)["nodes"]}
    assert all(node["known"] for node in nodes)
    # newer editors mark nodes whose file is still to be downloaded, which is what they should
    assert not [node for node in nodes if node["errors"] and not (node["downloads"] and path not in BUNDLED)]
    queued = json.loads(page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))
    api = load_json(PACK / "workflows" / "api" / path.name)
    assert queued.keys() == api.keys()
    for key, node in api.items():
        assert queued[key]["class_type"] == node["class_type"]
        assert node["inputs"].items() <= queued[key]["inputs"].items()


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_workflow_runs_from_the_editor(page: Page, server: Server, path: Path) -> None:
    drop(page, path)
    page.evaluate(SET_VALUES, SHORT)
    queue(page)
    streams = page.evaluate(f"!!({NODE})")
    page.wait_for_function("Object.keys(window.played).length || window.ended", timeout=RUN_LIMIT_MS)
    shot(page, f"{path.stem}-runs", server)
    page.wait_for_function("window.ended", timeout=RUN_LIMIT_MS)
    assert page.evaluate("window.ended") == "success"
    assert bool(page.evaluate("window.streams")) == streams, "chunks play while later ones are made"
    page.wait_for_function(f"{VIDEO}?.readyState >= 2 && ({ALL_SHOWN})()", timeout=60_000)
    page.wait_for_timeout(1000)
    shot(page, f"{path.stem}-done", server)
    check_in_place(page)


def test_a_second_run_shows_the_second_video(page: Page) -> None:
    """It starts with the first one's in the node."""
    load(page, "portrait_idle")
    for seed, seconds in ((11, 0.6), (12, 1.0)):
        page.evaluate(SET_VALUES, {"KnotForcingStreamToVideo": {"seed": seed, "seconds": seconds}})
        queue(page)
        page.wait_for_function("window.ended === 'success'", timeout=RUN_LIMIT_MS)
        page.wait_for_function(f"!{LIVE} && {VIDEO}?.readyState >= 2 && !{NODE}.imgs", timeout=30_000)
        assert page.evaluate("window.streams")
        assert page.evaluate(f"[{VIDEO}.videoWidth, {VIDEO}.duration]") == [128, pytest.approx(seconds, abs=0.1)]


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_the_template_browser_shows_a_workflow_and_opens_it(page: Page, server: Server, path: Path) -> None:
    """By clicks alone, from what a user has installed, and whole on a small screen."""
    page.set_viewport_size(SCREEN)
    page.evaluate("app.graph.clear()")
    card = open_templates(page, server).get_by_test_id(f"template-workflow-{path.stem}")
    card.scroll_into_view_if_needed(timeout=CLICK_LIMIT_MS)
    picture = card.locator("img").first.element_handle(timeout=CLICK_LIMIT_MS)
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        page.wait_for_function(
            "([shown, width, height]) => shown.naturalWidth === width && shown.naturalHeight === height",
            arg=[picture, *thumbnail.size], timeout=CLICK_LIMIT_MS,
        )  # fmt: skip
    shot(page, f"templates-{path.stem}", server)
    card.click(timeout=CLICK_LIMIT_MS)
    wanted = load_json(path)["nodes"]
    page.wait_for_function("count => app.graph._nodes.length === count", arg=len(wanted), timeout=CLICK_LIMIT_MS)
    assert {node["type"] for node in page.evaluate(STATE)} == {node["type"] for node in wanted}
    page.wait_for_timeout(500)
    shot(page, f"template-{path.stem}", server)
    check_in_view(page)
    page.set_viewport_size(USUAL_SCREEN)
