// The pack's templates in the editor's language. Their files are written in English and say so (extra.knot_forcing); a
// graph that is opened gets its notes and titles translated where they still read as in the file. What somebody wrote
// or changed stays, and a graph that was saved in another language is left alone.

import { app } from "../../scripts/app.js";
import CHINESE from "./template_texts_zh.js";
import { inChinese, speak } from "./editor_texts.js";

const WRITTEN_IN = "en";

speak(() => app.extensionManager?.setting?.get?.("Comfy.Locale") ?? navigator.language);

// A note as a whole, or not at all: half of it in another language helps nobody.
export function translatedNote(note, texts) {
    const paragraphs = note.split("\n\n").map((paragraph) => texts[paragraph]);
    return paragraphs.includes(undefined) ? note : paragraphs.join("\n\n");
}

export function translate(graph, texts) {
    for (const group of graph.groups ?? []) group.title = texts[group.title] ?? group.title;
    for (const node of graph.nodes ?? []) {
        if (node.title) node.title = texts[node.title] ?? node.title;
        if (node.type === "MarkdownNote") node.widgets_values[0] = translatedNote(node.widgets_values[0], texts);
    }
}

app.registerExtension({
    name: "KnotForcing.TemplateTexts",
    beforeConfigureGraph(graph) {
        const ours = graph?.extra?.knot_forcing;
        if (ours?.texts !== WRITTEN_IN || !inChinese()) return;
        translate(graph, CHINESE);
        ours.texts = "zh";
    },
});
