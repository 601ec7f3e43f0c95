// ComfyUI's editor, as far as the player must know it: which node an executed one is, which workflow is shown, and what
// the editor keeps of a node's results. Everything that differs between its versions is here.

import { app } from "../../scripts/app.js";

function store(name) {
    return document.querySelector("#vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s?.get?.(name);
}

// Nothing while the page is loading; asked then, rootGraph complains.
function outermost() {
    return app.graph && (app.rootGraph ?? app.graph);
}

// Of an executed node's id: "12:7" is node 7 inside the subgraph of node 12. All of them, from the outside in.
export function chainOf(id) {
    let graph = outermost();
    return String(id).split(":").map((part) => {
        const node = graph?.getNodeById?.(/^\d+$/.test(part) ? Number(part) : part) ?? null;
        graph = node?.subgraph;
        return node;
    });
}

export function nodeOf(id) {
    return chainOf(id).at(-1);
}

// Where it can be seen: the node itself, or the subgraph's node that it is closed up in.
export function hostOf(id) {
    const chain = chainOf(id);
    return chain.find((node) => node && node.graph === app.canvas?.graph) ?? chain.at(-1);
}

// Nodes 2.0 shows results of a subgraph's nodes on its own node, where the graph says so.
export function showsResults(node) {
    return !!document.querySelector(`[data-node-id="${node.id}"] .video-preview`);
}

export function removeWidget(node, widget) {
    widget.onRemove?.();
    if (!node.widgets?.includes(widget)) return;
    if (node.subgraph && node.removeWidget) node.removeWidget(widget); // its list is made anew whenever it is asked for
    else node.widgets.splice(node.widgets.indexOf(widget), 1);
}

// Whether what is told belongs to the workflow that is shown: another one, opened from the same file, has the same nodes.
// Newer editors know of each prompt which of their tabs queued it; else the graph's own id must do.
export function belongsHere({ prompt_id, workflow }) {
    const path = store("execution")?.jobIdToSessionWorkflowPath?.get?.(prompt_id);
    const tabs = app.extensionManager?.workflow;
    if (path && tabs?.activeWorkflow) {
        if (tabs.activeWorkflow.path === path) return true;
        if (tabs.openWorkflows?.some((tab) => tab.path === path)) return false;
    }
    return !workflow || !outermost()?.id || workflow === outermost().id;
}

// The editor keeps what nodes show by id; inside a subgraph the subgraph's id stands before it.
export function keyOf(node) {
    const inside = node.graph && node.graph !== app.graph && !node.graph.isRootGraph;
    return inside ? `${node.graph.id}:${node.id}` : String(node.id);
}

// Where nodes are part of the page (Nodes 2.0) it shows what the editor's store has, which does not see them gone from
// app.nodePreviewImages; and while there are stills there, the page takes them for the finished video.
export function forgetStills(node) {
    const key = keyOf(node);
    store("nodeOutput")?.revokePreviewsByLocatorId?.(key);
    delete app.nodePreviewImages[key];
}

// The last run's results. Here, too, the store must hear of it: from app.nodeOutputs alone Nodes 2.0 goes on to show them.
export function forgetOutputs(node) {
    const key = keyOf(node);
    const outputs = store("nodeOutput");
    if (outputs?.removeNodeOutputsForNode) outputs.removeNodeOutputsForNode(node);
    else if (outputs?.nodeOutputs) delete outputs.nodeOutputs[key];
    delete app.nodeOutputs[key];
}
