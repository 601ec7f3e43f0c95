import { app } from "../../scripts/app.js";

// Left to itself the editor shows live stills in place of the results for as long as it has any, and on the next run
// takes them for videos. So this node forgets what it showed when a run starts, and its stills when the video is there.

const SHOWN_BY = ["video-preview", "$$comfy_animation_preview", "$$canvas-image-preview"]; // widgets of the editor

function forgetShown(node) {
    for (const widget of (node.widgets ?? []).filter((widget) => SHOWN_BY.includes(widget.name))) {
        widget.onRemove?.();
        node.widgets.splice(node.widgets.indexOf(widget), 1);
    }
    for (const field of ["imgs", "images", "preview", "animatedImages", "previewMediaType", "videoContainer"]) {
        node[field] = undefined;
    }
    delete app.nodePreviewImages[keyOf(node)];
}

// The editor keeps what nodes show by id; inside a subgraph the subgraph's id stands before it.
function keyOf(node) {
    const inside = node.graph && node.graph !== app.graph && !node.graph.isRootGraph;
    return inside ? `${node.graph.id}:${node.id}` : String(node.id);
}

function before(node, method, action) {
    const original = node[method];
    node[method] = function (...values) {
        action(this);
        return original?.apply(this, values);
    };
}

app.registerExtension({
    name: "KnotForcing.StreamToVideo",
    nodeCreated(node) {
        if (node.comfyClass !== "KnotForcingStreamToVideo") return;
        before(node, "onExecuted", forgetShown);
        before(node, "onExecutionStart", (started) => {
            forgetShown(started);
            delete app.nodeOutputs[keyOf(started)];
        });
    },
});
