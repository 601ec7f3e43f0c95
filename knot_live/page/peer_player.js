// Shows what a peer connection brings, in a <video>: the browser keeps pictures and sound in step, and waits as long as the
// network wants. The same calls as the other players; nothing is acknowledged, since the server plays.

import { Played } from "./played.js";
import { VideoSound } from "./video_sound.js";

const RTP_RATE = 90_000; // of its clock for pictures: RFC 6184
const ASKED = 1000; // milliseconds between two looks at the browser's statistics
const STALL = 0.2; // seconds without a picture

export class PeerPlayer extends VideoSound {
    static formats = { video: "h264", sound: "opus" };
    static peer = true;

    constructor({ video, fps, onPaint }) {
        super(video);
        this.fps = fps;
        this.element = video;
        this.played = new Played({ fps, onPaint });
        this.places = []; // [{frame, seconds}]: which frame left at which second of RTP's clock
        this.epoch = this.stalls = this.buffer = this.loudest = 0;
        Object.assign(video, { playsInline: true, controls: false });
    }

    // A connection's tracks; after a lost one another's.
    attach(stream, peer) {
        this.peer = peer;
        this.first = null; // RTP's clock at the first picture
        this.video.srcObject = stream;
        clearInterval(this.asking);
        this.asking = setInterval(() => this.ask(), ASKED);
        this.start();
        if (!this.looking) this.nextPicture();
    }

    accept() {}

    // The frame that left at that second; what leaves behind it follows, until it is said anew.
    place(frame, seconds) {
        this.places.push({ frame, seconds });
        this.places = this.places.slice(-20);
    }

    nextPicture() {
        this.looking = true;
        this.video.requestVideoFrameCallback((now, { rtpTimestamp }) => {
            if (this.closed) return;
            if (this.at && now - this.at > STALL * 1000 && !this.last) this.stalls++;
            this.at = now;
            this.paint(rtpTimestamp);
            this.nextPicture();
        });
    }

    paint(stamp) {
        this.first ??= { stamp, seconds: this.places[0]?.seconds ?? 0 };
        const seconds = this.first.seconds + (((stamp ?? 0) - this.first.stamp) >>> 0) / RTP_RATE;
        const place = this.places.findLast((one) => one.seconds <= seconds + 1e-3) ?? { frame: 0, seconds: 0 };
        const frame = place.frame + Math.round((seconds - place.seconds) * this.fps);
        this.played.paint(this.epoch, frame);
        this.heardUpTo(frame);
    }

    cut(epoch, firstFrame) {
        this.epoch = epoch;
        this.endSilenceAt(firstFrame);
    }

    setLast(last) {
        this.last = last;
    }

    // What lies ready, in seconds: the mean of the time since it was asked last.
    async ask() {
        const stats = await this.peer.getStats().catch(() => []);
        for (const one of stats.values()) {
            if (one.type !== "inbound-rtp" || one.kind !== "video" || !one.jitterBufferEmittedCount) continue;
            const { delay = 0, count = 0 } = this.asked ?? {};
            const { jitterBufferDelay, jitterBufferEmittedCount, framesDropped } = one;
            if (jitterBufferEmittedCount > count) this.buffer = (jitterBufferDelay - delay) / (jitterBufferEmittedCount - count);
            this.asked = { delay: jitterBufferDelay, count: jitterBufferEmittedCount };
            this.played.dropped = framesDropped ?? 0;
        }
    }

    get playedFrame() {
        return this.played.frame;
    }

    get figures() {
        const { rate: fps, painted, dropped } = this.played;
        const stalled = painted > 0 && !this.last && performance.now() - this.at > 1000;
        return { fps, painted, dropped, stalls: this.stalls, stalled, buffer: this.buffer, target: this.buffer };
    }

    close() {
        this.closed = true;
        clearInterval(this.asking);
        this.video.srcObject = null;
    }
}
