// A player of a video that is still being made, with what can be asked of the stream beside it. Whatever goes wrong in it
// ends the player and nothing else.

import { element } from "./element.js";
import { figures } from "./chunk_figures.js";
import { LiveFeed } from "./live_feed.js";
import { BUTTON, button, dress, playerParts, STYLESHEET } from "./player_parts.js";
import { popOut } from "./pop_out.js";
import { text } from "./editor_texts.js";

const LIVE_WITHIN = 3; // seconds behind the newest picture that still count as live: a chunk, and a key frame's distance
const SEEK = 5; // seconds of an arrow key
const STALLED_FOR = 2000; // milliseconds that a stall is told of: one that is slower than it plays stalls at every chunk
const LOOK = 250; // milliseconds between two looks at where the player stands

export class LivePlayer {
    // `ask(action)` asks the stream and gives its state; `onLeft` is called when full screen or its own window is left.
    constructor({ viewUrl, ask, onFail, onLeft = () => {} }) {
        Object.assign(this, { viewUrl, ask, onFail, onLeft });
        this.state = "running"; // of the stream: running, paused, finishing
        this.waiting = this.ended = this.finished = this.failed = false;
        this.piece = null; // the newest, with its chunk's figures
        Object.assign(this, playerParts({
            tell: (action) => this.tell(action), togglePlayback: () => this.togglePlayback(), goLive: () => this.goLive(),
            mute: () => this.setMuted(!this.video.muted), setVolume: (volume) => this.setVolume(volume),
            popOut: () => this.popOut(), toggleFullScreen: () => this.toggleFullScreen(), copyPlace: () => this.copyPlace(),
            pauseOrGoOn: () => this.tell(this.state === "paused" ? "go_on" : "pause"),
        }));
        this.feed = new LiveFeed({ video: this.video, viewUrl, onFail: (problem) => this.fail(problem) });
        this.follow();
        this.looking = setInterval(() => this.show(), LOOK);
        this.show();
    }

    follow() {
        this.stage.addEventListener("keydown", (event) => this.onKey(event));
        this.onVisible = () => {
            if (!document.hidden && !this.pausedByHand && !this.ended) this.goLive();
        };
        document.addEventListener("visibilitychange", this.onVisible);
        this.part.addEventListener("fullscreenchange", () => {
            if (!this.away()) this.onLeft();
        });
    }

    // What ComfyUI tells of the stream: that it begins, a chunk, that it waits, its end.
    hear(event) {
        if (this.failed) return;
        this.state = event.state ?? this.state;
        this.waiting = !!event.waiting;
        if (event.target) this.showPath(event.target);
        const piece = event.waiting ? event.newest : event;
        if (piece?.file && piece.chunk !== this.piece?.chunk) this.add(piece);
        if (event.ended) this.end(event.finished);
        this.show();
    }

    add(piece) {
        this.piece = piece;
        this.text.textContent = this.text.title = figures(piece);
        this.soundless = !piece.mime.includes("mp4a");
        this.feed.announce(piece);
    }

    // The stream is over; what was made stays to be looked at.
    end(finished) {
        this.ended = true;
        this.finished = finished;
        this.waiting = false;
        this.feed.end();
        this.show();
    }

    // The file itself, once it is finished, in place of what was held of it.
    showWhole() {
        if (!this.piece) return;
        const { currentTime, muted, volume } = this.video;
        this.end(true);
        this.feed.close();
        Object.assign(this.video, { src: this.viewUrl(this.piece.file), loop: true, muted, volume });
        this.video.addEventListener("loadedmetadata", () => { this.video.currentTime = currentTime; }, { once: true });
        this.video.play().catch(() => {});
    }

    remove() {
        this.failed = true; // what is still under way must not come back
        clearInterval(this.looking);
        document.removeEventListener("visibilitychange", this.onVisible);
        this.video.pause();
        this.leave?.();
        if (document.fullscreenElement === this.part) document.exitFullscreen().catch(() => {});
        this.feed.close();
    }

    fail(problem) {
        if (this.failed) return;
        console.warn("Knot Forcing: no live preview", problem);
        this.remove();
        this.onFail();
    }

    // Seconds of the video that are made and not yet played.
    behind() {
        return this.piece ? Math.max(0, this.piece.frames / this.piece.rate - this.video.currentTime) : 0;
    }

    goLive() {
        this.pausedByHand = false;
        this.feed.toLiveEdge();
        this.video.play().catch(() => {});
        this.show();
    }

    togglePlayback() {
        this.pausedByHand = !this.video.paused;
        if (this.video.paused) this.video.play().catch(() => {});
        else this.video.pause();
        this.show();
    }

    setMuted(muted) {
        this.video.muted = muted;
        if (!muted && this.video.volume === 0) this.setVolume(1);
        this.show();
    }

    setVolume(volume) {
        this.video.volume = volume;
        this.video.muted = volume === 0;
        this.show();
    }

    async tell(action) {
        this.problem.textContent = "";
        try {
            this.state = await this.ask(action);
            if (this.state === "running") this.waiting = false;
        } catch (problem) {
            this.problem.textContent = problem.message;
        }
        this.show();
    }

