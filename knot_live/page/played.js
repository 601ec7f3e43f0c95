// What a player has shown: acknowledged to the server, and counted for the line of figures.

const ACKNOWLEDGE = 80; // milliseconds between two acknowledgements

export class Played {
    // `onPlayed(epoch, frame)` is called 12 times a second while it plays, `onPaint(epoch, frame, now)` for each picture.
    constructor({ fps, onPlayed = () => {}, onPaint = () => {} }) {
        Object.assign(this, { fps, onPlayed, onPaint });
        this.epoch = 0;
        this.frame = -1; // the last that was shown
        this.newest = -1; // the last that is held
        this.painted = this.dropped = 0;
        this.times = []; // milliseconds of the pictures of the last second
        this.told = -Infinity;
    }

    paint(epoch, frame) {
        const now = performance.now();
        Object.assign(this, { epoch, frame });
        this.painted++;
        this.times.push(now);
        this.onPaint(epoch, frame, now);
    }

    // A hidden tab paints nothing, and its sound plays on.
    pass(epoch, frame) {
        Object.assign(this, { epoch, frame });
    }

    // The server draws no further ahead of what is acknowledged than a chunk. A player that must hold more than that covers
    // acknowledges `early` seconds before it shows, but nothing that it has not got.
    acknowledge(early = 0) {
        const now = performance.now();
        if (this.newest < 0 || now - this.told < ACKNOWLEDGE) return;
        const frame = Math.min(this.frame + Math.round(early * this.fps), this.newest);
        if (frame < 0) return;
        this.told = now;
        this.onPlayed(this.epoch, frame);
    }

    // Frames up to this one are held.
    hold(frame) {
        this.newest = frame;
    }

    cut(firstFrame) {
        this.newest = Math.min(this.newest, firstFrame - 1);
    }

    get rate() {
        const now = performance.now();
        while (this.times.length && this.times[0] < now - 1000) this.times.shift();
        return this.times.length;
    }
}
