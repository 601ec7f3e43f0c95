"""The curves of Expression Timeline in ComfyUI's editor: drawn from the text, and the text from them."""

import json
from typing import Any

import pytest

from ..host.comfyui import Server
from .editor import Page, load, shot, workflow
from .test_timeline import ANSWERS, GRID, REFUSED, assert_same

pytestmark = pytest.mark.host

TYPE = "KnotForcingExpressionTimeline"
FIND = f"""app.graph._nodes.flatMap(node => [node, ...(node.subgraph?.nodes ?? [])])
    .find(node => node.type === '{TYPE}')"""
EDITOR = f"{FIND}.knotForcingCurves.editor"
WIDGETS = f"{FIND}.widgets.map(widget => widget.name)"
TEXT = f"{FIND}.widgets.find(widget => widget.name === 'timeline')"
SHIPPED = next(node for node in workflow("portrait_directed")["nodes"] if node["type"] == TYPE)["widgets_values"][0]
SIMPLE = '{\n  "seconds": 4,\n  "yaw": [[0, 0], [2, 0.5, "out"], [4, 0]]\n}'
CENTRE = f"""() => {{
    const node = {FIND};
    app.canvas.ds.scale = 1;
    app.canvas.centerOnNode(node);
    app.canvas.setDirty(true, true);
}}"""
INTO_SUBGRAPH = f"""() => {{
    const node = {FIND};
    return !!app.graph.convertToSubgraph?.(new Set([node]));
}}"""


@pytest.fixture
def curves(page: Page) -> Page:
    """A page with the directed portrait, its timeline in the middle."""
    load(page, "portrait_directed")
    show(page)
    page.locator(".knot-forcing-curves button[name=yaw]").click()  # it remembers what an earlier test chose
    return page


def show(page: Page) -> None:
    page.wait_for_function(f"!!({FIND})", timeout=20_000)
    page.evaluate(CENTRE)
    page.wait_for_function(f"{EDITOR}.width > 0 && {EDITOR}.canvas.isConnected", timeout=20_000)
    page.wait_for_timeout(300)


def write(page: Page, text: str) -> None:
    """As another extension, or a loaded workflow, would."""
    page.evaluate(f"text => {{ {TEXT}.value = text; }}", text)
    page.wait_for_function(f"text => {EDITOR}.model.text === text", arg=text, timeout=5_000)
    page.wait_for_timeout(50)


def read(page: Page) -> Any:
    return json.loads(page.evaluate(f"{TEXT}.value"))


def at(page: Page, seconds: float, value: float) -> tuple[float, float]:
    """Where that lies on the screen."""
    x, y = page.evaluate(f"""([seconds, value]) => {{
        const box = {EDITOR}.canvas.getBoundingClientRect();
        const plot = {EDITOR}.plot();
        return [box.x + plot.x(seconds) * box.width / plot.width, box.y + plot.y(value) * box.height / plot.height];
    }}""", [seconds, value])  # fmt: skip
    return x, y


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=6)
    page.mouse.up()


def test_the_shipped_timeline_is_drawn_and_untouched(curves: Page, server: Server) -> None:
    shot(curves, "curves", server)
    assert curves.evaluate(f"{TEXT}.value") == SHIPPED
    assert curves.evaluate(f"{EDITOR}.model.problem") is None
    assert curves.locator(".knot-forcing-curves .given").count() == len(set(json.loads(SHIPPED)) - {"seconds", "loop"})


