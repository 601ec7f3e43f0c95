// The fall-back where there is no WebCodecs, as on a page without a secure address: fragmented MP4 through Media Source
// Extensions into a <video>. Later than the other by some tenths of a second; the same calls.

import { FLAG, isOlder, KIND } from "./live_client.js";
import { Played } from "./played.js";
import { VideoSound } from "./video_sound.js";

const BEHIND_KEPT = 10; // seconds that were played and are still held
const START_AT = 0.1; // seconds held before it starts
const NEEDED = [0.25, 0.1, 0.8]; // seconds that a browser wants held before it plays: at first, more by stall, at most
const GAP = 0.1; // seconds before a gap in which a browser stops already
const STUCK = 400; // milliseconds that it may stand still with so much held

export function canPlaySegments() {
    return !!globalThis.MediaSource?.isTypeSupported('video/mp4; codecs="avc1.42C01F"');
}

// What Media Source wants to know of an initialisation segment: the codecs in it.
export function mimeOf(segment) {
    const words = new TextDecoder("latin1").decode(segment);
    const at = words.indexOf("avcC") + 4;
    const video = [1, 2, 3].map((k) => segment[at + k].toString(16).padStart(2, "0")).join("");
    return `video/mp4; codecs="avc1.${video}${words.includes("Opus") ? ", opus" : words.includes("mp4a") ? ", mp4a.40.2" : ""}"`;
}

export class MediaSourcePlayer extends VideoSound {
    static formats = { video: "fmp4", sound: "pcm16" }; // its sound is inside the segments

    constructor({ video, fps, onPlayed, onPaint, onFail = () => {} }) {
        super(video);
        Object.assign(this, { fps, onFail });
        this.element = video;
        this.played = new Played({ fps, onPlayed, onPaint });
        this.epoch = this.cutAt = this.stalls = this.loudest = 0;
        this.actions = []; // on the source buffer, one after the other: {frame, run}
        this.starts = []; // the first frame of each epoch: [{epoch, frame}], oldest first
        this.movedAt = 0; // milliseconds: when it last moved, or had too little
        this.follow();
    }

    follow() {
        const { video } = this;
        Object.assign(video, { playsInline: true, autoplay: false, controls: false });
        video.addEventListener("waiting", () => this.onWaiting());
        video.addEventListener("error", () => this.closed || this.onFail(video.error?.message ?? ""));
        this.looking = setInterval(() => this.look(), 50);
        this.source = new MediaSource();
        this.source.addEventListener("sourceopen", () => this.work(), { once: true });
        video.src = this.url = URL.createObjectURL(this.source);
        if (video.requestVideoFrameCallback) this.nextPicture();
    }

    nextPicture() {
        this.video.requestVideoFrameCallback((_now, { mediaTime }) => {
            if (this.closed) return;
            this.paint(Math.round(mediaTime * this.fps));
            this.nextPicture();
        });
    }

    paint(frame) {
        if (frame === this.played.frame) return;
        this.played.paint(this.epochOf(frame), frame);
    }

    epochOf(frame) {
        return this.starts.findLast((one) => one.frame <= frame)?.epoch ?? this.epoch;
    }

    accept({ kind, flags, epoch, position, payload }) {
        if (kind !== KIND.segment) return;
        if (flags & FLAG.initialisation) return this.initialise(payload);
        const older = isOlder(epoch, this.epoch);
        if (older && position >= this.cutAt) return; // what stands before a cut may come after its news
        if (!older && (epoch !== this.epoch || !this.starts.length)) this.begin(epoch, position);
        this.forget(position);
        this.act(position, (buffer) => buffer.appendBuffer(payload));
    }

    begin(epoch, frame) {
        this.epoch = epoch;
        this.starts = this.starts.filter((one) => one.frame < frame).slice(-20);
        this.starts.push({ epoch, frame });
    }

    initialise(payload) {
        this.act(-1, (buffer) => buffer.appendBuffer(payload), payload);
    }

