// Plays a live session: H.264 through WebCodecs, sound through an AudioWorklet, whose clock is the master. A picture is
// drawn when its time has come by that clock. It needs a canvas and nothing else of the page; ComfyUI's widget uses it too.

import { FLAG, isOlder, KIND } from "./live_client.js";
import { Played } from "./played.js";
import { SilentSpeaker, Speaker } from "./speaker.js";

const SOUND_RATE = 24_000; // samples a second, of all sound that the server sends
const AHEAD = 8; // pictures decoded before their time: a decoder may own few
const SHARP = 3; // the canvas has at most this many times the stream's pixels, drawn smoothly
const TRIES = 3; // decoders that may fail in a row
const FORGETS = 0.98; // a slow picture's time counts less and less, picture by picture

export async function canDecode() {
    if (!("VideoDecoder" in globalThis) || !("AudioWorkletNode" in globalThis)) return false;
    const { supported } = await VideoDecoder.isConfigSupported({ codec: "avc1.42E01F" });
    return supported;
}

// The codec's name for WebCodecs, from the sequence parameter set in an Annex B access unit; null where there is none.
export function codecOf(unit) {
    for (let i = 0; i + 6 < unit.length; i++) {
        if (unit[i] || unit[i + 1] || unit[i + 2] !== 1 || (unit[i + 3] & 31) !== 7) continue;
        return `avc1.${[4, 5, 6].map((k) => unit[i + k].toString(16).padStart(2, "0")).join("")}`;
    }
    return null;
}

export class LivePlayer {
    static formats = { video: "h264", sound: "pcm16" };

    // `onFail(reason)` once it can not go on; the other callbacks are those of Played.
    constructor({ canvas, fps, onPlayed, onPaint, onFail = () => {} }) {
        Object.assign(this, { canvas, onFail });
        this.element = canvas;
        this.samplesPerFrame = SOUND_RATE / fps;
        this.played = new Played({ fps, onPlayed, onPaint });
        this.epoch = this.cutAt = 0;
        this.encoded = []; // access units that wait: {epoch, frame, key, data}
        this.decoding = new Map(); // time stamp -> the access unit that is being decoded
        this.ready = []; // decoded pictures that wait: {epoch, frame, picture}
        this.stamp = this.failures = 0;
        this.waiting = []; // for the speaker, while it begins
        this.loudest = 0;
        this.context = canvas.getContext("2d", { alpha: false });
        this.draw();
    }

    // Called from a click, it has sound; without one it may have to be silent until it is called again.
    async start() {
        const [before, muted] = [this.speaker, this.speaker?.report.muted];
        this.speaker = null;
        const values = { rate: SOUND_RATE, onReport: (report) => this.onReport(report) };
        let speaker = new Speaker(values);
        if (!(await speaker.start())) {
            speaker.close();
            speaker = new SilentSpeaker(values);
            await speaker.start();
        }
        before?.close();
        this.speaker = speaker;
        if (muted) this.mute();
        speaker.setVolume(this.volume ?? 1);
        for (const message of this.waiting.splice(0)) speaker.tell(...message);
    }

    // What comes while the audio device begins is kept for it.
    tell(...message) {
        if (this.speaker) this.speaker.tell(...message);
        else this.waiting.push(message);
    }

    get silent() {
        return !this.speaker || this.speaker.silent;
    }

    setVolume(volume) {
        this.volume = volume;
        this.speaker?.setVolume(volume);
    }

    accept({ kind, flags, epoch, position, payload }) {
        const frame = kind === KIND.sound ? position / this.samplesPerFrame : position;
        if (isOlder(epoch, this.epoch) && frame >= this.cutAt) return; // what stands before a cut may come after its news
        if (!isOlder(epoch, this.epoch)) this.epoch = epoch;
        if (kind === KIND.sound) this.hear(position, payload);
        else if (kind === KIND.video) this.see({ epoch, frame: position, key: !!(flags & FLAG.key), data: payload });
    }

    hear(position, payload) {
        const samples = new Float32Array(payload.byteLength >> 1);
        const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
        for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
        this.tell("push", position, samples);
    }

    // A key frame takes the place of what is held from it on: after a cut, and after the connection was lost.
    see(unit) {
        if (unit.key) this.forget(unit.frame);
        this.encoded.push(unit);
        this.played.hold(unit.frame);
        this.decode();
    }

    forget(frame) {
        this.encoded = this.encoded.filter((unit) => unit.frame < frame);
        for (const unit of this.decoding.values()) unit.dropped ||= unit.frame >= frame;
        const [kept, gone] = [[], []];
        for (const one of this.ready) (one.frame < frame ? kept : gone).push(one);
        for (const { picture } of gone) picture.close();
        this.ready = kept;
    }