    // Whether it is looked at elsewhere than in the node.
    away() {
        return !!this.leave || document.fullscreenElement === this.part;
    }

    toggleFullScreen() {
        const page = this.part.ownerDocument;
        const done = page.fullscreenElement ? page.exitFullscreen() : this.part.requestFullscreen();
        Promise.resolve(done).then(() => this.show(), () => {});
    }

    async popOut() {
        if (this.leave) return this.leave();
        const place = element("div", {}, { className: "kf-elsewhere", textContent: text("player.elsewhere") });
        const back = button("popOut", "", () => this.leave?.(), `${BUTTON} kf-framed`);
        dress(back, "popOut", "", text("player.bringBack"));
        place.append(back);
        try {
            this.leave = await popOut(this.part, this.video, STYLESHEET, () => this.cameBack(place));
        } catch {
            return; // the browser or its user would not have it
        }
        if (this.part.ownerDocument !== document) this.element.append(place);
        this.resume();
    }

    cameBack(place) {
        this.leave = undefined;
        place.remove();
        this.element.append(this.part);
        this.resume();
        if (!this.failed) this.onLeft();
    }

    // A video that is put elsewhere in the page stops.
    resume() {
        if (!this.pausedByHand && !this.failed) this.video.play().catch(() => {});
        this.show();
    }

    showPath({ filename, subfolder, type }) {
        this.place.textContent = this.place.title = [type, subfolder, filename].filter(Boolean).join("/");
        this.path.hidden = false;
    }

    async copyPlace() {
        await navigator.clipboard.writeText(this.place.textContent).catch(() => {});
        dress(this.copy, "done", text("player.copied"));
        setTimeout(() => dress(this.copy, "copy", text("player.copy")), 1500);
    }

    onKey(event) {
        if (event.target !== this.stage || event.ctrlKey || event.metaKey || event.altKey) return;
        const seek = (seconds) => () => { this.video.currentTime += seconds; };
        const action = {
            " ": () => this.togglePlayback(), k: () => this.togglePlayback(), l: () => this.goLive(),
            m: () => this.setMuted(!this.video.muted), f: () => this.toggleFullScreen(),
            arrowleft: seek(-SEEK), arrowright: seek(SEEK),
        }[event.key.toLowerCase()];
        if (!action) return;
        event.preventDefault();
        event.stopPropagation(); // the editor has shortcuts of its own
        action();
    }

    // Everything that changes while it plays.
    show() {
        const { video } = this;
        const [kind, words] = this.standing();
        if (this.pill.dataset.kind !== kind) this.said.textContent = words;
        this.pill.dataset.kind = kind;
        this.pill.textContent = words;
        this.pill.disabled = kind !== "behind";
        this.pill.title = kind === "behind" ? text("player.goLive") : "";
        this.live.hidden = this.ended || this.behind() <= LIVE_WITHIN;
        dress(this.play, video.paused ? "play" : "pause", text(video.paused ? "player.play" : "player.pausePlayback"));
        dress(this.speaker, video.muted ? "silence" : "sound", text(video.muted ? "player.unmute" : "player.mute"));
        this.speaker.hidden = this.volume.hidden = !!this.soundless;
        const big = this.part.ownerDocument.fullscreenElement === this.part;
        dress(this.bigger, big ? "smaller" : "fullScreen", text(big ? "player.leaveFullScreen" : "player.fullScreen"));
        this.stage.toggleAttribute("data-idle", video.paused);
        const paused = this.state === "paused";
        dress(this.pause, paused ? "play" : "pause", text(paused ? "stream.goOnHint" : "stream.pauseHint"),
            text(paused ? "stream.goOn" : "stream.pause"));
        this.pause.hidden = this.finish.hidden = this.bar.hidden = this.ended;
        if (video.controls !== this.ended) video.controls = this.ended; // the browser's own, which can seek
        this.pause.disabled = this.finish.disabled = this.state === "finishing";
    }

    // Of what kind the moment is, and in words.
    standing() {
        if (this.ended) return this.finished ? ["finished", text("state.finished")] : ["stopped", text("state.stopped")];
        if (this.state === "finishing") return ["finishing", text("state.finishing")];
        if (this.state === "paused") return ["paused", text(this.waiting ? "state.paused" : "state.pausing")];
        if (!this.piece) return ["starting", text("state.starting")];
        if (this.behind() > LIVE_WITHIN) return ["behind", text("state.behind", { seconds: Math.round(this.behind()) })];
        if (this.video.paused && this.pausedByHand) return ["idle", text("state.playbackPaused")];
        if (this.stalls()) return ["buffering", this.buffering()];
        return ["live", text("state.live")];
    }

    stalls() {
        if (this.video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) this.stalledAt = performance.now();
        return performance.now() - (this.stalledAt ?? -Infinity) < STALLED_FOR;
    }

    buffering() {
        const factor = this.piece.fps / this.piece.rate;
        return factor < 1 ? text("state.bufferingAt", { factor: factor.toFixed(2) }) : text("state.buffering");
    }
}
