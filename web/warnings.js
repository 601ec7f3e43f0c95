import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { element } from "./element.js";
import { chainOf, keyOf, removeWidget } from "./editor_graph.js";

// Warnings stand on the node that gave them, and on the subgraphs around it: as soon as it says them, and until it runs
// again. They are stored in no workflow; a page that is loaded anew shows those that the editor still knows.

const EVENT = "knot_forcing.warning";
const SHOWN = "knot_forcing_warnings"; // in what a node hands the editor
const WIDGET = "knot_forcing_warnings";
const PREFIX = "KnotForcing"; // of every node of this pack
const STYLE = {
    boxSizing: "border-box", overflow: "auto", padding: "4px 8px", borderRadius: "4px", whiteSpace: "pre-wrap",
    font: "12px/1.35 sans-serif", color: "#ffd98a", background: "#4a3508", userSelect: "text",
};
const LINE = 16.2; // pixels
const LETTER = 6.6; // pixels, about
const AROUND = 8; // pixels above and below, together
const MARGIN = 24; // pixels that the editor leaves around a widget, about
const MOST_LINES = 8; // more can be scrolled to

const saidBy = new WeakMap(); // of each node that shows some: Map of who said them -> texts

function isOurs(node) {
    return !!node?.comfyClass?.startsWith?.(PREFIX);
}

// What the node of this id says now, here and on every subgraph around it.
function say(id, texts) {
    const nodes = chainOf(id);
    const node = nodes.at(-1);
    if (!isOurs(node)) return;
    for (const shows of nodes) {
        const told = saidBy.get(shows) ?? new Map();
        saidBy.set(shows, told);
        const from = shows === node ? "" : `${node.title}: `;
        if (texts.length) told.set(String(id), texts.map((text) => from + text));
        else told.delete(String(id));
        render(shows, [...told.values()].flat());
    }
}

function said(id) {
    return saidBy.get(chainOf(id).at(-1))?.get(String(id)) ?? [];
}

function render(node, texts) {
    const height = heightWithout(node);
    if (!texts.length) forget(node);
    else if (node.knotForcingWarnings) write(node, texts, height);
    else addWidget(node, texts, height);
    node.setSize?.([node.size[0], Math.max(node.computeSize()[1], height + (node.knotForcingWarnings?.height ?? 0))]);
    node.setDirtyCanvas?.(true, true);
}

// What a node has grown by for the text goes again with it; what the user made larger stays.
function heightWithout(node) {
    const shown = node.knotForcingWarnings;
    const grown = shown ? Math.max(0, node.size[1] - shown.without) : 0;
    return node.size[1] - (shown && grown <= shown.height ? grown : shown?.height ?? 0);
}

function addWidget(node, texts, without) {
    const box = element("div", STYLE, { role: "status" });
    const shown = { box, texts: [] };
    const height = () => heightOf(node, shown);
    shown.widget = node.addDOMWidget(WIDGET, WIDGET, box, {
        serialize: false, hideOnZoom: false, getMinHeight: height, getMaxHeight: height,
    });
    shown.widget.serialize = false; // nor in the workflow
    node.knotForcingWarnings = shown;
    write(node, texts, without);
}

// Into the box that is there: where nodes are part of the page, a widget that takes another's place is not shown.
function write(node, texts, without) {
    const shown = node.knotForcingWarnings;
    Object.assign(shown, { texts, without, height: heightOf(node, { texts }) + MARGIN });
    shown.box.textContent = texts.map((text) => `⚠ ${text}`).join("\n");
}

function heightOf(node, { texts }) {
    const letters = Math.max(10, Math.floor((node.size[0] - 40) / LETTER));
    const lines = texts.reduce((sum, text) => sum + Math.ceil((text.length + 2) / letters), 0);
    return AROUND + LINE * Math.min(lines, MOST_LINES);
}

function forget(node) {
    const shown = node.knotForcingWarnings;
    if (!shown) return;
    node.knotForcingWarnings = undefined;
    removeWidget(node, shown.widget);
}

app.registerExtension({
    name: "KnotForcing.Warnings",
    setup() {
        api.addEventListener("executing", ({ detail }) => detail && say(detail, []));
        api.addEventListener(EVENT, ({ detail }) => say(detail.node, [...said(detail.node), detail.text]));
        api.addEventListener("executed", ({ detail }) => {
            say(detail.display_node ?? detail.node, detail.output?.[SHOWN] ?? []);
        });
    },
    loadedGraphNode(node) {
        const texts = app.nodeOutputs?.[keyOf(node)]?.[SHOWN];
        if (!isOurs(node) || !texts?.length) return;
        saidBy.set(node, new Map([[String(node.id), texts]]));
        render(node, texts);
    },
});
