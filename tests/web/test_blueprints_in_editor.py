"""Subgraph blueprints: one node for a whole stream, found by its name, with the usual cables and widgets."""

from pathlib import Path

import pytest

from ..host.comfyui import PACK, Server
from ..host.conftest import load_json
from ..host.test_queued_workflows import check_video
from .editor import RUN_LIMIT_MS, Page, queue, shot

pytestmark = pytest.mark.host

BLUEPRINTS = sorted((PACK / "subgraphs").glob("*.json"))
SEARCH = "[role=dialog] input, .p-dialog input, .comfy-vue-node-search-container input"
SAMPLES = {"image": "KnotForcingSamplePortrait", "audio": "KnotForcingSampleSpeech"}
WHOLE = "app.graph._nodes.find(node => node.subgraph)"
WIRE = f"""samples => {{
    const whole = {WHOLE};
    for (const [name, type] of Object.entries(samples)) {{
        const place = whole.inputs.findIndex(input => input.name === name);
        if (place < 0) continue;
        const node = LiteGraph.createNode(type);
        node.pos = [whole.pos[0] - 400, whole.pos[1] + 300 * place];
        app.graph.add(node);
        node.connect(0, whole, place);
    }}
}}"""
SET = f"""values => {{
    for (const [name, value] of Object.entries(values))
        {WHOLE}.widgets.find(widget => widget.name === name || widget.label === name).value = value;
}}"""


def open_search(page: Page) -> None:
    """By a double click on an empty canvas; an editor that has just been opened does not hear the first one."""
    for _ in range(10):
        page.evaluate("app.graph.clear(); app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]")
        page.mouse.dblclick(1300, 300)
        page.wait_for_timeout(1500)
        if page.locator(SEARCH).first.is_visible():
            return
        page.keyboard.press("Escape")
    raise AssertionError("no search opens over the canvas")


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_found_placed_and_run(page: Page, server: Server, path: Path) -> None:
    pack = f"custom_nodes.{server.pack.name}"
    listed = [entry["name"] for entry in server.get("/global_subgraphs").values() if entry["info"]["node_pack"] == pack]
    assert sorted(listed) == [each.stem for each in BLUEPRINTS]
    open_search(page)
    page.locator(SEARCH).first.fill(path.stem)
    page.wait_for_timeout(1500)
    shot(page, f"{path.stem}-search", server)
    page.keyboard.press("Enter")
    page.wait_for_timeout(1000)
    page.mouse.click(900, 500)  # newer editors let a new node hang at the pointer
    page.wait_for_function(f"!!({WHOLE})", timeout=20_000)
    (wanted,) = load_json(path)["nodes"]
    assert page.evaluate(f"{WHOLE}.inputs.map(input => input.name)") == [each["name"] for each in wanted["inputs"]]
    page.evaluate(WIRE, SAMPLES)
    page.evaluate(SET, {"seconds": 1.0, "seed": 5})
    shot(page, f"{path.stem}-placed", server)
    queue(page)
    page.wait_for_function("window.ended", timeout=RUN_LIMIT_MS)
    shot(page, f"{path.stem}-done", server)
    assert page.evaluate("window.ended") == "success"
    (video,) = (server.base / "output" / "video").glob(f"{path.stem.lower().replace(' ', '_')}_*.mp4")
    check_video(video, seconds=1.0, sound="Talking" in path.stem)
