// The panel beside the picture: portrait, sliders, gestures, microphone and camera, settings. It knows no connection: what
// the hand does goes to the callbacks of `actions`.

import { dress, make } from "./elements.js";
import { labelOf, Sliders } from "./sliders.js";
import { sentence, text } from "./texts.js";

export const GESTURES = ["nod", "shake", "smile", "wink", "brows", "look_left", "look_right", "look_up", "look_down"];
const KEYS = {
    n: "nod", h: "shake", s: "smile", w: "wink", b: "brows",
    arrowleft: "look_left", arrowright: "look_right", arrowup: "look_up", arrowdown: "look_down",
};
const ARROWS = { arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓" };

export const gestureOfKey = (key) => KEYS[key];

function keyOf(gesture) {
    const key = Object.keys(KEYS).find((one) => KEYS[one] === gesture);
    return key && (ARROWS[key] ?? key.toUpperCase());
}

function group(key, ...children) {
    return make("fieldset", {}, make("legend", { textContent: text(key) }), ...children);
}

function hint(key) {
    return make("p", { className: "hint", textContent: text(key) });
}

function tick(key, checked = false) {
    const box = make("input", { type: "checkbox", checked });
    return { box, element: make("label", { className: "tick" }, box, make("span", { textContent: text(key) })) };
}

const PARTS = ["portrait", "move", "gestures", "you", "stream"];

export class Panel {
    // In any element, the whole of it or some parts; where a page has several panels, each has a `scope` for its names.
    constructor(root, actions, { parts = PARTS, scope = "" } = {}) {
        this.actions = actions;
        this.scope = scope;
        this.live = []; // what can be used while a session runs
        this.sliders = new Sliders(actions.controls, scope);
        this.parts = parts.map((name) => this[name]());
        root.append(...this.parts);
        this.showGestures(GESTURES);
        this.setRunning(false);
    }

    // While no session runs only the portrait, the chunk's length and the token can be chosen.
    setRunning(running) {
        for (const part of this.live) part.disabled = !running;
        this.wayRow.disabled = running;
    }

    // What this session's model can do.
    begin({ controls, gestures, prompts, camera_problem, aligns_faces }) {
        this.aligns = !!aligns_faces;
        if (this.photo) this.photo.textContent = text(aligns_faces ? "panel.photoAligned" : "panel.photo");
        if (controls) this.sliders.show(controls);
        if (gestures) this.showGestures(gestures);
        this.promptRow.hidden = !prompts;
        this.camera.disabled = !!camera_problem;
        this.cameraHint.textContent = camera_problem ? sentence(camera_problem) : text("panel.cameraHint");
    }

    portrait() {
        this.thumbnails = make("div", { className: "thumbnails", role: "radiogroup", "aria-label": text("panel.portrait") });
        const rights = tick("panel.rights");
        const file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", hidden: true });
        const upload = make("button", { type: "button", disabled: true });
        dress(upload, "upload", text("panel.upload"));
        rights.box.addEventListener("change", () => { upload.disabled = !rights.box.checked; });
        upload.addEventListener("click", () => file.click());
        file.addEventListener("change", () => {
            if (file.files.length) this.actions.upload(file.files[0]);
            file.value = "";
        });
        this.points = make("button", { type: "button", className: "small", hidden: true, textContent: text("panel.face") });
        this.points.addEventListener("click", () => this.actions.points());
        this.photo = hint("panel.photo");
        this.cut = tick("panel.cut");
        const cutField = make("fieldset", { className: "plain" }, this.cut.element);
        this.live.push(cutField);
        const own = make("details", { className: "own" }, make("summary", { textContent: text("panel.upload") }),
            this.photo, rights.element, make("div", { className: "row" }, upload, file, this.points));
        return group("panel.portrait", this.thumbnails, cutField, own);
    }

    // Whether there is a picture of the user's own, whose face can be set by hand where the model aligns faces.
    offerPoints(there) {
        this.points.hidden = !(there && this.aligns);
    }

    // `references`: [{name, label, picture}]; the first is chosen.
    showReferences(references, chosen) {
        this.thumbnails.replaceChildren(...references.map((one) => this.thumbnail(one, one.name === chosen)));
    }

    thumbnail({ name, label, picture }, checked) {
        const radio = make("input", { type: "radio", name: "reference", value: name, checked });
        radio.addEventListener("change", () => this.actions.reference(name, this.cut.box.checked));
        const shown = make("img", { src: picture, alt: label, width: 64, height: 64, draggable: false });
        return make("label", { className: "thumbnail", title: label }, radio, shown);
    }

    move() {
        const reset = make("button", { type: "button", className: "small" });
        dress(reset, "reset", text("panel.resetAll"));
        reset.addEventListener("click", () => this.sliders.reset());
        const made = group("panel.move", this.sliders.element, make("div", { className: "row spread" }, hint("panel.moveHint"), reset));
        this.live.push(made);
        return made;
    }

    gestures() {
        this.buttons = make("div", { className: "gestures" });
        const keys = tick("panel.keys", true);
        keys.element.title = text("panel.keysHint");
        this.keys = keys.box;
        const made = group("panel.gestures", this.buttons, this.gestureStrength(), keys.element);
        this.live.push(made);
        return made;
    }

    gestureStrength() {
        const id = `${this.scope}strength`;
        this.strengths = make("input", { type: "range", id, min: 0.25, max: 2, step: 0.05, value: 1 });
        const value = make("output", { "for": id, textContent: "1.00" });
        this.strengths.addEventListener("input", () => { value.textContent = this.strength.toFixed(2); });
        return make("div", { className: "slider wide" },
            make("label", { "for": id, textContent: text("panel.strength") }), this.strengths, value);
    }

    // Of gestures; 1 is as they are drawn.
    get strength() {
        return Number(this.strengths.value);
    }

    // In the page's own order; what it does not know comes last.
    showGestures(given) {
        const names = [...GESTURES.filter((name) => given.includes(name)), ...given.filter((name) => !GESTURES.includes(name))];
        this.buttons.replaceChildren(...names.map((name) => {
            const key = keyOf(name);
            const button = make("button", { type: "button", title: key ? `${labelOf("gesture", name)} (${key})` : "" },
                make("span", { textContent: labelOf("gesture", name) }), ...(key ? [make("kbd", { textContent: key, "aria-hidden": true })] : []));
            button.addEventListener("click", () => this.actions.gesture(name));
            return button;
        }));
    }

    you() {
        this.microphone = make("button", { type: "button" });
        this.camera = make("button", { type: "button" });
        this.level = make("meter", { min: 0, max: 1, value: 0, "aria-label": text("panel.level") });
        this.preview = make("video", { className: "preview", muted: true, playsInline: true, hidden: true });
        this.microphone.addEventListener("click", () => this.actions.microphone());
        this.camera.addEventListener("click", () => this.actions.camera());
        this.centre = make("button", { type: "button", className: "small", hidden: true });
        dress(this.centre, "reset", text("panel.recentre"), text("panel.recentre.hint"));
        this.centre.addEventListener("click", () => this.actions.recentre());
        this.cameraHint = hint("panel.cameraHint");
        this.showDevices({});
        const made = group("panel.you",
            make("div", { className: "device" }, this.microphone, this.level, hint("panel.microphoneHint")),
            make("div", { className: "device" }, this.camera, this.preview, this.centre, this.cameraHint));
        this.live.push(made);
        return made;
    }

    showDevices({ microphone = false, camera = false }) {
        dress(this.microphone, "microphone", text(microphone ? "panel.microphoneStop" : "panel.microphone"));
        dress(this.camera, "camera", text(camera ? "panel.cameraStop" : "panel.camera"));
        this.microphone.setAttribute("aria-pressed", microphone);
        this.camera.setAttribute("aria-pressed", camera);
        this.preview.hidden = this.centre.hidden = !camera;
        if (!microphone) this.level.value = 0;
    }

    // By its loudness in decibels, from -60 to 0: as an ear hears it.
    showLevel(level) {
        this.level.value = level > 0 ? Math.max(0, 1 + Math.log10(level) / 3) : 0;
    }

    stream() {
        const prompt = this.prompt();
        return group("panel.settings", this.liveliness(), this.chunkLength(), this.connection(), prompt);
    }

    // Which way the stream comes; where there are two.
    connection() {
        const id = `${this.scope}connection`;
        this.way = make("select", { id }, ...["socket", "peer"].map((value) =>
            make("option", { value, textContent: text(`panel.connection.${value}`) })));
        this.wayRow = make("fieldset", { className: "plain", hidden: true },
            make("label", { "for": id, textContent: text("panel.connection") }), this.way);
        return this.wayRow;
    }

    offerPeer(offered) {
        this.wayRow.hidden = !offered;
    }

    get overPeer() {
        return !this.wayRow.hidden && this.way.value === "peer";
    }

    set overPeer(chosen) {
        this.way.value = chosen ? "peer" : "socket";
    }

    liveliness() {
        const id = `${this.scope}liveliness`;
        const slider = make("input", { type: "range", id, min: 0, max: 1, step: 0.05, value: 1 });
        const value = make("output", { "for": id, textContent: "1.00" });
        slider.addEventListener("input", () => { value.textContent = Number(slider.value).toFixed(2); });
        slider.addEventListener("change", () => this.actions.liveliness(Number(slider.value)));
        const made = make("fieldset", { className: "plain" }, make("div", { className: "slider wide" },
            make("label", { "for": id, textContent: text("panel.liveliness") }), slider, value));
        this.live.push(made);
        return made;
    }

    chunkLength() {
        this.lengths = [["panel.fast", 1], ["panel.best", 3]].map(([key, frames]) => {
            const radio = make("input", { type: "radio", name: `${this.scope}chunk`, value: frames, checked: frames === 3 });
            radio.addEventListener("change", () => this.actions.chunkLength(frames));
            return make("label", {}, radio, make("span", { textContent: text(key) }));
        });
        return make("div", { className: "choice", role: "radiogroup", "aria-label": text("panel.chunk") }, ...this.lengths);
    }

    get numChunkFrames() {
        return Number(this.lengths.map((label) => label.querySelector("input")).find(({ checked }) => checked).value);
    }

    prompt() {
        const id = `${this.scope}prompt`;
        const field = make("textarea", { id, rows: 2, maxLength: 2000 });
        const send = make("button", { type: "button", textContent: text("panel.promptSend") });
        send.addEventListener("click", () => field.value.trim() && this.actions.prompt(field.value.trim()));
        this.promptRow = make("fieldset", { className: "plain", hidden: true },
            make("label", { "for": id, textContent: text("panel.prompt") }), field, send);
        this.live.push(this.promptRow);
        return this.promptRow;
    }
}
