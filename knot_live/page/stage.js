// What the page shows around the picture, and what its buttons and keys ask for. It knows no connection.

import { byId, dress, make } from "./elements.js";
import { gestureOfKey } from "./panel.js";
import { sentence, text } from "./texts.js";

const NOTICE = 8000; // milliseconds that a notice stays
const STALLED_FOR = 2000; // milliseconds that a stall is told of
const RUNNING = ["live", "paused", "lost", "ending"];

export class Stage {
    constructor(actions) {
        this.actions = actions;
        this.panel = null;
        this.dressButtons();
        this.listen();
        this.shown = false;
    }

    dressButtons() {
        const { fullscreenEnabled } = document;
        dress(byId("silence"), "stop", text("bar.silence"), text("bar.silence.hint"));
        dress(byId("share"), "popOut", text("bar.share"), text("bar.share.hint"));
        dress(byId("large"), "fullScreen", text("bar.large"), text("bar.large.hint"));
        dress(byId("finish"), "done", text("bar.finish"), text("bar.finish.hint"));
        byId("large").hidden = !fullscreenEnabled;
        this.showSound(true);
        this.showRecording(false);
    }

    listen() {
        const { actions } = this;
        for (const name of ["start", "silence", "pause", "sound", "record", "share", "finish"])
            byId(name).addEventListener("click", () => actions[name]());
        byId("large").addEventListener("click", () => this.toggleFullScreen());
        byId("say").addEventListener("submit", (event) => {
            event.preventDefault();
            const words = byId("sentence").value.trim();
            if (words) actions.say(words, byId("voice").value);
            byId("sentence").select();
        });
        byId("entry").addEventListener("submit", (event) => {
            event.preventDefault();
            actions.start();
        });
        byId("stage").addEventListener("pointerdown", (event) => this.onPointer(event));
        document.addEventListener("keydown", (event) => this.onKey(event));
    }

    // It looks where one clicks.
    onPointer({ target, clientX, clientY }) {
        if (!RUNNING.includes(this.state) || target.closest("button")) return;
        const { left, top, width, height } = byId("stage").getBoundingClientRect();
        this.actions.look((2 * (clientX - left)) / width - 1, 1 - (2 * (clientY - top)) / height);
    }

    onKey(event) {
        if (event.ctrlKey || event.metaKey || event.altKey || !RUNNING.includes(this.state)) return;
        const key = event.key.toLowerCase();
        if (key === "escape" && !document.fullscreenElement) return this.actions.silence();
        const onPicture = event.target === byId("stage");
        const free = !event.target.closest("input, select, textarea, button, summary") && this.panel.keys.checked;
        if (!onPicture && (!free || key.startsWith("arrow"))) return;
        const gesture = gestureOfKey(key);
        const action = gesture ? () => this.actions.gesture(gesture) : this.keyAction(key);
        if (!action || event.repeat) return;
        event.preventDefault();
        action();
    }

    keyAction(key) {
        return { m: () => this.actions.sound(), f: () => this.toggleFullScreen(), "/": () => byId("sentence").focus() }[key];
    }

    async toggleFullScreen() {
        try {
            if (document.fullscreenElement) await document.exitFullscreen();
            else await byId("stage").requestFullscreen();
        } catch {
            this.problem(text("problem.fullScreen"));
        }
    }

    // What the server says of itself, and then of this session.
    begin({ size, voices, voice_titles, badge, speech_problem }) {
        const [width, height] = Array.isArray(size) ? size : [size?.width ?? 1, size?.height ?? 1];
        if (size) byId("stage").style.aspectRatio = `${width} / ${height}`;
        byId("badge").hidden = badge === false;
        if (voices) this.showVoices(voices, voice_titles ?? {});
        this.speechless = voices?.length === 0;
        byId("speechless").textContent = speech_problem ? sentence(speech_problem) : "";
        byId("speechless").hidden = !speech_problem;
    }

    // Chosen is one of the browser's language, and English where there is none.
    showVoices(voices, titles) {
        const list = byId("voice");
        const now = [...list.options].map(({ value }) => value);
        if (now.join() === voices.join()) return;
        list.replaceChildren(...voices.map((name) => make("option", { value: name, textContent: titles[name] ?? name })));
        const wanted = [navigator.language.toLowerCase(), navigator.language.slice(0, 2).toLowerCase(), "en-us", "en"];
        const chosen = wanted.map((name) => voices.find((one) => one.toLowerCase().startsWith(name))).find(Boolean);
        if (chosen) list.value = chosen;
    }

