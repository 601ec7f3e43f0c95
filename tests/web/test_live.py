"""Chunks play in the node while later ones are made; stopping keeps them; a second run begins anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..host.comfyui import Server
from ..host.conftest import UI_WORKFLOWS, load_json
from .editor import NODE, RUN_LIMIT_MS, SET_WIDGETS, SHOTS

pytestmark = pytest.mark.host

SETTINGS = "app.graph._nodes.find(node => node.type === 'KnotForcingSettings')"
LIVE = f"{NODE}.knotForcingLive"
PLAYING = f"{LIVE}?.player.video.readyState >= 2"
BUFFERED = f"{LIVE}.player.buffer.buffered"
# the same node inside a subgraph: what executes is then called "<subgraph's id>:<node's id>"
INTO_SUBGRAPH = f"""() => {{
    const node = {NODE};
    app.canvas.selectItems([node]);
    return !!app.graph.convertToSubgraph?.(new Set([node]));
}}"""
INNER = "app.graph._nodes.find(node => node.subgraph)?.subgraph.nodes[0]"
Page = Any


def load(page: Page, **values: object) -> None:
    """A portrait that talks, quickly: one step a chunk."""
    path = next(path for path in UI_WORKFLOWS if path.stem == "portrait_from_audio")
    page.evaluate("workflow => app.loadGraphData(workflow)", load_json(path))
    page.wait_for_timeout(500)
    page.evaluate(f"{SETTINGS}.widgets.find(widget => widget.name === 'steps').value = 1")
    page.evaluate(SET_WIDGETS, values)


def shot(page: Page, name: str, server: Server) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}-{server.port}.png")


def test_chunks_play_with_sound_while_later_ones_are_made(page: Page, server: Server) -> None:
    load(page, seed=41, seconds=1.3)
    page.evaluate("app.queuePrompt(0, 1)")
    page.wait_for_function(PLAYING, timeout=RUN_LIMIT_MS)
    assert page.evaluate(f"!{NODE}.imgs?.length"), "the player, and no still beside it"
    text = page.evaluate(f"{LIVE}.player.text.textContent")
    assert "chunk" in text
    assert "real time" in text
    assert "MiB" in text or "GiB" in text
    assert page.evaluate(f"{LIVE}.player.video.muted")
    page.evaluate(f"{LIVE}.player.speaker.click()")
    assert not page.evaluate(f"{LIVE}.player.video.muted")
    page.wait_for_function(f"{BUFFERED}.length && {BUFFERED}.end(0) > 0.6", timeout=RUN_LIMIT_MS)
    shot(page, "live", server)
    page.wait_for_function(f"!{LIVE} && document.querySelector('video')?.readyState >= 1", timeout=RUN_LIMIT_MS)


def test_stop_ends_the_player_and_keeps_what_was_made(page: Page, server: Server) -> None:
    for seed in (51, 52):  # the second run begins with the first one's player in the node
        if seed == 51:
            load(page)
        page.evaluate(SET_WIDGETS, {"seed": seed, "seconds": 600})
        page.evaluate("app.queuePrompt(0, 1)")
        page.wait_for_function(f"{PLAYING} && !{LIVE}.player.ended", timeout=RUN_LIMIT_MS)
        page.evaluate("app.api.interrupt()")
        page.wait_for_function(f"{LIVE}?.player.ended && {LIVE}.player.video.controls", timeout=RUN_LIMIT_MS)
        assert "kept" in page.evaluate(f"{LIVE}.player.text.textContent")
    shot(page, "stopped", server)


def test_a_player_that_fails_leaves_stills_and_the_video(page: Page) -> None:
    load(page, seed=61, seconds=0.8)
    page.evaluate("() => { window.kept = window.MediaSource; window.MediaSource = undefined; }")
    try:
        page.evaluate("app.queuePrompt(0, 1)")
        page.wait_for_function(f"{NODE}.imgs?.length && !{LIVE}", timeout=RUN_LIMIT_MS)
        page.wait_for_function("document.querySelector('video')?.readyState >= 1", timeout=RUN_LIMIT_MS)
    finally:
        page.evaluate("() => { window.MediaSource = window.kept; }")


def test_it_plays_inside_a_subgraph(page: Page) -> None:
    load(page, seed=71, seconds=0.8)
    if not page.evaluate(INTO_SUBGRAPH):
        pytest.skip("THIS EDITOR MAKES NO SUBGRAPH BY CALL: the player inside one is not tested")
    page.evaluate("app.queuePrompt(0, 1)")
    page.wait_for_function(f"{INNER}?.knotForcingLive?.player.fetched > 0", timeout=RUN_LIMIT_MS)


def test_an_mp4_dropped_on_the_canvas_opens_its_graph(page: Page, server: Server) -> None:
    load(page, seed=81, seconds=0.2)
    before = page.evaluate("app.graph._nodes.length")
    page.evaluate("app.queuePrompt(0, 1)")
    page.wait_for_function("document.querySelector('video')?.readyState >= 1", timeout=RUN_LIMIT_MS)
    newest = max((server.base / "output" / "video").glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)
    page.evaluate("app.graph.clear()")
    page.evaluate(
        "async bytes => app.handleFile(new File([new Uint8Array(bytes)], 'v.mp4', {type: 'video/mp4'}))",
        list(newest.read_bytes()),
    )
    page.wait_for_function(f"app.graph._nodes.length === {before}", timeout=20_000)
    assert json.loads(page.evaluate(f"JSON.stringify({NODE}.widgets.find(w => w.name === 'seed').value)")) == 81
