// Timelines that move a session which runs: what is changed in their nodes is sent to it, as soon as it rests for a moment.

import { nodeOf } from "./editor_graph.js";

const LOOK = 300; // milliseconds between two looks; a text that is still the same at the next one is sent
const TEXTS = ["timeline", "prompts"]; // widgets that hold one

function textOf(id) {
    const node = nodeOf(id);
    const widget = node?.widgets?.find(({ name }) => TEXTS.includes(name));
    const cabled = node?.inputs?.some((input) => input.widget?.name === widget?.name && input.link != null);
    return widget && !cabled ? String(widget.value ?? "") : null;
}

// `send(id, text)` throws an Error with a sentence; `onProblem(sentence)` is called with "" once a text is taken.
export class LiveTimelines {
    constructor({ ids, send, onProblem }) {
        Object.assign(this, { send, onProblem });
        this.known = new Map(ids.map((id) => [id, { sent: textOf(id), seen: textOf(id) }]));
        this.looking = ids.length ? setInterval(() => this.look(), LOOK) : null;
    }

    look() {
        for (const [id, known] of this.known) {
            const now = textOf(id);
            if (now !== null && now === known.seen && now !== known.sent) this.change(id, known, now);
            known.seen = now;
        }
    }

    async change(id, known, text) {
        known.sent = text;
        try {
            await this.send(id, text);
            this.onProblem("");
        } catch (problem) {
            this.onProblem(problem.message);
        }
    }

    close() {
        clearInterval(this.looking);
    }
}