    // Silent at once, until the cut's place is reached.
    mute() {
        this.tell("mute");
    }

    unmute() {
        this.tell("unmute");
    }

    cut(epoch, firstFrame) {
        this.epoch = epoch & 0xffff;
        this.cutAt = firstFrame;
        this.played.cut(firstFrame);
        this.forget(firstFrame);
        this.tell("cut", Math.round(firstFrame * this.samplesPerFrame));
    }

    setLast(last) {
        this.tell("setLast", last);
    }

    decode() {
        while (this.encoded.length && this.decoding.size + this.ready.length < AHEAD) {
            const unit = this.encoded.shift();
            if (this.decoder?.state !== "configured" && !this.configure(unit)) continue;
            const timestamp = this.stamp++;
            this.decoding.set(timestamp, { ...unit, since: performance.now() });
            this.decoder.decode(new EncodedVideoChunk({ type: unit.key ? "key" : "delta", timestamp, data: unit.data }));
        }
    }

    // A decoder begins with a key frame; what comes before one is left out.
    configure(unit) {
        const codec = unit.key && codecOf(unit.data);
        if (!codec) return false;
        this.decoder = new VideoDecoder({
            output: (picture) => this.onDecoded(picture),
            error: (problem) => this.onDecoderFailed(problem),
        });
        this.decoder.configure({ codec, optimizeForLatency: true, hardwareAcceleration: "prefer-software" });
        return true;
    }

    onDecoded(picture) {
        const unit = this.decoding.get(picture.timestamp);
        this.decoding.delete(picture.timestamp);
        this.failures = 0;
        if (unit) this.decodeTime = Math.max(performance.now() - unit.since, FORGETS * (this.decodeTime ?? 0));
        if (!unit || unit.dropped || this.closed) picture.close();
        else this.ready.push({ ...unit, picture });
        if (!this.closed) this.decode();
    }

    onDecoderFailed(problem) {
        this.decoding.clear();
        if (this.closed) return;
        if (++this.failures >= TRIES) this.onFail(problem.message);
    }

    onReport(report) {
        this.loudest = Math.max(this.loudest * 0.9, report.peak);
        if (document.hidden) this.show();
        this.played.acknowledge((report.target - report.least) / SOUND_RATE);
    }

    draw() {
        this.loop = requestAnimationFrame(() => this.draw());
        this.show();
    }

    // The newest picture that is due; those before it came too late.
    show() {
        const due = this.due();
        let newest = null;
        while (this.ready.length && this.ready[0].frame <= due) {
            if (newest) this.drop(newest);
            newest = this.ready.shift();
        }
        if (newest) this.paint(newest);
        this.decode();
    }

    // The frame whose time has come; before anything was shown, the first there is.
    due() {
        const begun = this.speaker?.report.begun;
        const frame = begun ? Math.floor(this.speaker.position() / this.samplesPerFrame + 1e-3) : -1;
        return this.played.frame < 0 ? Math.max(frame, this.ready[0]?.frame ?? -1) : frame;
    }

    drop({ picture }) {
        this.played.dropped++;
        picture.close();
    }

    paint({ epoch, frame, picture }) {
        if (document.hidden) this.played.pass(epoch, frame);
        else {
            this.fit(picture);
            this.context.drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
            this.played.paint(epoch, frame);
        }
        picture.close();
    }

    // As many pixels as are shown, so that the enlargement is a smooth one.
    fit({ displayWidth, displayHeight }) {
        const shown = (this.canvas.clientWidth * (globalThis.devicePixelRatio || 1)) / displayWidth;
        const scale = Math.min(SHARP, Math.max(1, shown));
        const [width, height] = [Math.round(displayWidth * scale), Math.round(displayHeight * scale)];
        if (this.canvas.width === width && this.canvas.height === height) return;
        Object.assign(this.canvas, { width, height });
        this.context.imageSmoothingQuality = "high";
    }

    get playedFrame() {
        return this.played.frame;
    }

    get figures() {
        const { held = 0, stalls = 0, target = 0, begun, running } = this.speaker?.report ?? {};
        const { rate: fps, painted, dropped } = this.played;
        const stalled = !!begun && !running;
        return { fps, painted, dropped, stalls, stalled, buffer: held / SOUND_RATE, target: target / SOUND_RATE };
    }

    close() {
        this.closed = true;
        cancelAnimationFrame(this.loop);
        this.forget(0);
        if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
        this.speaker?.close();
    }
}