def test_keys_are_added_moved_and_removed(curves: Page, server: Server) -> None:
    write(curves, SIMPLE)
    curves.mouse.dblclick(*at(curves, 3, -0.5))
    keys = read(curves)["yaw"]
    assert [key[0] for key in keys] == [0, 2, pytest.approx(3, abs=0.05), 4]
    assert keys[2][1:] == [pytest.approx(-0.5, abs=0.05), "out"], "it goes on as the key before it"
    drag(curves, (2, 0.5), (2.4, 0.8))
    moved = read(curves)["yaw"][1]
    assert moved == [pytest.approx(2.4, abs=0.05), pytest.approx(0.8, abs=0.05), "out"]
    assert moved[0] * 25 == pytest.approx(round(moved[0] * 25)), "on a pixel frame"
    drag(curves, tuple(moved[:2]), (3.9, 3))
    assert read(curves)["yaw"][1][:2] == [pytest.approx(keys[2][0] - 0.04), 1], "not past its neighbour, nor its range"
    curves.keyboard.press("ArrowDown")
    assert read(curves)["yaw"][1][1] == 0.95
    shot(curves, "curves-edited", server)
    curves.keyboard.press("Delete")
    assert [key[0] for key in read(curves)["yaw"]] == [0, keys[2][0], 4]
    assert curves.evaluate(f"!!{FIND}"), "the key was removed, not the node"
    curves.mouse.click(*at(curves, 4, 0), button="right")
    assert [key[0] for key in read(curves)["yaw"]] == [0, keys[2][0]]


def test_ease_length_and_loop_are_chosen(curves: Page) -> None:
    write(curves, SIMPLE)
    panel = curves.locator(".knot-forcing-curves")
    curves.mouse.click(*at(curves, 2, 0.5))
    panel.locator("select").select_option("hold")
    assert read(curves)["yaw"][1] == [2, 0.5, "hold"]
    panel.locator("select").select_option("in-out")
    assert read(curves)["yaw"][1] == [2, 0.5]
    panel.get_by_title("Value of the key").fill("-0.25")
    panel.get_by_title("Value of the key").press("Enter")
    assert read(curves)["yaw"][1] == [2, -0.25]
    panel.get_by_title("Seconds of the timeline").fill("6")
    panel.get_by_title("Seconds of the timeline").press("Enter")
    panel.locator("input[type=checkbox]").check()
    assert list(read(curves).items())[:2] == [("seconds", 6), ("loop", True)]
    panel.get_by_title("Seconds of the timeline").fill("")
    panel.get_by_title("Seconds of the timeline").press("Enter")
    assert "seconds" not in read(curves)


def test_every_control_has_its_curve(curves: Page, server: Server) -> None:
    write(curves, "")
    for name, low in {"yaw": -1, "pitch": -1, "roll": -1, "blink": 0, "gaze": -1, "mouth_open": 0, "mouth_wide": -1,
                      "brow": -1}.items():  # fmt: skip
        curves.locator(f".knot-forcing-curves button[name={name}]").click()
        curves.mouse.dblclick(*at(curves, 1, low))
        curves.mouse.dblclick(*at(curves, 3, 1))
        found = read(curves)[name]
        assert [key[1] for key in found] == [low, 1]
        assert [key[0] for key in found] == [pytest.approx(1, abs=0.05), pytest.approx(3, abs=0.1)]
    shot(curves, "curves-all", server)


def test_typed_text_shows_at_once_and_a_mistake_is_said_and_left(curves: Page, server: Server) -> None:
    wanted = '{"gaze": [[0, 0], [1, 0.5]]}'
    box = next(area for area in curves.locator("textarea").all() if area.input_value() == SHIPPED)
    box.fill(wanted)
    curves.wait_for_function(f"{EDITOR}.model.timeline.gaze?.length === 2", timeout=5_000)
    for wrong in ('{"gaze": [[0, 0], [1, 0.5]]', '{"gaze": [[0, 0], [1, 5]]}', '{"gaze": [[0, 0]], "gaze": [[1, 0]]}'):
        box.fill(wrong)
        curves.wait_for_function(f"!!{EDITOR}.model.problem", timeout=5_000)
        assert curves.locator(".knot-forcing-curves .message").is_visible()
        curves.mouse.dblclick(*at(curves, 2, 0))
        curves.mouse.click(*at(curves, 0, 0), button="right")
        assert curves.evaluate(f"{TEXT}.value") == wrong
    shot(curves, "curves-mistake", server)


