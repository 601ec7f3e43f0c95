// Feeds a <video> from a file that is still written: a fragmented MP4, fetched in ranges from ComfyUI's /view, through
// Media Source Extensions. It holds what is soon played and no more, and can join in the middle: header, then from a key
// frame on.

const BEHIND_KEPT = 30; // seconds already played that stay seekable; browsers bound what they hold
const MOST_AHEAD = 120; // seconds not yet played: a stream may be much faster than it plays, or the video be paused
const MOST_AT_ONCE = 4 * 2 ** 20; // bytes of one request
const LOOK_AGAIN = 250; // milliseconds
const EDGE = 0.5; // seconds before the newest picture, where the live edge is taken to be

export class LiveFeed {
    static mostFromBeginning = 16 * 2 ** 20; // bytes: whoever comes later than that joins at the newest key frame

    constructor({ video, viewUrl, onFail }) {
        Object.assign(this, { video, viewUrl, onFail });
        this.newest = null; // the last announced piece: {file, mime, start, stop, header, key}
        this.fetched = 0; // byte up to which the file was taken in
        this.closed = this.ended = this.done = false;
        this.wake = () => {};
        this.joining = false;
    }

    announce(piece) {
        const first = this.newest === null;
        this.newest = piece;
        this.wake();
        if (first) this.work = this.run().catch((problem) => this.fail(problem));
    }

    // Nothing more will come. What is held can be played to its end.
    end() {
        this.ended = true;
        this.wake();
    }

    // To the newest pictures: by a seek where they are held, else by joining anew.
    toLiveEdge() {
        if (!this.newest || this.closed) return;
        if (this.fetched < this.newest.key && !this.done) {
            this.joining = true;
            this.wake();
        } else this.seekToEdge();
    }

    close() {
        this.closed = true;
        this.wake();
        if (this.url) URL.revokeObjectURL(this.url);
        this.video.removeAttribute("src");
        this.video.load();
    }

    ahead() {
        return this.heldUntil() - this.video.currentTime;
    }

    // Seconds up to which pictures are held.
    heldUntil() {
        const held = this.buffer?.buffered;
        return held?.length ? held.end(held.length - 1) : this.video.currentTime;
    }

    fail(problem) {
        if (this.closed) return;
        this.close();
        this.onFail(problem);
    }

    async run() {
        await this.open(this.newest.mime);
        this.joining = this.newest.stop > LiveFeed.mostFromBeginning;
        while (!this.closed) {
            if (this.joining) await this.join();
            else if (this.fetched < this.newest.stop && this.ahead() < MOST_AHEAD) await this.takeMore();
            else if (this.ended) return this.finish();
            else await this.somethingNew();
        }
    }

    finish() {
        if (this.source.readyState === "open") this.source.endOfStream();
        this.done = true;
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

    // The header once, then from the newest key frame on.
    async join() {
        this.joining = false;
        const { file, header, key } = this.newest;
        this.buffer.abort(); // what it holds of a piece that was not taken in whole
        if (this.fetched < header) await this.append(await this.fetch(file, 0, header));
        this.fetched = Math.max(header, key);
        if (this.fetched < this.newest.stop) await this.takeMore();
        this.seekToEdge();
    }

    async takeMore() {
        const { file, stop } = this.newest;
        const until = Math.min(stop, this.fetched + MOST_AT_ONCE);
        const data = await this.fetch(file, this.fetched, until);
        if (this.closed || this.joining) return;
        await this.append(data);
        this.fetched = until;
        await this.forget(this.video.currentTime - BEHIND_KEPT, BEHIND_KEPT);
    }

    seekToEdge() {
        const held = this.buffer?.buffered;
        if (!held?.length) return;
        const last = held.length - 1;
        this.video.currentTime = Math.max(held.start(last), held.end(last) - EDGE);
    }

    // What was played before `until`, if that is at least `least` seconds of it.
    async forget(until, least = 0) {
        const held = this.buffer.buffered;
        if (held.length && until > 0 && held.start(0) < until - least) await this.settled(() => this.buffer.remove(0, until));
    }

    // A browser that will hold no more is asked again when some of it was played.
    async append(data) {
        while (!this.closed) {
            try {
                return await this.settled(() => this.buffer.appendBuffer(data));
            } catch (problem) {
                if (problem.name !== "QuotaExceededError") throw problem;
                await this.forget(this.video.currentTime - 1);
                await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
            }
        }
    }

    async fetch(file, start, stop) {
        const answer = await fetch(this.viewUrl(file), {
            headers: { Range: `bytes=${start}-${stop - 1}` }, cache: "no-store",
        });
        if (!answer.ok) throw new Error(`/view answered ${answer.status}`);
        const data = await answer.arrayBuffer();
        return answer.status === 206 ? data : data.slice(start, stop);
    }

    // A new piece, a wish, or time: while more is held than is soon played, only time tells.
    somethingNew() {
        return new Promise((resolve) => {
            this.wake = resolve;
            if (this.fetched < this.newest.stop) setTimeout(resolve, LOOK_AGAIN);
        });
    }

    settled(action) {
        return new Promise((resolve, reject) => {
            const error = () => reject(new Error("the browser could not take in a piece"));
            this.buffer.addEventListener("error", error, { once: true });
            this.buffer.addEventListener("updateend", () => {
                this.buffer.removeEventListener("error", error);
                resolve();
            }, { once: true });
            try {
                action();
            } catch (problem) {
                reject(problem);
            }
        });
    }
}
