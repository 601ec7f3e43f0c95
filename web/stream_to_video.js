import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { LivePlayer } from "./live_player.js";

// Left to itself the editor shows live stills in place of the results for as long as it has any, and on the next run
// takes them for videos. So this node forgets what it showed when it runs, and its stills when the video is there.
// While chunks come, a player shows them; stills are the fallback where it cannot.

const NODE = "KnotForcingStreamToVideo";
const EVENT = "knot_forcing.live";
const WIDGET = "knot_forcing_live";
const SHOWN_BY = ["video-preview", "$$comfy_animation_preview", "$$canvas-image-preview"]; // widgets of the editor
const PLAYER_HEIGHT = 240; // pixels
const HAND_OVER_TRIES = 50; // a tenth of a second each

function forgetShown(node) {
    for (const widget of (node.widgets ?? []).filter((widget) => SHOWN_BY.includes(widget.name))) {
        widget.onRemove?.();
        node.widgets.splice(node.widgets.indexOf(widget), 1);
    }
    for (const field of ["imgs", "images", "preview", "animatedImages", "previewMediaType", "videoContainer"]) {
        node[field] = undefined;
    }
    forgetStills(keyOf(node));
}

// Where nodes are part of the page (Nodes 2.0) it shows what the editor's store has, which does not see them gone from
// app.nodePreviewImages; and while there are stills there, the page takes them for the finished video.
function forgetStills(key) {
    const stores = document.querySelector("#vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s;
    stores?.get?.("nodeOutput")?.revokePreviewsByLocatorId?.(key);
    delete app.nodePreviewImages[key];
}

// The editor keeps what nodes show by id; inside a subgraph the subgraph's id stands before it.
function keyOf(node) {
    const inside = node.graph && node.graph !== app.graph && !node.graph.isRootGraph;
    return inside ? `${node.graph.id}:${node.id}` : String(node.id);
}

// Nothing while the page is loading; asked then, rootGraph complains.
function outermost() {
    return app.graph && (app.rootGraph ?? app.graph);
}

// Of an executed node's id: "12:7" is node 7 inside the subgraph of node 12.
function nodeOf(id) {
    let graph = outermost();
    let node = null;
    for (const part of String(id).split(":")) {
        node = graph?.getNodeById?.(/^\d+$/.test(part) ? Number(part) : part) ?? null;
        graph = node?.subgraph;
    }
    return node;
}

function before(node, method, action) {
    const original = node[method];
    node[method] = function (...values) {
        action(this);
        return original?.apply(this, values);
    };
}

function viewUrl({ filename, subfolder, type }) {
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

// Stills are drawn on the node's background; while the player is there it draws none, and keeps none that the editor
// was still loading when the player came.
function quiet(node) {
    forgetShown(node);
    node.onDrawBackground = () => {};
    Object.defineProperty(node, "imgs", { configurable: true, get: () => undefined, set: () => {} });
}

// Else stills are all that shows: inside a subgraph that nobody looks into, on the subgraph's node; and where nodes are
// part of a page that does not show widgets that come later (0.8.0).
function isSeen(node) {
    if (app.canvas?.graph && app.canvas.graph !== node.graph) return false;
    const { element } = node.knotForcingLive.player;
    return !globalThis.LiteGraph?.vueNodesMode || element.getBoundingClientRect().height > 0;
}

function showPlayer(node, event) {
    removePlayer(node);
    const player = new LivePlayer({ viewUrl, onFail: () => {
        node.knotForcingFailed = event.stream; // its stills are shown from here on
        removePlayer(node);
    } });
    const widget = node.addDOMWidget(WIDGET, WIDGET, player.element, {
        serialize: false, hideOnZoom: false, getMinHeight: () => PLAYER_HEIGHT, getMaxHeight: () => 4 * PLAYER_HEIGHT,
    });
    widget.serialize = false; // nor in the workflow
    node.knotForcingLive = { player, widget, stream: event.stream, prompt: event.prompt_id };
    node.setSize?.([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.setDirtyCanvas?.(true, true);
}

function removePlayer(node) {
    const live = node.knotForcingLive;
    if (!live) return;
    node.knotForcingLive = undefined;
    delete node.onDrawBackground; // the editor's own, of the node's class
    delete node.imgs;
    live.player.remove();
    live.widget.onRemove?.();
    const place = node.widgets.indexOf(live.widget);
    if (place >= 0) node.widgets.splice(place, 1);
    node.setDirtyCanvas?.(true, true);
}

// The finished video goes on where the player stands, with its sound on or off.
function handOver(node) {
    const video = node.knotForcingLive?.player.video;
    if (!video) return;
    const { currentTime, muted } = video;
    removePlayer(node);
    let tries = 0;
    const waiting = setInterval(() => {
        const next = node.videoContainer?.querySelector?.("video");
        if (next?.readyState >= 1) {
            next.currentTime = Math.min(currentTime, next.duration || 0);
            next.muted = muted;
        }
        if (next?.readyState >= 1 || ++tries >= HAND_OVER_TRIES) clearInterval(waiting);
    }, 100);
}

// Not at a prompt's start, of which every node is told: it may be another graph's, or leave this node out.
function onExecuting({ detail }) {
    const node = nodeOf(detail);
    if (node?.comfyClass !== NODE) return;
    removePlayer(node);
    forgetShown(node);
    delete app.nodeOutputs[keyOf(node)];
}

function onLive({ detail }) {
    const node = nodeOf(detail.node);
    if (node?.comfyClass !== NODE) return;
    if (detail.ended) {
        if (node.knotForcingLive?.stream === detail.stream) node.knotForcingLive.player.end(detail.finished);
        return;
    }
    if (node.knotForcingLive?.stream !== detail.stream) {
        if (node.knotForcingFailed === detail.stream) return;
        showPlayer(node, detail);
    }
    if (isSeen(node)) quiet(node);
    node.knotForcingLive.player.add(detail);
}

// Should the stream's own word of its end be lost.
function onStopped({ detail }) {
    for (const live of allLive(outermost())) {
        if (live.prompt === detail?.prompt_id && !live.player.ended) live.player.end(false);
    }
}

function* allLive(graph) {
    for (const node of graph?.nodes ?? graph?._nodes ?? []) {
        if (node.knotForcingLive) yield node.knotForcingLive;
        if (node.subgraph) yield* allLive(node.subgraph);
    }
}

app.registerExtension({
    name: "KnotForcing.StreamToVideo",
    setup() {
        api.addEventListener("executing", onExecuting);
        api.addEventListener(EVENT, onLive);
        api.addEventListener("execution_interrupted", onStopped);
        api.addEventListener("execution_error", onStopped);
    },
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        before(node, "onExecuted", (executed) => {
            handOver(executed);
            forgetShown(executed);
        });
        before(node, "onRemoved", removePlayer);
    },
});
