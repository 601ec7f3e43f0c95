"""Draw the pictures of the help pages: every node as the editor shows it, and of some what comes out of them.

    python3 run.py test tests/web/make_help_pictures.py      (it is no test: pytest finds ComfyUI and the browser)

KNOT_PICTURES="KnotForcingStream KnotForcingSettings" draws these nodes alone.
"""

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ..host.comfyui import PACK, Json, Server
from ..host.conftest import UI_WORKFLOWS, load_json
from ..host.test_queued_workflows import succeed
from ..nodes.node_sources import Sources
from .editor import LIVE, NODE, RUN_LIMIT_MS, SET_WIDGETS, open_editor

TARGET = PACK / "web" / "docs" / "images"
PORTRAITS = PACK / "knot_core" / "assets" / "portraits"
NODE_IDS = os.environ.get("KNOT_PICTURES", "").split() or sorted(Sources().interface())
SHARPNESS = 2  # device pixels each way for one of the page's: help panels are read on sharp screens, too
COLOURS = 64  # of a picture's palette: a node is text on grey
MARGIN, TITLE = 10, 30  # of the page's pixels: round the node; above its position, where its title is
MOST_BYTES = 40 * 1024
QUALITIES = (82, 76, 70, 64)  # of JPEG: the best that is small enough
PLAYER = "KnotForcingStreamToVideo"
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "Comfy.Minimap.Visible": False,
}
# Beside the others, which stay: widgets of a new node with an old one's number would begin with its values.
ADD = """name => {
    const node = LiteGraph.createNode(name);
    node.pos = [3000 * app.graph._nodes.length, 0];
    app.graph.add(node);
    node.setSize([Math.max(node.size[0], 320, 9 * node.title.length), node.size[1]]);
}"""
SHOW = f"""node => {{
    app.canvas.deselectAll();
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [200 - node.pos[0], 150 - node.pos[1]];
    app.canvas.setDirty(true, true);
    const box = app.canvas.canvas.getBoundingClientRect();
    return {{
        x: box.x + 200 - {MARGIN}, y: box.y + 150 - {TITLE + MARGIN},
        width: node.size[0] + {2 * MARGIN}, height: node.size[1] + {TITLE + 2 * MARGIN},
    }};
}}"""
PLAYS = f"{LIVE}?.player.video.currentTime > 3 && performance.now() - ({LIVE}.player.stalledAt ?? -1e9) > 2500"


@pytest.fixture(scope="module")
def sharp_page(server: Server, launch: Any) -> Iterator[Any]:
    server.post("/settings", SETTINGS)
    browser = launch()
    page = browser.new_page(viewport={"width": 1600, "height": 1200}, device_scale_factor=SHARPNESS)
    open_editor(page, server)
    page.wait_for_timeout(2000)
    yield page
    browser.close()


def shot(page: Any, node: str) -> Image.Image:
    """A picture of a node, which is given as an expression of the page's."""
    clip = page.evaluate(f"({SHOW})({node})")
    page.wait_for_timeout(500)
    return Image.open(io.BytesIO(page.screenshot(clip=clip)))


def save(picture: Image.Image, name: str) -> None:
    assert len(set(picture.convert("L").getdata())) > 2, f"{name}: nothing is drawn there yet; draw it again"
    TARGET.mkdir(exist_ok=True)
    path = TARGET / name
    if path.suffix == ".png":
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    else:
        for quality in QUALITIES:
            picture.convert("RGB").save(path, quality=quality, optimize=True)
            if path.stat().st_size <= MOST_BYTES:
                break
    assert path.stat().st_size <= MOST_BYTES, f"{path.name}: {path.stat().st_size} bytes"


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_draw_node(sharp_page: Any, node_id: str) -> None:
    if node_id in (PLAYER, "KnotForcingLive"):
        pytest.skip("is drawn while it plays")
    sharp_page.evaluate(ADD, node_id)
    sharp_page.wait_for_timeout(500)
    save(shot(sharp_page, "app.graph._nodes.at(-1)"), f"{node_id}.png")


def shown(server: Server, prompt: Json, wire: list[Any]) -> Image.Image:
    """The picture on a wire of a prompt."""
    run = succeed(server, {**prompt, "shown": {"class_type": "PreviewImage", "inputs": {"images": wire}}})
    return Image.open(server.file(run.outputs["shown"]["images"][0])).convert("RGB")


def narrowed(picture: Image.Image, width: int) -> Image.Image:
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def only(node_id: str) -> None:
    if node_id not in NODE_IDS:
        pytest.skip(f"{node_id} is not among those asked for")


SPOKEN = {
    "model": {
        "class_type": "KnotForcingLoadModel",
        "inputs": {
            "model_name": "knot-tiny",
            "codec": "the model's own",
            "dtype": "auto",
            "family": "auto",
            "lora_name": "none",
            "lora_strength": 1.0,
        },
    },
    "speech": {"class_type": "KnotForcingSampleSpeech", "inputs": {"speech": "hello.wav"}},
    "audio": {
        "class_type": "KnotForcingDrivingFromAudio",
        "inputs": {"model": ["model", 0], "audio": ["speech", 0], "pose": "idle", "seed": 3},
    },
}


