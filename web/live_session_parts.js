// What the player of a live session consists of: its elements, and nothing that happens. The panel is the live page's own.

import { dress, make } from "../../knot_forcing/live/page/elements.js";
import { text } from "./editor_texts.js";

const STYLESHEET = new URL("live_session.css", import.meta.url).href;

function withStyle() {
    if (document.querySelector(`link[href="${STYLESHEET}"]`)) return;
    document.head.append(make("link", { rel: "stylesheet", href: STYLESHEET }));
}

function button(iconName, key, onClick, className = "") {
    const made = make("button", { type: "button", className });
    dress(made, iconName, text(key), text(`${key}Hint`));
    made.addEventListener("click", onClick);
    return made;
}

// Everything by its name; `actions` are what its buttons do.
export function sessionParts(actions) {
    withStyle();
    const stage = stageParts(actions);
    const bar = barParts(actions);
    const say = sayParts(actions);
    const figures = make("p", { className: "kfs-figures", "aria-label": text("session.figures") });
    const problem = make("p", { className: "kfs-problem", role: "alert" });
    const notice = make("p", { className: "kfs-notice", role: "status", textContent: text("session.queueWaits") });
    const panel = make("div", { className: "kfs-panel" });
    const element = make("div", { className: "knot-forcing-session", role: "region", "aria-label": text("session.label") },
        stage.stage, bar.bar, say.say, figures, problem, notice, panel);
    return { element, figures, problem, notice, panel, ...stage, ...bar, ...say };
}

function stageParts(actions) {
    const canvas = make("canvas", { width: 1, height: 1, role: "img", "aria-label": text("session.picture") });
    const video = make("video", { playsInline: true, hidden: true });
    const pill = make("p", { className: "kfs-pill" });
    const stage = make("div", { className: "kfs-stage", tabIndex: 0, role: "group", "aria-label": text("session.picture") },
        canvas, video, pill);
    stage.addEventListener("pointerdown", ({ clientX, clientY }) => {
        const { left, top, width, height } = stage.getBoundingClientRect();
        actions.look((2 * (clientX - left)) / width - 1, 1 - (2 * (clientY - top)) / height);
    });
    return { stage, canvas, video, pill };
}

function barParts(actions) {
    const silence = button("stop", "session.silence", actions.silence);
    const pause = button("pause", "session.pause", actions.pauseOrGoOn);
    const sound = button("sound", "session.mute", actions.sound, "bare");
    const large = button("fullScreen", "session.large", actions.large, "bare");
    large.hidden = !document.fullscreenEnabled;
    const finish = button("done", "session.finish", actions.finish, "primary");
    const bar = make("div", { className: "kfs-bar", role: "toolbar", "aria-label": text("session.label") },
        silence, pause, sound, large, finish);
    return { bar, silence, pause, sound, large, finish };
}

function sayParts(actions) {
    const sentence = make("input", { maxLength: 500, placeholder: text("session.sentence"), "aria-label": text("session.sentence") });
    const voice = make("select", { "aria-label": text("session.voice") });
    const speak = make("button", { type: "submit", textContent: text("session.say") });
    const say = make("form", { className: "kfs-say", autocomplete: "off" }, sentence, voice, speak);
    say.addEventListener("submit", (event) => {
        event.preventDefault();
        const words = sentence.value.trim();
        if (words) actions.say(words, voice.value);
        sentence.select();
    });
    for (const kind of ["keydown", "keyup"]) say.addEventListener(kind, (event) => event.stopPropagation()); // no shortcuts
    return { say, sentence, voice, speak };
}

// What the microphone, pause and sound buttons say now.
export function dressSound(sound, on) {
    const key = on ? "session.mute" : "session.unmute";
    dress(sound, on ? "sound" : "silence", text(key), text(`${key}Hint`));
}

export function dressPause(pause, paused) {
    const key = paused ? "session.goOn" : "session.pause";
    dress(pause, paused ? "play" : "pause", text(key), text(`${key}Hint`));
}
