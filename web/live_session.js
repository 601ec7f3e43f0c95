import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { belongsHere, forgetOutputs, hostOf, nodeOf, removeWidget } from "./editor_graph.js";
import { LiveSessionPlayer } from "./live_session_player.js";
import { LiveTimelines } from "./live_timelines.js";
import { before, forgetShown, loud, quiet } from "./node_results.js";
import { whenAGraphCame, whenARunStopped } from "./running_nodes.js";
import { text } from "./editor_texts.js";

// The node's player comes when its session begins, attaches to it, and goes when the node shows the recording. A session
// that was told of before this page was loaded is told of again.

const NODE = "KnotForcingLive";
const EVENT = "knot_forcing.live_session";
const WIDGET = "knot_forcing_session";
const HEIGHT = 560; // pixels, at least

const running = new Map(); // by session: what was told of it

function socketUrl(path) {
    const url = new URL(api.apiURL(path), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
}

async function change({ session, token, change: path }, node, words) {
    let answer;
    try {
        answer = await api.fetchApi(path, {
            method: "POST", headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ session, token, node, text: words }),
        });
    } catch (problem) {
        throw new Error(text("stream.unreachable", { reason: problem.message }));
    }
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error ?? text("stream.unreachable", { reason: answer.status }));
}

// In the node, or in that of the closed subgraph around it.
function show(node, event) {
    const host = hostOf(event.node);
    removePlayer(node);
    const player = new LiveSessionPlayer({ event, url: socketUrl(event.url) });
    const name = host === node ? WIDGET : `${WIDGET}_${node.id}`;
    const widget = host.addDOMWidget(name, WIDGET, player.element, {
        serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getMaxHeight: () => 4 * HEIGHT,
    });
    widget.serialize = false; // nor in the workflow
    const timelines = new LiveTimelines({
        ids: event.timelines, send: (id, words) => change(event, id, words), onProblem: (words) => player.say(words),
    });
    node.knotForcingSession = { player, widget, host, timelines, session: event.session };
    for (const each of new Set([node, host])) quiet(each);
    host.setSize?.([host.size[0], Math.max(host.size[1], host.computeSize()[1])]);
    host.setDirtyCanvas?.(true, true);
    player.start();
}

function removePlayer(node) {
    const shown = node.knotForcingSession;
    if (!shown) return;
    node.knotForcingSession = undefined;
    for (const each of new Set([node, shown.host])) loud(each);
    shown.timelines.close();
    shown.player.remove();
    removeWidget(shown.host, shown.widget);
    shown.host.setDirtyCanvas?.(true, true);
}

function onSession({ detail }) {
    if (detail.ended) running.delete(detail.session);
    else running.set(detail.session, detail);
    const node = nodeOf(detail.node);
    if (node?.comfyClass !== NODE || !belongsHere(detail)) return;
    if (detail.begun) {
        forgetShown(node);
        forgetOutputs(node);
    }
    tell(node, detail);
}

function tell(node, detail) {
    const shown = node.knotForcingSession;
    if (detail.ended) {
        if (shown?.session === detail.session) shown.player.end(detail.reason, "");
    } else if (shown?.session !== detail.session) show(node, detail);
}

const onGraph = whenAGraphCame(running, (node, detail) => {
    if (node.comfyClass === NODE && belongsHere(detail)) tell(node, detail);
});
const onStopped = whenARunStopped(running, (node) => node.knotForcingSession?.player.end("stopped", ""));

app.registerExtension({
    name: "KnotForcing.LiveSession",
    setup() {
        api.addEventListener(EVENT, onSession);
        api.addEventListener("execution_interrupted", onStopped);
        api.addEventListener("execution_error", onStopped);
    },
    afterConfigureGraph: onGraph,
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        before(node, "onExecuted", (executed) => {
            removePlayer(executed);
            forgetShown(executed);
        });
        before(node, "onRemoved", removePlayer);
    },
});