    // What waits to be taken in from that frame on is not wanted any more.
    forget(frame) {
        this.actions = this.actions.filter((one) => one.frame < frame);
    }

    act(frame, run, header = null) {
        this.actions.push({ frame, run, header });
        this.work();
    }

    work() {
        if (this.closed || this.source.readyState !== "open" || this.buffer?.updating || !this.actions.length) return;
        const { run, header } = this.actions.shift();
        try {
            if (!this.buffer && header) this.open(mimeOf(header));
            if (this.buffer) run(this.buffer);
        } catch (problem) {
            this.onFail(problem.message);
        }
    }

    open(mime) {
        if (!MediaSource.isTypeSupported(mime)) throw new Error(mime);
        this.buffer = this.source.addSourceBuffer(mime);
        this.buffer.addEventListener("updateend", () => {
            this.join();
            this.work();
        });
    }

    // To where something is held, at the beginning and over gaps.
    join() {
        const { buffered, currentTime } = this.video;
        if (buffered.length) this.played.hold(Math.floor(buffered.end(buffered.length - 1) * this.fps + 1e-3) - 1);
        for (let i = 0; i < buffered.length; i++) {
            if (currentTime < buffered.end(i) - (i + 1 < buffered.length ? GAP : 0)) {
                const late = buffered.start(i) - currentTime;
                if (late > 0.02 && buffered.end(i) - buffered.start(i) > START_AT) this.video.currentTime = buffered.start(i) + 0.001;
                return;
            }
        }
    }

    look() {
        const { video, buffer } = this;
        this.heardUpTo(video.currentTime);
        if (document.hidden || !video.requestVideoFrameCallback) {
            const frame = Math.floor(video.currentTime * this.fps + 1e-3);
            if (video.readyState >= 2) this.played.pass(this.epochOf(frame), frame);
        }
        this.played.acknowledge(this.needed);
        this.join();
        this.push();
        const until = video.currentTime - BEHIND_KEPT;
        const held = buffer?.buffered;
        if (held?.length && until > held.start(0) + BEHIND_KEPT) this.act(-1, (one) => one.remove(0, until));
    }

    get needed() {
        const [first, more, most] = NEEDED;
        return Math.min(most, first + more * this.stalls);
    }

    // After a stall Chrome wants twice as much sound as before, in the end 3 s, which a stream that keeps in step with what
    // is shown never has; a seek to where it stands makes it modest again.
    push() {
        const { video } = this;
        const now = performance.now();
        if (video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA || video.seeking || this.heldAhead < NEEDED[0]) this.movedAt = now;
        else if (now - this.movedAt > STUCK) {
            this.movedAt = now;
            video.currentTime += 0.001;
        }
    }

    get heldAhead() {
        const held = this.video.buffered;
        return held.length ? Math.max(0, held.end(held.length - 1) - this.video.currentTime) : 0;
    }

    onWaiting() {
        if (this.played.frame >= 0 && !this.last && !this.video.seeking) this.stalls++;
        this.join();
    }

    cut(epoch, firstFrame) {
        this.cutAt = firstFrame;
        this.played.cut(firstFrame);
        this.begin(epoch & 0xffff, firstFrame);
        this.forget(firstFrame);
        const from = Math.max(firstFrame / this.fps, this.video.currentTime + 1 / this.fps);
        this.act(-1, (buffer) => buffer.remove(from, Infinity));
        this.endSilenceAt(firstFrame / this.fps);
    }

    setLast(last) {
        this.last = last;
    }

    get playedFrame() {
        return this.played.frame;
    }

    get figures() {
        const { rate: fps, painted } = this.played;
        const dropped = this.video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0;
        const stalled = this.played.frame >= 0 && this.video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
        return { fps, painted, dropped, stalls: this.stalls, stalled, buffer: this.heldAhead, target: this.needed };
    }

    close() {
        this.closed = true;
        clearInterval(this.looking);
        URL.revokeObjectURL(this.url);
        this.video.removeAttribute("src");
        this.video.load();
    }
}
