// The sliders of the face's controls. A control that was never moved, or was given back, idles: its value is null.

import { dress, make } from "./elements.js";
import { has, text } from "./texts.js";

const PAUSE = 40; // milliseconds between two messages while a slider is dragged

export const USUAL = {
    yaw: [-1, 1], pitch: [-1, 1], roll: [-1, 1], gaze: [-1, 1], brow: [-1, 1], blink: [0, 1], mouth_open: [0, 1], mouth_wide: [-1, 1],
};

export function labelOf(kind, name) {
    return has(`${kind}.${name}`) ? text(`${kind}.${name}`) : name.replaceAll("_", " ");
}

export class Sliders {
    // `onChange({name: value or null})`, the newest values that have not been told yet; `scope` begins the elements' ids.
    constructor(onChange, scope = "") {
        Object.assign(this, { onChange, scope });
        this.element = make("div", { className: "sliders" });
        this.rows = new Map();
        this.pending = {};
        this.show(USUAL);
    }

    // Those of this session's model; nothing is built anew where they are the same.
    show(ranges) {
        const names = Object.keys(USUAL).filter((name) => name in ranges);
        names.push(...Object.keys(ranges).filter((name) => !names.includes(name)));
        if (JSON.stringify(names) === JSON.stringify([...this.rows.keys()])) return;
        this.rows = new Map(names.map((name) => [name, this.row(name, ranges[name])]));
        this.element.replaceChildren(...[...this.rows.values()].map(({ row }) => row));
    }

    row(name, [low, high]) {
        const label = labelOf("control", name);
        const id = `${this.scope}control-${name}`;
        const slider = make("input", { type: "range", id, min: low, max: high, step: 0.01, value: this.rest(low) });
        const value = make("output", { "for": id, textContent: text("panel.idle") });
        const reset = make("button", { type: "button", className: "quiet", disabled: true });
        dress(reset, "reset", "", `${text("panel.reset")}: ${label}`);
        const row = make("div", { className: "slider" }, make("label", { "for": id, textContent: label }), slider, value, reset);
        row.dataset.idle = "";
        slider.addEventListener("input", () => this.set(name, Number(slider.value)));
        slider.addEventListener("dblclick", () => this.set(name, null));
        slider.addEventListener("keydown", (event) => {
            if (event.key === "Delete" || event.key === "Backspace") this.set(name, null);
        });
        reset.addEventListener("click", () => {
            this.set(name, null);
            slider.focus();
        });
        slider.setAttribute("aria-valuetext", text("panel.idle"));
        return { row, slider, value, reset, low };
    }

    rest(low) {
        return Math.max(low, 0);
    }

    set(name, number) {
        const { row, slider, value, reset, low } = this.rows.get(name);
        const idle = number === null;
        if (idle) slider.value = this.rest(low);
        value.textContent = idle ? text("panel.idle") : number.toFixed(2);
        slider.setAttribute("aria-valuetext", value.textContent);
        row.toggleAttribute("data-idle", idle);
        reset.disabled = idle;
        this.pending[name] = number;
        this.tellSoon();
    }

    reset() {
        for (const [name, { reset }] of this.rows) if (!reset.disabled) this.set(name, null);
    }

    // At once, and then the newest every 40 ms: what a hand does is more than the stream can show.
    tellSoon() {
        if (this.timer) return;
        this.tell();
        this.timer = setTimeout(() => {
            this.timer = null;
            if (Object.keys(this.pending).length) this.tellSoon();
        }, PAUSE);
    }

    tell() {
        const values = this.pending;
        this.pending = {};
        this.onChange(values);
    }

    // What is set, for a session that begins while sliders stand somewhere.
    get values() {
        const set = [...this.rows].filter(([, { reset }]) => !reset.disabled);
        return Object.fromEntries(set.map(([name, { slider }]) => [name, Number(slider.value)]));
    }
}
