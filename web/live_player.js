// Plays a video that is still being made: pieces of a fragmented MP4, fetched from ComfyUI's /view as they are
// announced, through Media Source Extensions. Whatever goes wrong here ends the player and nothing else.

import { element } from "./element.js";

const BEHIND_KEPT = 30; // seconds already played that stay seekable; browsers bound what they hold
const MOST_AHEAD = 120; // seconds not yet played: a stream may be much faster than it plays, or the video be paused
const WITHOUT_END = 1e9; // frames: what a stream is given that goes on until it is stopped
const MOST_CAUGHT_UP = 64 * 2 ** 20; // bytes: a player that comes late fetches the video from its beginning

// Drawn, since not every system has these among its letters.
const CONE = "M2 6h3l4-4v12l-4-4H2z";
const SPEAKERS = {
    true: `${CONE} M11 6l4 4 M15 6l-4 4`,
    false: `${CONE} M11 5a4 4 0 0 1 0 6 M13 3a7 7 0 0 1 0 10`,
};

function speaker(muted) {
    return `<svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.3">`
        + `<path d="${SPEAKERS[muted]}"/></svg>`;
}

export class LivePlayer {
    constructor({ viewUrl, onFail }) {
        this.viewUrl = viewUrl;
        this.onFail = onFail;
        this.failed = this.ended = false;
        this.fetched = 0; // bytes of the file that were appended
        this.work = Promise.resolve();
        this.video = element("video", { width: "100%", flex: "1 1 0", minHeight: "0", objectFit: "contain" }, {
            muted: true, autoplay: true, playsInline: true,
        });
        this.speaker = element("button", {
            flex: "none", cursor: "pointer", border: "none", background: "none", color: "inherit", padding: "0",
        }, { type: "button", title: "Sound", innerHTML: speaker(true) });
        this.speaker.addEventListener("click", () => this.setMuted(!this.video.muted));
        this.text = element("span", { flex: "1" });
        const bar = element("div", {
            display: "flex", flex: "none", gap: "6px", paddingTop: "5px", font: "11px/1.3 sans-serif",
            color: "var(--input-text, #ccc)",
        });
        bar.append(this.speaker, this.text);
        this.element = element("div", { display: "flex", flexDirection: "column", width: "100%", height: "100%" }, {
            className: "knot-forcing-live",
        });
        this.element.append(this.video, bar);
    }

    setMuted(muted) {
        this.video.muted = muted;
        this.speaker.innerHTML = speaker(muted);
    }

    // One announced piece: {file, start, stop, mime}, and the figures of its chunk.
    add(piece) {
        if (this.failed) return;
        this.text.textContent = this.text.title = figures(piece);
        this.speaker.style.display = piece.mime.includes("mp4a") ? "" : "none";
        this.work = this.work.then(() => this.append(piece)).catch((problem) => this.fail(problem));
    }

    // The stream is over; what was made stays to be looked at.
    end(finished) {
        this.ended = true;
        this.work = this.work.then(() => {
            if (this.failed || this.source?.readyState !== "open") return;
            this.source.endOfStream();
            this.video.controls = true;
            if (!finished) this.text.textContent += " · stopped: what was made is kept";
        }).catch((problem) => this.fail(problem));
    }

    remove() {
        this.failed = true; // what is still under way must not come back
        this.video.pause();
        if (this.url) URL.revokeObjectURL(this.url);
        this.video.removeAttribute("src");
        this.video.load();
    }

    fail(problem) {
        if (this.failed) return;
        console.warn("Knot Forcing: no live preview", problem);
        this.remove();
        this.onFail();
    }

    async append({ file, start, stop, mime }) {
        await this.untilNeeded();
        if (this.failed || this.ahead() > MOST_AHEAD) return;
        if (!this.buffer) await this.open(mime);
        const from = Math.min(start, this.fetched); // a page that was loaded in the middle begins with the header
        if (stop - from > MOST_CAUGHT_UP) throw new Error(`${stop - from} bytes behind`);
        const data = await this.fetch(file, from, stop);
        if (this.failed) return;
        await this.done(() => this.buffer.appendBuffer(data));
        this.fetched = stop;
        const old = this.video.currentTime - BEHIND_KEPT;
        if (this.buffer.buffered.length && this.buffer.buffered.start(0) < old - BEHIND_KEPT)
            await this.done(() => this.buffer.remove(0, old));
    }

    ahead() {
        const held = this.buffer?.buffered;
        return held?.length ? held.end(held.length - 1) - this.video.currentTime : 0;
    }

    // What is announced waits as a place in the file. Of a stream that was stopped the player ends where it is then.
    async untilNeeded() {
        while (!this.failed && !this.ended && this.ahead() > MOST_AHEAD)
            await new Promise((resolve) => setTimeout(resolve, 250));
    }

    async open(mime) {
        if (!window.MediaSource?.isTypeSupported(mime)) throw new Error(`this browser does not play ${mime}`);
        this.source = new MediaSource();
        this.url = URL.createObjectURL(this.source);
        const opened = new Promise((resolve) => this.source.addEventListener("sourceopen", resolve, { once: true }));
        this.video.src = this.url;
        await opened;
        this.buffer = this.source.addSourceBuffer(mime);
        this.video.play().catch(() => {}); // a page in the background may be told to wait
    }

    async fetch(file, start, stop) {
        const answer = await fetch(this.viewUrl(file), {
            headers: { Range: `bytes=${start}-${stop - 1}` }, cache: "no-store",
        });
        if (!answer.ok) throw new Error(`/view answered ${answer.status}`);
        const data = await answer.arrayBuffer();
        return answer.status === 206 ? data : data.slice(start, stop);
    }

    done(action) {
        return new Promise((resolve, reject) => {
            const error = () => reject(new Error("the browser could not take in a piece"));
            this.buffer.addEventListener("error", error, { once: true });
            this.buffer.addEventListener("updateend", () => {
                this.buffer.removeEventListener("error", error);
                resolve();
            }, { once: true });
            action();
        });
    }
}

// What stands under the picture.
export function figures({ chunk, frames, all_frames, rate, fps, latency, memory_mib, device_mib }) {
    const memory = device_mib > 0 ? `VRAM ${gib(device_mib)}` : `RAM ${gib(memory_mib)}`;
    const whole = all_frames < WITHOUT_END ? ` / ${(all_frames / rate).toFixed(1)}` : "";
    return [
        `chunk ${chunk + 1}`,
        `${(frames / rate).toFixed(1)}${whole} s`,
        `${fps.toFixed(1)} fps = ${(fps / rate).toFixed(2)}× real time`,
        `latency ${latency.toFixed(2)} s`,
        memory,
    ].join(" · ");
}

function gib(mib) {
    return mib < 1024 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}
