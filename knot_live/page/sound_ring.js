// Sound on the stream's timeline, in a ring: what is put in at a position is given out when the position is reached.
// It starts when enough is held, stands still when nothing is (a stall), and can be cut and filled anew. Positions and
// counts are samples from the stream's beginning. No page and no audio device in here: the worklet and the timer use it.

const JUMP = 12_000; // samples: a gap longer than half a second is jumped over, a shorter one is played as silence

export class SoundRing {
    constructor({ rate = 24_000, seconds = 20, target = 0.08 } = {}) {
        this.rate = rate;
        this.samples = new Float32Array(rate * seconds);
        this.least = this.target = Math.round(target * rate); // samples held before it starts, and goes on after a stall
        this.reset();
    }

    reset() {
        this.read = this.end = 0; // the next sample to give out; one after the last that is held
        this.begun = this.running = this.muted = this.last = false;
        this.unmuteAt = Infinity;
        this.mutes = 0; // how often it was muted
        this.stalls = this.played = this.silent = 0;
        this.peak = 0; // the loudest since it was last asked for
        this.gain = 1;
        this.smooth = 0; // samples since the last stall
    }

    get held() {
        return this.end - this.read;
    }

    push(position, samples) {
        if (!this.begun) {
            this.read = this.end = position;
            this.begun = true;
        }
        if (position > this.end) this.bridge(position);
        const skip = Math.max(0, this.read - position); // late: the place where it belonged was played
        for (let i = skip; i < samples.length; i++) this.samples[(position + i) % this.samples.length] = samples[i];
        this.end = Math.max(this.end, position + samples.length);
        this.read = Math.max(this.read, this.end - this.samples.length);
    }

    bridge(position) {
        if (!this.running || position - this.end > JUMP) this.read = Math.max(this.read, position);
        for (let i = Math.max(this.end, this.read); i < position; i++) this.samples[i % this.samples.length] = 0;
        this.end = position;
    }

    // Nothing from `position` on counts any more; what comes for it is heard.
    cut(position) {
        this.end = Math.max(this.read, Math.min(this.end, position));
        this.unmuteAt = position;
    }

    mute() {
        this.mutes++;
        this.muted = true;
        this.unmuteAt = Infinity;
    }

    unmute() {
        this.muted = false;
    }

    // The stream is over or paused: what is held is played, and that it ends is no stall.
    setLast(last) {
        this.last = last;
    }

    // Fills `out`, which may be null where time passes without a device. Muted within 64 samples, so without a click.
    take(count, out = null) {
        if (!this.running && this.held > 0 && (this.held >= this.target || this.last)) this.running = true;
        const wanted = this.running ? Math.min(count, this.held) : 0;
        for (let i = 0; i < wanted; i++) {
            if (this.muted && this.read >= this.unmuteAt) this.muted = false;
            this.gain = Math.min(1, Math.max(0, this.gain + (this.muted ? -1 : 1) / 64));
            const value = this.samples[this.read % this.samples.length] * this.gain;
            this.peak = Math.max(this.peak, Math.abs(value));
            if (out) out[i] = value;
            this.read++;
        }
        this.played += wanted;
        this.calm(wanted);
        if (out) out.fill(0, wanted);
        if (this.running && wanted < count) this.stall();
        if (this.begun && !this.running) this.silent += count - wanted;
        return wanted;
    }

    // Half a minute without a stall takes 20 ms of that back.
    calm(count) {
        this.smooth += count;
        if (this.smooth < 30 * this.rate) return;
        this.smooth = 0;
        this.target = Math.max(this.least, this.target - Math.round(0.02 * this.rate));
    }

    // Each stall makes it hold 40 ms more before it goes on, up to 0.4 s.
    stall() {
        this.running = false;
        this.smooth = 0;
        if (this.last) return;
        this.stalls++;
        this.target = Math.min(this.target + Math.round(0.04 * this.rate), Math.round(0.4 * this.rate));
    }

    report() {
        const { begun, read, held, running, stalls, played, peak, muted, mutes, least, target } = this;
        this.peak = 0;
        return { begun, read, held, running, stalls, played, peak, muted, mutes, least, target };
    }
}
