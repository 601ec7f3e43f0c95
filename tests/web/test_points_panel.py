"""Three points in the reference's picture: how they become text, in Node.js; and the node, in a browser."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..host.comfyui import PACK, Server

WEB = PACK / "web"
NODE_JS = shutil.which("node")
needs_node = pytest.mark.skipif(NODE_JS is None, reason="NO NODE.JS: the points' rules are only tested in a browser")
ENCODE = "app.graph._nodes.find(node => node.type === 'KnotForcingEncodeAnchor')"
TEXT = f"{ENCODE}.widgets.find(widget => widget.name === 'points')"
EDITOR = f"{ENCODE}.knotForcingPoints"
# the node grows when its picture opens: its canvas is clicked once it lies still, with nothing over it
LIES_STILL = f"""() => {{
    const {{ canvas, picture, place }} = {EDITOR};
    const box = canvas.getBoundingClientRect();
    const there = JSON.stringify([place.left, place.top, place.scale, place.zoom, box]);
    const still = there === window.placeBefore;
    window.placeBefore = there;
    const middle = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return still && picture.naturalWidth === 400 && box.width > 50 && middle === canvas;
}}"""


def in_node_js(script: str) -> Any:
    """What the script returns; it has `model`, a FacePoints without points."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(WEB / "face_points_model.js", folder)
        Path(folder, "package.json").write_text('{"type": "module"}', encoding="utf-8")
        Path(folder, "main.js").write_text(f"""
            import {{ FacePoints }} from "./face_points_model.js";
            const model = new FacePoints();
            console.log(JSON.stringify((() => {{ {script} }})()));""", encoding="utf-8")  # fmt: skip
        done = subprocess.run([str(NODE_JS), "main.js"], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@needs_node
def test_three_points_are_a_text_and_fewer_are_none():
    told = in_node_js("""const told = [];
        for (const point of [[97.4, 112.2], [159, 112], [128, 178]]) { model.take(point, 5); told.push(model.text); }
        return told;""")
    assert told == ["", "", "97,112 159,112 128,178"]


@needs_node
def test_a_point_that_is_near_is_moved_and_of_three_the_nearest():
    told = in_node_js("""model.take([10, 10], 5); model.take([12, 13], 5);
        const one = model.points.length;
        model.take([60, 10], 5); model.take([35, 50], 5);
        const held = model.take([30, 90], 5);
        return [one, held, model.text];""")
    assert told == [1, 2, "12,13 60,10 30,90"]


@needs_node
@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1,2; 3,4; 5,6", [[1, 2], [3, 4], [5, 6]]),
        (" 1.5,2 3,4  5,6 ", [[1.5, 2], [3, 4], [5, 6]]),
        ("1,2 3,4", []),
        ("a,b c,d e,f", []),
        ("", []),
    ],
)
def test_the_text_is_read_as_the_engine_reads_it(text, points):
    assert in_node_js(f"model.read({json.dumps(text)}); return model.points;") == points


@needs_node
def test_a_text_that_was_emptied_empties_the_picture_but_points_that_are_being_set_stay():
    told = in_node_js("""model.read("1,2 3,4 5,6"); model.read(""); const emptied = model.points.length;
        model.take([9, 9], 1); model.read(""); return [emptied, model.points.length, model.clear()];""")
    assert told == [0, 1, ""]


@pytest.mark.host
def test_points_are_clicked_in_the_picture_that_load_image_shows(page: Any, server: Server) -> None:
    folder = server.base / "input"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (400, 300), (90, 120, 150)).save(folder / "face.png")
    page.evaluate("""() => {
        app.graph.clear();
        const [load, encode] = ["LoadImage", "KnotForcingEncodeAnchor"].map((kind, place) => {
            const node = LiteGraph.createNode(kind);
            node.pos = [60 + 420 * place, 80];
            app.graph.add(node);
            return node;
        });
        load.widgets.find(widget => widget.name === "image").value = "face.png";
        load.connect(0, encode, encode.inputs.findIndex(input => input.name === "image"));
        app.canvas.ds.scale = 1;
        app.canvas.ds.offset = [0, 0];
        app.canvas.setDirty(true, true);
    }""")
    page.wait_for_timeout(500)
    page.evaluate(f"{EDITOR}.toggle(true)")
    page.wait_for_function(LIES_STILL, polling=500)
    for x, y in ((120, 100), (220, 100), (170, 200)):
        place = page.evaluate(f"""() => {{
            const {{ scale, zoom, box, left, top }} = {EDITOR}.place;
            return [box.left + zoom * (left + {x} / scale), box.top + zoom * (top + {y} / scale)];
        }}""")
        page.mouse.click(*place)
    found = [[float(number) for number in point.split(",")] for point in page.evaluate(f"{TEXT}.value").split()]
    assert len(found) == 3
    for (x, y), (wanted_x, wanted_y) in zip(found, ((120, 100), (220, 100), (170, 200)), strict=True):
        assert abs(x - wanted_x) <= 3
        assert abs(y - wanted_y) <= 3
    page.evaluate(f"{EDITOR}.clear.click()")
    assert not page.evaluate(f"{TEXT}.value")
