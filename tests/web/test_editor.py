"""The workflows in ComfyUI's own editor, in a real browser: dropped on the canvas, they open whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..host.comfyui import PACK, Server
from ..host.conftest import UI_WORKFLOWS, load_json
from .editor import DROP, NODE, RUN_LIMIT_MS, SET_WIDGETS, SHOTS, STATE, VIDEO

pytestmark = pytest.mark.host


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_dropped_workflow_opens_whole_and_queues_as_its_api_form(page: Any, server: Server, path: Path) -> None:
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


def test_a_run_from_the_editor_plays_as_it_goes_and_then_shows_the_video(page: Any) -> None:
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
