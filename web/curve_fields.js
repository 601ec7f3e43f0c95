// What stands around the curves: the controls to choose from, the chosen key, the length.

import { element } from "./element.js";
import { text } from "./editor_texts.js";
import { DEFAULT_EASE, EASES, STEPS } from "./timeline.js";
import { COLOURS } from "./timeline_plot.js";

const ORDER = ["yaw", "pitch", "roll", "gaze", "blink", "brow", "mouth_open", "mouth_wide"]; // head, eyes, mouth
export class Legend {
    constructor(onSelect) {
        this.element = element("div", {}, { className: "legend" });
        this.chips = ORDER.map((name) => {
            const chip = element("button", {}, { type: "button", name, textContent: text(`curves.${name}`) });
            chip.style.setProperty("--colour", COLOURS[name]);
            chip.addEventListener("click", () => onSelect(name));
            return chip;
        });
        this.element.append(...this.chips);
    }

    // A full dot: it has keys.
    show(control, timeline, enabled) {
        for (const chip of this.chips) {
            chip.setAttribute("aria-pressed", chip.name === control);
            chip.classList.toggle("given", chip.name in timeline);
            chip.disabled = !enabled;
        }
    }
}

export class Fields {
    constructor() {
        this.time = number(text("curves.keyTime"), { min: 0, step: STEPS.seconds });
        this.value = number(text("curves.keyValue"), { step: STEPS.value });
        this.ease = element("select", {}, { title: text("curves.keyEase") });
        this.ease.append(...Object.keys(EASES).map((name) => new Option(text(`curves.${name}`), name)));
        this.seconds = number(text("curves.wholeLength"), {
            min: STEPS.seconds, step: STEPS.seconds, placeholder: text("curves.lastKey"),
        });
        this.loop = element("input", {}, { type: "checkbox", title: text("curves.again") });
        this.note = element("span", {}, { className: "note" });
        const unit = text("curves.seconds");
        this.rows = [
            row(labelled("keyAt", this.time, unit), labelled("value", this.value), labelled("ease", this.ease), help()),
            row(labelled("length", this.seconds, unit), labelled("loop", this.loop), this.note),
        ];
    }

    show(key, timeline, enabled) {
        for (const field of [this.time, this.value, this.ease]) field.disabled = !key;
        for (const field of [this.seconds, this.loop]) field.disabled = !enabled;
        const [time, value, ease] = key ?? ["", "", DEFAULT_EASE];
        Object.assign(this.time, { value: time });
        Object.assign(this.value, { value });
        Object.assign(this.ease, { value: ease });
        Object.assign(this.seconds, { value: timeline.seconds ?? "" });
        Object.assign(this.loop, { checked: timeline.loop ?? false });
    }
}

function number(title, properties) {
    return element("input", {}, { type: "number", title, ...properties });
}

function help() {
    return element("span", {}, { className: "help", textContent: "?", title: text("curves.help") });
}

function row(...parts) {
    const made = element("div", {}, { className: "row" });
    made.append(...parts);
    return made;
}

function labelled(name, field, unit = "") {
    const label = element("label");
    label.append(text(`curves.${name}`), field, unit);
    return label;
}
