"""Three points in the reference's picture: how they become text, in Node.js; and the node, in a browser."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ..host.comfyui import PACK, Server

PAGE = PACK / "knot_live" / "page"
NODE_JS = shutil.which("node")
needs_node = pytest.mark.skipif(NODE_JS is None, reason="NO NODE.JS: the points' rules are only tested in a browser")
ENCODE = "app.graph._nodes.find(node => node.type === 'KnotForcingEncodeAnchor')"
TEXT = f"{ENCODE}.widgets.find(widget => widget.name === 'points')"
EDITOR = f"{ENCODE}.knotForcingPoints"
# the node grows when its picture opens: its canvas is clicked once it lies still, with nothing over it
LIES_STILL = f"""width => {{
    const {{ canvas, picture, place }} = {EDITOR};
    const box = canvas.getBoundingClientRect();
    const there = JSON.stringify([place.left, place.top, place.scale, place.zoom, box]);
    const still = there === window.placeBefore;
    window.placeBefore = there;
    const middle = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return still && picture.naturalWidth === width && box.width > 50 && middle === canvas;
}}"""


def in_node_js(script: str) -> Any:
    """What the script returns; it has `model`, a FacePoints without points, and `view`, a PictureView of all of it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(PAGE / "face_points_model.js", folder)
        Path(folder, "package.json").write_text('{"type": "module"}', encoding="utf-8")
        Path(folder, "main.js").write_text(f"""
            import {{ FacePoints, PictureView }} from "./face_points_model.js";
            const model = new FacePoints(), view = new PictureView();
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


@needs_node
def test_a_picture_is_enlarged_around_the_pointer_and_its_edges_stay_outside():
    told = in_node_js("""const picture = [4000, 3000], box = [340, 180], eye = [1234, 567];
        const at = () => { const { scale, left, top } = view.place(picture, box);
                           return [left + eye[0] / scale, top + eye[1] / scale]; };
        const before = at();
        const zooms = [8, 1 / 4, 100, 2].map(factor => view.enlarge(eye, factor, picture, box));
        const after = at(), { scale } = view.place(picture, box);
        view.whole(); view.enlarge([0, 0], 8, picture, box);
        const corner = view.place(picture, box);
        view.enlarge([0, 0], 1 / 100, picture, box);
        return { before, after, zooms, scale, corner, whole: view.place(picture, box) };""")
    assert told["after"] == pytest.approx(told["before"])
    assert told["zooms"] == [True, True, True, False]
    assert told["scale"] == pytest.approx(3000 / 180 / 32)
    assert told["corner"]["left"] == told["corner"]["top"] == 0
    assert told["whole"] == pytest.approx({"scale": 3000 / 180, "left": 50, "top": 0})


def open_picture(page: Any, server: Server, name: str, size: tuple[int, int]) -> None:
    """Load Image with a picture of that size, and the node, whose panel is open."""
    folder = server.base / "input"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, (90, 120, 150)).save(folder / name)
    page.evaluate(
        """name => {
        app.graph.clear();
        const [load, encode] = ["LoadImage", "KnotForcingEncodeAnchor"].map((kind, place) => {
            const node = LiteGraph.createNode(kind);
            node.pos = [60 + 420 * place, 80];
            app.graph.add(node);
            return node;
        });
        load.widgets.find(widget => widget.name === "image").value = name;
        load.connect(0, encode, encode.inputs.findIndex(input => input.name === "image"));
        app.canvas.ds.scale = 1;
        app.canvas.ds.offset = [0, 0];
        app.canvas.setDirty(true, true);
    }""",
        name,
    )
    page.wait_for_timeout(500)
    page.evaluate(f"{EDITOR}.toggle(true)")
    page.wait_for_function(LIES_STILL, arg=size[0], polling=500)


def place_of(page: Any, x: float, y: float) -> list[float]:
    """Where a point of the picture lies in the page."""
    return page.evaluate(f"""([x, y]) => {{
        const {{ scale, zoom, box, left, top }} = {EDITOR}.place;
        return [box.left + zoom * (left + x / scale), box.top + zoom * (top + y / scale)];
    }}""", [x, y])  # fmt: skip


@pytest.mark.host
def test_a_new_node_has_room_for_the_whole_button(page: Any) -> None:
    page.evaluate("""() => {
        app.graph.clear();
        const node = LiteGraph.createNode("KnotForcingEncodeAnchor");
        node.pos = [480, 80];
        app.graph.add(node);
        app.canvas.ds.scale = 1;
        app.canvas.ds.offset = [0, 0];
        app.canvas.setDirty(true, true);
    }""")
    page.wait_for_function(f"{EDITOR}.button.getBoundingClientRect().height > 20")
    bottoms = f"[{EDITOR}.button, {EDITOR}.element].map(part => part.getBoundingClientRect().bottom)"
    button, panel = page.evaluate(bottoms)
    assert button <= panel + 0.5


@pytest.mark.host
def test_points_are_clicked_in_the_picture_that_load_image_shows(page: Any, server: Server) -> None:
    open_picture(page, server, "face.png", (400, 300))
    for x, y in ((120, 100), (220, 100), (170, 200)):
        page.mouse.click(*place_of(page, x, y))
    found = [[float(number) for number in point.split(",")] for point in page.evaluate(f"{TEXT}.value").split()]
    assert len(found) == 3
    for (x, y), (wanted_x, wanted_y) in zip(found, ((120, 100), (220, 100), (170, 200)), strict=True):
        assert abs(x - wanted_x) <= 3
        assert abs(y - wanted_y) <= 3
    page.evaluate(f"{EDITOR}.clear.click()")
    assert not page.evaluate(f"{TEXT}.value")


def click_a_small_face(page: Any, server: Server) -> None:
    """Eyes ten pixels from one another, in a photo that is shown at a tenth of its size."""
    given = [[1500, 1000], [1510, 1000], [1505, 1012]]
    open_picture(page, server, "small_face.png", (3000, 2000))
    page.mouse.move(*place_of(page, *given[0]))
    for _ in range(12):
        page.mouse.wheel(0, -100)
    page.wait_for_function(f"{EDITOR}.place.scale < 1")
    assert page.evaluate("app.canvas.ds.scale") == 1, "the graph is not zoomed with it"
    for point in given:
        page.mouse.click(*place_of(page, *point))
    found = [[float(number) for number in point.split(",")] for point in page.evaluate(f"{TEXT}.value").split()]
    assert np.abs(np.subtract(found, given)).max() <= 1


@pytest.mark.host
def test_the_eyes_of_a_small_face_are_clicked_in_the_enlarged_picture(page: Any, server: Server) -> None:
    click_a_small_face(page, server)