def test_draw_driving(server: Server) -> None:
    """Speech with idle motion, and a timeline over it."""
    only("KnotForcingDrivingPreview")
    timeline = '{"seconds": 8, "yaw": [[0, 0], [2, 0.5, "out"], [4, -0.4], [6, 0]], "brow": [[1, 0], [2, 0.8], [3, 0]]}'
    prompt = SPOKEN | {
        "timeline": {"class_type": "KnotForcingExpressionTimeline", "inputs": {"timeline": timeline}},
        "both": {"class_type": "KnotForcingCombineDriving", "inputs": {
            "first": ["audio", 0], "second": ["timeline", 0], "mode": "blend", "head": 1.0, "eyes": 1.0,
            "brow": 1.0, "mouth": 0.0, "endless": False}},
        "picture": {"class_type": "KnotForcingDrivingPreview", "inputs": {
            "driving": ["both", 0], "start": 0.0, "seconds": 6.0, "width": 720}},
    }  # fmt: skip
    save(shown(server, prompt, ["picture", 0]), "KnotForcingDrivingPreview_output.png")


def test_draw_stats(server: Server) -> None:
    only("KnotForcingStreamStats")
    prompt = SPOKEN | {
        "portrait": {"class_type": "KnotForcingSamplePortrait", "inputs": {"portrait": "ada.png"}},
        "anchor": {"class_type": "KnotForcingEncodeAnchor", "inputs": {
            "model": ["model", 0], "image": ["portrait", 0], "fit": "crop", "width": 0, "height": 0}},
        "stream": {"class_type": "KnotForcingStream", "inputs": {
            "model": ["model", 0], "anchor": ["anchor", 0], "driving": ["audio", 0], "seed": 1, "seconds": 6.0}},
        "stats": {"class_type": "KnotForcingStreamStats", "inputs": {"stats": ["stream", 3]}},
    }  # fmt: skip
    save(shown(server, prompt, ["stats", 1]), "KnotForcingStreamStats_output.png")


def test_draw_crop(server: Server) -> None:
    """What goes in, and what comes out, side by side."""
    only("KnotForcingPortraitCrop")
    small = np.asarray(Image.open(PORTRAITS / "cleo.png").convert("RGB"))
    beside, above = small.shape[1] * 3 // 5, small.shape[0] * 3 // 10
    wide = Image.fromarray(np.pad(small, ((above, 0), (beside, beside), (0, 0)), "edge"))
    (server.base / "input").mkdir(exist_ok=True)
    wide.save(server.base / "input" / "wide.png")
    prompt = {
        "image": {"class_type": "LoadImage", "inputs": {"image": "wide.png"}},
        "crop": {"class_type": "KnotForcingPortraitCrop", "inputs": {
            "image": ["image", 0], "width": 256, "height": 256, "room": 2.8}},
    }  # fmt: skip
    after, height = shown(server, prompt, ["crop", 0]), 256
    before = narrowed(wide, round(wide.width * height / wide.height))
    sheet = Image.new("RGB", (before.width + 24 + after.width, height), "#353535")
    sheet.paste(before, (0, 0))
    sheet.paste(after, (before.width + 24, 0))
    save(sheet, "KnotForcingPortraitCrop_output.jpg")


def test_draw_live_session(sharp_page: Any) -> None:
    """While it is moved."""
    only("KnotForcingLive")
    path = next(path for path in UI_WORKFLOWS if path.stem == "portrait_live")
    node = "app.graph._nodes.find(node => node.type === 'KnotForcingLive')"
    session = f"{node}.knotForcingSession?.player"
    sharp_page.evaluate("workflow => app.loadGraphData(workflow)", load_json(path))
    sharp_page.evaluate("app.queuePrompt(0, 1)")
    sharp_page.wait_for_function(f"({session}?.player?.playedFrame ?? -1) > 12", timeout=RUN_LIMIT_MS)
    sharp_page.evaluate(f"{session}.interact({{controls: {{yaw: 0.6, mouth_wide: 0.8}}}})")
    sharp_page.wait_for_function(f"{session}.measured.delays.length", timeout=RUN_LIMIT_MS)
    sharp_page.wait_for_timeout(2000)
    save(narrowed(shot(sharp_page, node), 360), "KnotForcingLive.jpg")
    sharp_page.evaluate(f"{session}.finish()")
    sharp_page.wait_for_function(f"!{node}.knotForcingSession", timeout=RUN_LIMIT_MS)


def test_draw_player(sharp_page: Any) -> None:
    """While the stream runs and plays without a stall, as its badge says."""
    only(PLAYER)
    path = next(path for path in UI_WORKFLOWS if path.stem == "portrait_from_audio")
    sharp_page.evaluate("workflow => app.loadGraphData(workflow)", load_json(path))
    sharp_page.evaluate(SET_WIDGETS, {"seed": 5, "seconds": 12.0})
    sharp_page.evaluate("app.queuePrompt(0, 1)")
    sharp_page.wait_for_function(PLAYS, timeout=RUN_LIMIT_MS)
    save(narrowed(shot(sharp_page, NODE), 440), f"{PLAYER}.jpg")
    sharp_page.wait_for_function(f"!{NODE}.knotForcingLive", timeout=RUN_LIMIT_MS)
