"""The workflows in ComfyUI's own editor, in a real browser: dropped on the canvas, they open whole."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..host.comfyui import PACK, Server
from ..host.conftest import UI_WORKFLOWS, load_json

pytestmark = pytest.mark.host

playwright = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TEST: pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHOTS = os.environ.get("KNOT_SCREENSHOTS")  # a folder for pictures to look at
READY = "window.app && window.app.graph && window.app.extensionManager && window.app.api.clientId"
DROP = """([text, name]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name, {type: "application/json"}));
    const canvas = document.querySelector("#graph-canvas");
    const box = canvas.getBoundingClientRect();
    const place = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
    for (const kind of ["dragenter", "dragover", "drop"])
        canvas.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true, ...place}));
}"""
STATE = """() => app.graph._nodes.map(node => ({
    id: node.id, type: node.type, missing: !!node.has_errors,
    known: node.type in LiteGraph.registered_node_types,
}))"""
NODE = "app.graph._nodes.find(node => node.type === 'KnotForcingStreamToVideo')"
VIDEO = "document.querySelector('video')"
SET_WIDGETS = f"""values => {{
    for (const widget of {NODE}.widgets) if (widget.name in values) widget.value = values[widget.name];
}}"""
RUN_LIMIT_MS = 600_000


@pytest.fixture(scope="session")
def page(server: Server) -> Iterator["playwright.Page"]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TEST: no chromium on the PATH")
    server.post("/settings", {"Comfy.TutorialCompleted": True})  # else the template browser opens over the canvas
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_function(READY, timeout=60_000)
        yield page
        browser.close()


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_dropped_workflow_opens_whole_and_queues_as_its_api_form(
    page: "playwright.Page", server: Server, path: Path
) -> None:
    workflow = load_json(path)
    page.evaluate("app.graph.clear()")
    page.evaluate(DROP, [path.read_text(encoding="utf-8"), path.name])
    page.wait_for_function(f"app.graph._nodes.length === {len(workflow['nodes'])}", timeout=20_000)
    page.wait_for_timeout(1000)
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{path.stem}-{server.port}.png")
    complaints = page.locator(".p-toast-message").all_inner_texts()
    assert not [text for text in complaints if "workflow" in text.lower()]
    nodes = page.evaluate(STATE)
    assert {node["type"] for node in nodes} == {node["type"] for node in workflow["nodes"]}
    assert not [node for node in nodes if node["missing"] or not node["known"]]
    queued = json.loads(page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))
    api = load_json(PACK / "workflows" / "api" / path.name)
    assert queued.keys() == api.keys()
    for key, node in api.items():
        assert queued[key]["class_type"] == node["class_type"]
        assert node["inputs"].items() <= queued[key]["inputs"].items()


def test_a_run_from_the_editor_plays_as_it_goes_and_then_shows_the_video(page: "playwright.Page") -> None:
    """Twice: the second run starts with the first one's video in the node."""
    path = next(path for path in UI_WORKFLOWS if path.stem == "portrait_idle")
    page.evaluate("workflow => app.loadGraphData(workflow)", load_json(path))
    for seed in (11, 12):
        page.evaluate(SET_WIDGETS, {"seed": seed, "seconds": 1.0})
        page.evaluate("app.queuePrompt(0, 1)")
        page.wait_for_function(f"{NODE}.knotForcingLive?.player.fetched > 0", timeout=RUN_LIMIT_MS)
        finished = f"!{NODE}.knotForcingLive && {VIDEO}?.readyState >= 2 && !{NODE}.imgs"
        page.wait_for_function(finished, timeout=RUN_LIMIT_MS)
        assert page.evaluate(f"[{VIDEO}.videoWidth, {VIDEO}.duration]") == [128, pytest.approx(1.0, abs=0.1)]
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / "played.png")
