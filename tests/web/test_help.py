"""Help pages and translations as the editor shows them."""

from collections.abc import Iterator

import pytest

from ..host.comfyui import PACK, Server
from ..host.conftest import load_json
from .editor import Page, second_page, shot

pytestmark = pytest.mark.host

HELP = ".node-help-content"
PICTURE = f"document.querySelector('{HELP} img')"
BUTTON = "[data-testid=info-button]"
# Until it is there and selected: an editor that has just been opened may still put its first workflow over ours.
SHOWN = f"""name => {{
    const [node] = app.graph._nodes;
    if (node?.type === name) {{
        app.canvas.selectItems([node]);
        return !!document.querySelector("{BUTTON}");
    }}
    app.graph.clear();
    const made = LiteGraph.createNode(name);
    app.graph.add(made);
    made.pos = [0, 0];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [700, 300];
}}"""
LABELS = "app.graph._nodes[0].widgets.map(widget => widget.label)"


def open_help(page: Page, node_id: str) -> str:
    """Its text; the picture at its top has been loaded."""
    page.wait_for_function(SHOWN, arg=node_id, polling=1000, timeout=60_000)
    page.locator(BUTTON).click()
    page.wait_for_function(f"{PICTURE}?.complete && {PICTURE}.src.includes('/{node_id}.')", timeout=20_000)
    return page.locator(HELP).inner_text()


@pytest.fixture(params=["en"])
def reader(request: pytest.FixtureRequest, page: Page, server: Server) -> Iterator[Page]:
    """A page in a language.

    It is not the page that is watched for complaints: the editor asks for a page in the reader's language first, and
    notes that there is none.
    """
    with second_page(page, server, "Comfy.Locale", request.param, usual="en") as other:
        yield other


def test_help_panel_shows_pages_with_their_pictures(reader: Page, server: Server) -> None:
    texts = load_json(PACK / "locales/en/nodeDefs.json")
    for node_id in ("KnotForcingLoadModel", "KnotForcingStreamToVideo", "KnotForcingDrivingPreview"):
        said = open_help(reader, node_id)
        assert reader.evaluate(f"{PICTURE}.naturalWidth") > 100
        assert texts[node_id]["display_name"] in said
        assert "![" not in said
        shot(reader, f"help-{node_id}", server)


@pytest.mark.parametrize("reader", ["zh"], indirect=True)
def test_the_editor_speaks_chinese(reader: Page, server: Server) -> None:
    node_id = "KnotForcingLoadModel"
    said, texts = open_help(reader, node_id), load_json(PACK / "locales/zh/nodeDefs.json")[node_id]
    assert texts["display_name"] in said
    assert "编解码器" in said
    assert reader.evaluate(f"{PICTURE}.naturalWidth") > 100
    labels = set(reader.evaluate(LABELS))
    assert labels
    assert labels <= {given["name"] for given in texts["inputs"].values()}
    assert reader.evaluate("app.graph._nodes[0].title") == texts["display_name"]
    shot(reader, "help-chinese", server)
    assert "把状态写入一个 safetensors 文件" in open_help(reader, "KnotForcingSaveState")
    shot(reader, "help-chinese-state", server)
