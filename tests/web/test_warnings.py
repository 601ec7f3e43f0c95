"""A warning is text on the node that gave it, while the stream runs and after; another run without it takes it away."""

from collections.abc import Iterator

import pytest

from ..host.comfyui import Server
from .editor import RUN_LIMIT_MS, Page, queue, second_page, shot

pytestmark = pytest.mark.host
BUILD = """() => {
    app.graph.clear();
    const kinds = ["EmptyImage", "KnotForcingPortraitCrop", "PreviewImage"];
    const [grey, cut, seen] = kinds.map((kind, place) => {
        const node = LiteGraph.createNode(kind);
        app.graph.add(node);
        node.pos = [60 + 340 * place, 120];
        return node;
    });
    const set = (node, name, value) => { node.widgets.find((widget) => widget.name === name).value = value; };
    set(grey, "width", 128); set(grey, "height", 128); set(grey, "color", 0x808080);
    set(cut, "width", 128); set(cut, "height", 128);
    grey.connect(0, cut, 0);
    cut.connect(0, seen, 0);
}"""
CUT = "app.graph._nodes.find(node => node.type === 'KnotForcingPortraitCrop')"
TEXT = f"{CUT}.knotForcingWarnings?.box"
SEEN = f"(() => {{ const box = {TEXT}?.getBoundingClientRect(); return box?.height > 15 && box.width > 100; }})()"


@pytest.fixture(params=["canvas", "nodes 2.0"])
def editor(page: Page, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    if request.param == "canvas":
        yield page
        return
    with second_page(page, server, "Comfy.VueNodes.Enabled", True, usual=False) as other:
        yield other


WRAP = f"""() => {{
    app.canvas.selectItems([{CUT}]);
    app.graph.convertToSubgraph(new Set([{CUT}]));
}}"""
OUTER = "app.graph._nodes.find(node => node.subgraph)"


def run(page: Page, colour: int) -> None:
    change = "colour => { app.graph._nodes.find(node => node.type === 'EmptyImage').widgets[3].value = colour; }"
    page.evaluate(change, colour)
    queue(page)
    page.wait_for_function("window.ended === 'success'", timeout=RUN_LIMIT_MS)


def test_a_warning_is_seen_on_its_node_and_stays(editor: Page, server: Server) -> None:
    editor.evaluate(BUILD)
    editor.wait_for_timeout(500)
    height = editor.evaluate(f"{CUT}.size[1]")
    for colour in (0x808080, 0x334455):  # the second run begins with the first one's text
        run(editor, colour)
        editor.wait_for_function(SEEN, timeout=10_000)
    shot(editor, f"warning-{editor.evaluate('!!LiteGraph.vueNodesMode')}", server)
    assert "face" in editor.evaluate(f"{TEXT}.textContent")
    assert editor.evaluate(f"{CUT}.widgets.filter(widget => widget.name === 'knot_forcing_warnings').length") == 1
    assert "⚠" not in str(editor.evaluate("app.graph.serialize()")), "stored in no workflow"
    editor.evaluate(f"app.api.dispatchCustomEvent('executing', {CUT}.id)")  # as where a run comes to it
    assert editor.evaluate(f"!({TEXT})")
    if editor.evaluate("!!LiteGraph.vueNodesMode"):  # there the page lays nodes out
        return
    least = editor.evaluate(f"{CUT}.computeSize()[1]")
    assert editor.evaluate(f"{CUT}.size[1]") == pytest.approx(max(height, least), abs=2), "as high as before"


def test_a_warning_from_inside_a_subgraph_is_seen_from_outside(page: Page, server: Server) -> None:
    page.evaluate(BUILD)
    page.evaluate(WRAP)
    page.wait_for_timeout(500)
    run(page, 0x101010)
    page.wait_for_function(f"{OUTER}.knotForcingWarnings?.box.getBoundingClientRect().height > 15", timeout=10_000)
    shot(page, "warning-subgraph", server)
    text = page.evaluate(f"{OUTER}.knotForcingWarnings.box.textContent")
    assert "Portrait Crop: no face" in text, "which of the nodes in it"
