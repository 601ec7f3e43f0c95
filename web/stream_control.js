// Asks a stream that runs to pause, go on or finish. Its token came with what ComfyUI told of it.

import { text } from "./editor_texts.js";

// The stream's state after it; throws an Error with one sentence.
export async function askStream(fetchApi, { stream, control }, action) {
    let answer;
    try {
        answer = await fetchApi(control.url, {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ stream, token: control.token, action }),
        });
    } catch (problem) {
        throw new Error(text("stream.unreachable", { reason: problem.message }));
    }
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error ?? text("stream.unreachable", { reason: answer.status }));
    return said.state;
}