def test_an_edit_is_undone_by_one_undo(curves: Page) -> None:
    write(curves, SIMPLE)
    curves.mouse.click(5, 500)  # the editor notices the text that was set
    drag(curves, (2, 0.5), (2.4, 0.8))
    curves.wait_for_timeout(300)
    assert read(curves)["yaw"][1][0] == pytest.approx(2.4, abs=0.05)
    curves.keyboard.press("Control+z")
    curves.wait_for_function(f"text => {FIND} && {TEXT}.value === text", arg=SIMPLE, timeout=10_000)


def test_curves_are_not_stored_and_come_back_in_a_subgraph(curves: Page, server: Server) -> None:
    write(curves, SIMPLE)
    stored = curves.evaluate(f"{FIND}.serialize()")
    assert stored["widgets_values"] == [SIMPLE]
    prompt = curves.evaluate("async () => (await app.graphToPrompt()).output")
    assert next(node for node in prompt.values() if node["class_type"] == TYPE)["inputs"] == {"timeline": SIMPLE}
    if not curves.evaluate(INTO_SUBGRAPH):
        pytest.skip("THIS EDITOR MAKES NO SUBGRAPH BY CALL: the curves inside one are not tested")
    whole = curves.evaluate("JSON.stringify(app.graph.serialize())")  # as a file holds it
    curves.evaluate("text => app.loadGraphData(JSON.parse(text))", whole)
    curves.evaluate("""() => {
        const outer = app.graph._nodes.find(node => node.subgraph);
        app.canvas.openSubgraph(outer.subgraph, outer);
    }""")  # fmt: skip
    curves.wait_for_timeout(500)
    show(curves)
    curves.mouse.dblclick(*at(curves, 3, -0.5))
    assert len(read(curves)["yaw"]) == 4
    shot(curves, "curves-subgraph", server)
    inner = curves.evaluate(f"{FIND}.serialize().widgets_values")
    assert [len(json.loads(text)["yaw"]) for text in inner] == [4]
    curves.evaluate("app.canvas.setGraph(app.graph)")


def test_a_text_that_comes_over_a_cable_has_no_curves_here(curves: Page) -> None:
    cable = f"{FIND}.inputs.findIndex(input => input.widget?.name === 'timeline')"
    curves.evaluate(f"""() => {{
        const source = LiteGraph.createNode('PrimitiveStringMultiline');
        app.graph.add(source);
        source.connect(0, {FIND}, {cable});
    }}""")  # fmt: skip
    curves.wait_for_function(f"{EDITOR}.model.problem?.includes('cable')", timeout=5_000)
    curves.evaluate(f"() => {{ {FIND}.disconnectInput({cable}); }}")
    curves.wait_for_function(f"{EDITOR}.model.problem === null && {EDITOR}.model.keys.length", timeout=5_000)
    assert curves.evaluate(f"{TEXT}.value") == SHIPPED


def test_curves_that_fail_leave_the_text(curves: Page) -> None:
    said: list[str] = []
    curves.on("console", lambda message: said.append(message.text) if message.type == "warning" else None)
    curves.evaluate(f"() => {{ {EDITOR}.canvas.getContext = () => null; }}")
    write_only = '{"roll": [[0, 1]]}'
    curves.evaluate(f"text => {{ {TEXT}.value = text; }}", write_only)
    curves.wait_for_function(f"!{WIDGETS}.includes('knot_forcing_curves')", timeout=10_000)
    assert curves.evaluate(f"{TEXT}.value") == write_only
    assert [text for text in said if "Knot Forcing: no curves" in text]
    curves.evaluate("""() => {
        const ours = app.extensions.find(each => each.name === 'KnotForcing.ExpressionTimeline');
        ours.nodeCreated({comfyClass: 'KnotForcingExpressionTimeline', widgets: []});
    }""")  # fmt: skip
    curves.wait_for_timeout(100)
    assert len([text for text in said if "Knot Forcing: no curves" in text]) == 2


def test_the_browser_eases_and_refuses_as_the_node(page: Page) -> None:
    ask = f"async cases => ({ANSWERS})(await import('/extensions/knot-forcing/timeline.js'), cases)"
    assert_same([*GRID, *REFUSED], lambda cases: page.evaluate(ask, cases))