    // Where the server wants a token, its field stands in place of the sentence, which nobody can say yet. What is typed in
    // stays in this page's memory.
    showEntry(wanted) {
        byId("entry").hidden = !wanted;
        byId("say").hidden = wanted;
    }

    get token() {
        return byId("token").value.trim();
    }

    showState(state) {
        this.state = state;
        const pill = byId("state");
        pill.dataset.kind = state;
        pill.textContent = byId("announced").textContent = text(`state.${state}`);
        this.speaking = false;
        this.stalledAt = -Infinity;
        const running = RUNNING.includes(state);
        for (const id of ["silence", "pause", "sound", "record", "share", "finish"]) byId(id).disabled = !running;
        for (const id of ["sentence", "voice", "speak"]) byId(id).disabled = !running || this.speechless;
        const paused = state === "paused";
        byId("finish").disabled ||= state === "ending";
        dress(byId("pause"), paused ? "play" : "pause", text(paused ? "bar.goOn" : "bar.pause"));
        this.showStart(state);
        this.showVeil(state);
    }

    showStart(state) {
        const button = byId("start");
        const had = document.activeElement === button;
        button.hidden = ["starting", ...RUNNING].includes(state);
        button.querySelector("span").textContent = text(state === "ended" ? "start.again" : "start");
        if (had && button.hidden) byId("stage").focus({ preventScroll: true });
        if (state === "starting") this.shown = false;
    }

    showVeil(state) {
        const words = { starting: "veil.starting", lost: "veil.lost", paused: "veil.paused", ending: "veil.ending" }[state];
        byId("veil").hidden = !words;
        byId("veil").textContent = words ? text(words) : "";
        byId("stage").toggleAttribute("data-dim", state === "lost" || state === "ended");
    }

    setSpeaking(speaking) {
        this.speaking = speaking;
        this.showMoment();
    }

    // A stall is shown for two seconds: a stream slower than it plays stalls at every chunk.
    showStall(stalled, factor) {
        if (stalled) this.stalledAt = performance.now();
        this.factor = factor;
        this.showMoment();
    }

    // What it does while it is live: it is not read out, as the states are.
    showMoment() {
        if (this.state !== "live") return;
        const buffering = performance.now() - this.stalledAt < STALLED_FOR;
        const slow = buffering && this.factor !== null && this.factor < 1;
        const key = slow ? "state.slow" : buffering ? "state.buffering" : this.speaking ? "state.speaking" : "state.live";
        const words = text(key, { factor: this.factor?.toFixed(2) });
        if (byId("state").textContent !== words) byId("state").textContent = words;
        byId("state").dataset.kind = buffering ? "buffering" : "live";
    }

    // The first picture takes the portrait's place.
    showPicture(element) {
        if (this.shown) return;
        this.shown = true;
        byId("poster").hidden = true;
        for (const id of ["canvas", "video"]) byId(id).hidden = byId(id) !== element;
    }

    showPoster() {
        byId("poster").hidden = false;
        byId("canvas").hidden = byId("video").hidden = true;
    }

    showSound(on) {
        const key = on ? "bar.mute" : "bar.unmute";
        dress(byId("sound"), on ? "sound" : "silence", text(key), text(`${key}.hint`));
    }

    showRecording(running) {
        const key = running ? "bar.recordStop" : "bar.record";
        dress(byId("record"), "record", text(key), text(`${key}.hint`));
        byId("record").toggleAttribute("data-running", running);
    }

    showFigures(parts) {
        byId("figures").replaceChildren(...(parts ?? [text("figures.none")]).map((part) => make("span", { textContent: part })));
    }

    problem(words) {
        if (byId("problem").textContent !== words) byId("problem").textContent = words;
    }

    notice(words) {
        clearTimeout(this.fading);
        byId("notice").textContent = words;
        this.fading = setTimeout(() => { byId("notice").textContent = this.standing ?? ""; }, NOTICE);
    }

    // Stays where no notice is shown.
    fallback(words) {
        this.standing = words;
        byId("notice").textContent = words;
    }
}
