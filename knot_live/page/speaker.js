// The master clock: where in the stream's sound we are, from the audio device. Where the page may not play sound yet, a
// timer takes its place, so that pictures move all the same.

import { SoundRing } from "./sound_ring.js";

const TICK = 20; // milliseconds of the timer
const PATIENCE = 700; // milliseconds in which an audio device must have begun

// Sound of `rate` samples a second, by the audio device. `start` must be called from a click.
export class Speaker {
    constructor({ rate, onReport }) {
        Object.assign(this, { rate, onReport });
        this.report = { read: 0, held: 0, running: false, stalls: 0, played: 0, peak: 0, time: 0, begun: false };
        this.volume = 1;
        this.quiet = false; // from the call to mute until the worklet, which has heard of it, plays again
        this.mutes = 0;
    }

    // Whether sound may be played.
    async start() {
        this.context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
        this.context.resume().catch(() => {}); // refused where nobody has clicked yet
        await this.context.audioWorklet.addModule(new URL("speaker_worklet.js", import.meta.url));
        this.connect();
        const until = performance.now() + PATIENCE;
        while (!this.context.currentTime && performance.now() < until) await new Promise((go) => setTimeout(go, 10));
        return this.context.currentTime > 0;
    }

    connect() {
        this.node = new AudioWorkletNode(this.context, "knot-speaker", { numberOfInputs: 0, outputChannelCount: [1] });
        this.gain = this.context.createGain();
        this.gain.gain.value = this.volume;
        this.node.connect(this.gain).connect(this.context.destination);
        this.node.port.onmessage = ({ data }) => {
            this.report = data;
            if (this.quiet && !data.muted && data.mutes === this.mutes) this.setQuiet(false);
            this.onReport?.(data);
        };
    }

    get silent() {
        return this.context?.state !== "running";
    }

    tell(...message) {
        if (message[0] === "mute") {
            this.mutes++;
            this.setQuiet(true);
        }
        this.node.port.postMessage(message);
    }

    // The sample that is heard now.
    position() {
        const { read, held, running, time } = this.report;
        const since = running ? Math.max(0, (this.context.currentTime - time) * this.rate) : 0;
        return read + Math.min(since, held) - this.latency() * this.rate;
    }

    latency() {
        return this.context.outputLatency || this.context.baseLatency || 0;
    }

    // The worklet takes its messages when it comes to them, which is late on a busy machine; the gain heeds at once.
    setQuiet(quiet) {
        this.quiet = quiet;
        this.setVolume(this.volume);
    }

    setVolume(volume) {
        this.volume = volume;
        this.gain?.gain.setTargetAtTime(this.quiet ? 0 : volume, this.context.currentTime, 0.005);
    }

    close() {
        this.node?.disconnect();
        this.context?.close();
    }
}

// The same without a device: time passes, nothing is heard.
export class SilentSpeaker {
    constructor({ rate, onReport }) {
        Object.assign(this, { rate, onReport });
        this.ring = new SoundRing({ rate });
        this.report = this.ring.report();
        this.silent = true;
    }

    async start() {
        this.from = performance.now();
        this.taken = 0;
        this.report = this.ring.report();
        this.timer = setInterval(() => this.tick(), TICK);
    }

    tick() {
        const until = Math.round(((performance.now() - this.from) * this.rate) / 1000);
        this.ring.take(until - this.taken);
        this.taken = until;
        this.report = this.ring.report();
        this.onReport?.(this.report);
    }

    tell(name, ...values) {
        this.ring[name](...values);
    }

    position() {
        const since = performance.now() - this.from - (this.taken * 1000) / this.rate;
        return this.ring.read + (this.ring.running ? Math.min((since * this.rate) / 1000, this.ring.held) : 0);
    }

    setVolume() {}

    close() {
        clearInterval(this.timer);
    }
}
