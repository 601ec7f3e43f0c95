import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { belongsHere, forgetOutputs, hostOf, nodeOf, removeWidget, showsResults } from "./editor_graph.js";
import { LivePlayer } from "./live_player.js";
import { before, forgetShown, loud, quiet, shownVideo } from "./node_results.js";
import { whenAGraphCame, whenARunStopped } from "./running_nodes.js";
import { askStream } from "./stream_control.js";

// Left to itself the editor shows live stills in place of the results for as long as it has any, and on the next run
// takes them for videos. So this node forgets what it showed when it runs, and its stills when the video is there.
// While chunks come, a player shows them; stills are the fallback where it cannot.

const NODE = "KnotForcingStreamToVideo";
const EVENT = "knot_forcing.live";
const WIDGET = "knot_forcing_live";
const PLAYER_HEIGHT = 250; // pixels
const HAND_OVER_TRIES = 50; // a tenth of a second each

// Of streams that run: what was told of each last, put together. So a graph that is shown again has its player again.
const running = new Map();

function viewUrl({ filename, subfolder, type }) {
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

// Else stills are all that shows: where nodes are part of a page that does not show widgets that come later (0.8.0).
function isSeen({ player, host }) {
    if (app.canvas?.graph && app.canvas.graph !== host.graph) return false;
    return player.away() || !globalThis.LiteGraph?.vueNodesMode || player.element.getBoundingClientRect().height > 0;
}

// In the node, or in that of the closed subgraph around it.
function showPlayer(node, event) {
    const host = hostOf(event.node);
    const name = host === node ? WIDGET : `${WIDGET}_${node.id}`;
    removePlayer(node);
    const player = new LivePlayer({
        viewUrl,
        ask: (action) => askStream((url, options) => api.fetchApi(url, options), event, action),
        onFail: () => {
            node.knotForcingFailed = event.stream; // its stills are shown from here on
            removePlayer(node);
        },
        onLeft: () => {
            if (node.knotForcingLive?.handsOver) handOver(node);
        },
    });
    const widget = host.addDOMWidget(name, WIDGET, player.element, {
        serialize: false, hideOnZoom: false, getMinHeight: () => PLAYER_HEIGHT, getMaxHeight: () => 4 * PLAYER_HEIGHT,
    });
    widget.serialize = false; // nor in the workflow
    node.knotForcingLive = { player, widget, host, stream: event.stream, prompt: event.prompt_id };
    host.setSize?.([host.size[0], Math.max(host.size[1], host.computeSize()[1])]);
    host.setDirtyCanvas?.(true, true);
}

function removePlayer(node) {
    const live = node.knotForcingLive;
    if (!live) return;
    node.knotForcingLive = undefined;
    for (const each of [node, live.host]) loud(each);
    live.player.remove();
    removeWidget(live.host, live.widget);
    live.host.setDirtyCanvas?.(true, true);
}

// The finished video goes on where the player stands, as loud as it was; not while it is looked at elsewhere.
function handOver(node) {
    const live = node.knotForcingLive;
    if (!live) return;
    if (live.player.away()) {
        live.handsOver = true;
        return;
    }
    if (live.host !== node) {
        keepOnHost(node, live);
        return;
    }
    const { currentTime, muted, volume, paused } = live.player.video;
    removePlayer(node);
    let tries = 0;
    const waiting = setInterval(() => {
        const next = shownVideo(node);
        if (next?.readyState >= 1) {
            Object.assign(next, { currentTime: Math.min(currentTime, next.duration || 0), muted, volume });
            if (!paused) next.play().catch(() => {});
        }
        if (next?.readyState >= 1 || ++tries >= HAND_OVER_TRIES) clearInterval(waiting);
    }, 100);
}

// A closed subgraph shows the finished video in the player, unless the editor itself shows it there.
function keepOnHost(node, live) {
    live.player.showWhole();
    loud(node);
    setTimeout(() => {
        if (node.knotForcingLive === live && showsResults(live.host)) removePlayer(node);
    }, HAND_OVER_TRIES * 20);
}

function onLive({ detail }) {
    if (detail.ended) running.delete(detail.stream);
    else running.set(detail.stream, { ...running.get(detail.stream), ...detail, waiting: !!detail.waiting });
    const node = nodeOf(detail.node);
    if (node?.comfyClass !== NODE || isStranger(node, detail)) return;
    if (detail.begun) {
        forgetShown(node);
        forgetOutputs(node);
    }
    tell(node, detail);
}

// Another workflow's stream; a player that came before the editor knew which one it shows goes.
function isStranger(node, detail) {
    if (belongsHere(detail)) return false;
    if (node.knotForcingLive?.stream === detail.stream) removePlayer(node);
    return true;
}

function tell(node, detail) {
    const live = node.knotForcingLive;
    if (live?.stream !== detail.stream || hasMoved(live, detail)) {
        if (detail.ended || node.knotForcingFailed === detail.stream) return;
        showPlayer(node, detail);
    }
    const { host, player } = node.knotForcingLive;
    if (!detail.ended && isSeen(node.knotForcingLive)) for (const each of new Set([node, host])) quiet(each);
    player.hear(detail);
}

// A subgraph was opened or closed meanwhile.
function hasMoved({ host, player }, { node, ended }) {
    return !ended && !player.away() && host !== hostOf(node);
}

const onGraph = whenAGraphCame(running, (node, detail) => {
    if (node.comfyClass !== NODE || isStranger(node, detail)) return;
    if (node.knotForcingLive?.stream !== detail.stream) tell(node, detail);
});
const onStopped = whenARunStopped(running, ({ knotForcingLive }) => {
    const player = knotForcingLive?.player;
    if (player && !player.ended) player.end(false);
});

app.registerExtension({
    name: "KnotForcing.StreamToVideo",
    setup() {
        api.addEventListener(EVENT, onLive);
        api.addEventListener("execution_interrupted", onStopped);
        api.addEventListener("execution_error", onStopped);
    },
    afterConfigureGraph: onGraph,
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        before(node, "onExecuted", (executed) => {
            handOver(executed);
            if (!executed.knotForcingLive || executed.knotForcingLive.host !== executed) forgetShown(executed);
        });
        before(node, "onRemoved", removePlayer);
    },
});
