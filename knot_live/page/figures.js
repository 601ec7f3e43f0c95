// The line of honest figures: all but the chunk's time are measured here, by what was sent, heard and painted.

import { text } from "./texts.js";

const REMEMBERED = 20; // controls, for the median
const RECENT = 10_000; // milliseconds of arrivals that are remembered
const LOST = 10_000; // milliseconds after which a control is not waited for any more

export class Figures {
    constructor() {
        this.sent = new Map(); // event id -> when it was sent, milliseconds
        this.awaited = []; // controls that took hold: {frame, sentAt}
        this.delays = []; // seconds from sending to the first painted frame of that chunk
        this.chunkSeconds = null;
        this.arrivals = []; // of the last seconds: {at, frames}
    }

    onSent(eventId) {
        if (eventId) this.sent.set(eventId, performance.now());
        for (const [id, at] of this.sent) if (performance.now() - at > LOST) this.sent.delete(id);
    }

    onApplied({ event_id, frame }) {
        const sentAt = this.sent.get(event_id);
        this.sent.delete(event_id);
        if (sentAt !== undefined) this.awaited.push({ frame, sentAt });
    }

    onPaint(frame, now) {
        const visible = this.awaited.filter((one) => one.frame <= frame);
        if (!visible.length) return;
        this.awaited = this.awaited.filter((one) => one.frame > frame);
        this.delays.push(...visible.map(({ sentAt }) => (now - sentAt) / 1000));
        this.delays = this.delays.slice(-REMEMBERED);
    }

    // What was to come from there on comes anew: a control that waited for it is visible no sooner than that.
    onCut(firstFrame) {
        for (const one of this.awaited) one.frame = Math.max(one.frame, firstFrame);
    }

    onChunk({ seconds, frames }) {
        this.chunkSeconds = seconds?.chunk ?? this.chunkSeconds;
        const at = performance.now();
        this.arrivals = this.arrivals.filter((one) => at - one.at < RECENT);
        this.arrivals.push({ at, frames });
    }

    // How much came in a second, of what is played in one; null where too little came to say it.
    factor(fps) {
        const [first, ...later] = this.arrivals;
        const seconds = (later.at(-1)?.at - first?.at) / 1000;
        return seconds > 1 ? later.reduce((sum, { frames }) => sum + frames, 0) / fps / seconds : null;
    }

    get median() {
        const sorted = [...this.delays].sort((a, b) => a - b);
        return sorted[sorted.length >> 1];
    }

    line({ fps, buffer, stalls }) {
        return [
            this.visible(),
            text("figures.chunk", { seconds: this.chunkSeconds?.toFixed(2) ?? "–" }),
            text("figures.fps", { fps }),
            text("figures.buffer", { seconds: buffer.toFixed(2) }),
            text(stalls === 1 ? "figures.stalls.1" : "figures.stalls", { stalls }),
        ];
    }

    visible() {
        const { delays } = this;
        if (!delays.length) return text("figures.visibleNone");
        const values = { seconds: delays.at(-1).toFixed(2), median: this.median.toFixed(2), count: delays.length };
        return text(delays.length < 3 ? "figures.visible" : "figures.visibleMedian", values);
    }
}
