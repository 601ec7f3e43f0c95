// What a node shows of its results, which a player in it takes the place of while it plays.

import { forgetStills } from "./editor_graph.js";

const SHOWN_BY = ["video-preview", "$$comfy_animation_preview", "$$canvas-image-preview"]; // widgets of the editor

export function forgetShown(node) {
    for (const widget of (node.widgets ?? []).filter((widget) => SHOWN_BY.includes(widget.name))) {
        widget.onRemove?.();
        node.widgets.splice(node.widgets.indexOf(widget), 1);
    }
    for (const field of ["imgs", "images", "preview", "animatedImages", "previewMediaType", "videoContainer"]) {
        node[field] = undefined;
    }
    forgetStills(node);
}

export function before(node, method, action) {
    const original = node[method];
    node[method] = function (...values) {
        action(this);
        return original?.apply(this, values);
    };
}

// Stills are drawn on the node's background; while the player is there it draws none, and keeps none that the editor
// was still loading when the player came.
export function quiet(node) {
    forgetShown(node);
    node.onDrawBackground = () => {};
    Object.defineProperty(node, "imgs", { configurable: true, get: () => undefined, set: () => {} });
}

export function loud(node) {
    delete node.onDrawBackground; // the editor's own, of the node's class
    delete node.imgs;
}

export function shownVideo(node) {
    return node.videoContainer?.querySelector?.("video")
        ?? document.querySelector(`[data-node-id="${node.id}"] .video-preview video`);
}
