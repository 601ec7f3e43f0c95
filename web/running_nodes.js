// What is told of nodes that run: of a stream or a session, by a key of its own, the last word with `node` and `prompt_id`.

import { nodeOf } from "./editor_graph.js";

const AFTER_A_GRAPH_CAME = [200, 600, 1500]; // milliseconds: the editor says late which workflow it shows

// A graph that comes to be shown while its nodes run, since another workflow was looked at: `show(node, detail)`.
export function whenAGraphCame(running, show) {
    return () => {
        for (const wait of AFTER_A_GRAPH_CAME) setTimeout(() => {
            for (const detail of running.values()) {
                const node = nodeOf(detail.node);
                if (node) show(node, detail);
            }
        }, wait);
    };
}

// Should a run's own word of its end be lost: `end(node)`, where it is in the graph.
export function whenARunStopped(running, end) {
    return ({ detail }) => {
        for (const [key, known] of running) if (known.prompt_id === detail?.prompt_id) {
            running.delete(key);
            const node = nodeOf(known.node);
            if (node) end(node);
        }
    };
}
