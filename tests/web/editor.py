"""ComfyUI's editor, as the browser tests reach into it: scripts that run in the page."""

import os
import shutil

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
STATE = """() => app.graph._nodes.map(node => ({
    id: node.id, type: node.type, missing: !!node.has_errors,
    known: node.type in LiteGraph.registered_node_types,
}))"""
NODE = "app.graph._nodes.find(node => node.type === 'KnotForcingStreamToVideo')"
VIDEO = "document.querySelector('video')"
SET_WIDGETS = f"""values => {{
    for (const widget of {NODE}.widgets) if (widget.name in values) widget.value = values[widget.name];
}}"""
RUN_LIMIT_MS = 600_000
