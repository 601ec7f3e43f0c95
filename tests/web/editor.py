"""ComfyUI's editor, as the browser tests reach into it: scripts that run in the page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..host.comfyui import Server
from ..host.conftest import UI_WORKFLOWS, load_json

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
STATE = r"""() => app.graph._nodes.map(node => ({
    id: node.id, type: node.type, errors: !!node.has_errors,
    known: node.type in LiteGraph.registered_node_types,
    downloads: (node.widgets ?? []).some(widget => /\.(safetensors|pt|pth)$/.test(widget.value)),
}))"""
NODE = "app.graph._nodes.find(node => node.type === 'KnotForcingStreamToVideo')"
LIVE = f"{NODE}.knotForcingLive"
VIDEO = "document.querySelector('video')"
SET_WIDGETS = f"""values => {{
    for (const widget of {NODE}.widgets) if (widget.name in values) widget.value = values[widget.name];
}}"""
# of every node: {type: {widget: value}}
SET_VALUES = """values => {
    for (const node of app.graph._nodes)
        for (const [name, value] of Object.entries(values[node.type] ?? {}))
            node.widgets.find(widget => widget.name === name).value = value;
}"""
# how the next run ends, into window.ended; which nodes have had a player for which stream meanwhile, and which of them
# took in some of it, into window.streams and window.played
FOLLOW = """() => {
    window.ended = null;
    window.streams = {};
    window.played = {};
    const count = ({detail}) => {
        const live = app.graph.getNodeById(Number(detail.node))?.knotForcingLive;
        const player = live?.player;
        if (live?.stream === detail.stream) window.streams[detail.node] = detail.stream;
        if (player?.feed.fetched > 0) window.played[detail.node] = detail.stream;
    };
    app.api.removeEventListener("knot_forcing.live", window.counting);
    app.api.addEventListener("knot_forcing.live", window.counting = count);
    for (const kind of ["success", "error", "interrupted"])
        app.api.addEventListener(`execution_${kind}`, () => { window.ended ??= kind; }, {once: true});
}"""
USUAL_SCREEN = {"width": 1920, "height": 1080}
RUN_LIMIT_MS = 180_000  # a run here takes seconds
OPEN_LIMIT_MS = 300_000  # seconds on an idle machine, minutes on a busy one
CLICK_LIMIT_MS = 120_000  # until what was clicked answers: on a busy machine the editor's animations take long
QUICKLY = {"KnotForcingSettings": {"steps": 1}}  # wherever a workflow has that node
Page = Any  # of Playwright, which may not be installed


@contextmanager
def second_page(page: Page, server: Server, setting: str, value: object, usual: object) -> Iterator[Page]:
    """A page of the same browser, under another setting of the server's; its console errors are not checked."""
    server.post("/settings", {setting: value})
    try:
        other = page.context.browser.new_page(viewport=USUAL_SCREEN)
        open_editor(other, server)
        other.wait_for_timeout(1000)
        yield other
        other.close()
    finally:
        server.post("/settings", {setting: usual})


def open_editor(page: Page, server: Server) -> None:
    """The editor in that page, loaded; what the page waits for afterwards may come late on a busy machine."""
    page.set_default_timeout(CLICK_LIMIT_MS)
    page.goto(f"http://127.0.0.1:{server.port}/", timeout=OPEN_LIMIT_MS)
    page.wait_for_function(READY, timeout=OPEN_LIMIT_MS)


def workflow(name: str) -> dict[str, Any]:
    return load_json(next(path for path in UI_WORKFLOWS if path.stem == name))


def load(page: Page, name: str, **stream: object) -> None:
    """A shipped workflow, with one step a chunk where it has settings, and these values of its Stream to Video."""
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow(name))
    page.wait_for_timeout(500)
    page.evaluate(SET_VALUES, QUICKLY | {"KnotForcingStreamToVideo": stream})


def drop(page: Page, path: Path) -> None:
    page.evaluate("app.graph.clear()")
    page.evaluate(DROP, [path.read_text(encoding="utf-8"), path.name])
    page.wait_for_function(f"app.graph._nodes.length === {len(load_json(path)['nodes'])}", timeout=20_000)
    page.wait_for_timeout(1000)


def open_templates(page: Page, server: Server) -> Page:
    """The template browser, at the pack's own list."""
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(server.pack.name, exact=True).first.click(timeout=CLICK_LIMIT_MS)
    return page


def queue(page: Page) -> None:
    page.evaluate(FOLLOW)
    page.evaluate("app.queuePrompt(0, 1)")


def stop(page: Page) -> None:
    page.evaluate("app.api.interrupt()")
    page.wait_for_function("window.ended", timeout=RUN_LIMIT_MS)
    assert page.evaluate("window.ended") == "interrupted"


def shot(page: Page, name: str, server: Server) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}-{server.host.name}.png")
