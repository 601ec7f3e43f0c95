// One live session over one WebSocket: messages, media, receipts, and that a lost connection comes back by itself.
// It does not touch the page: ComfyUI's widget uses it too. docs/live.md describes the protocol.

export const KIND = { video: 1, sound: 2, segment: 3, opus: 4, speech: 16, camera: 17 };
export const FLAG = { key: 1, initialisation: 2 };
const HEADER = 16; // bytes: u8 kind, u8 flags, u16 epoch, u32 index, u64 position; little-endian
const BEAT = 4000; // milliseconds between two pings; without an answer within twice that the connection is lost
const TRIPS = 3; // the last ones count
const MOST_TRANSPORT = 10_000; // milliseconds that may be told
const KEPT = 30_000; // milliseconds that the server keeps a session without a connection
const WAITS = [200, 500, 1000, 2000, 3000]; // milliseconds before each attempt to come back, the last one again and again
const FULL = 256 * 1024; // bytes that wait in the socket before camera pictures are left out

// Epochs are counted modulo 2^16.
export function isOlder(epoch, than) {
    return ((epoch - than) & 0xffff) >= 0x8000;
}

export function readMedia(buffer) {
    const view = new DataView(buffer);
    return {
        kind: view.getUint8(0), flags: view.getUint8(1), epoch: view.getUint16(2, true), index: view.getUint32(4, true),
        position: Number(view.getBigUint64(8, true)), payload: new Uint8Array(buffer, HEADER),
    };
}

export function writeMedia(kind, index, position, payload) {
    const made = new Uint8Array(HEADER + payload.byteLength);
    const view = new DataView(made.buffer);
    view.setUint8(0, kind);
    view.setUint32(4, index, true);
    view.setBigUint64(8, BigInt(Math.round(position)), true);
    made.set(new Uint8Array(payload.buffer ?? payload, payload.byteOffset ?? 0, payload.byteLength), HEADER);
    return made.buffer;
}

// States: idle, connecting, open, lost (it tries to come back), closed.
export class LiveClient {
    // `onMessage(message)`, `onMedia(media)`, `onState(state, reason)`; `lastFrame()` gives the last frame that was shown;
    // `dial()` gives what the messages go over, where that is no WebSocket.
    constructor({ url, dial, onMessage = () => {}, onMedia = () => {}, onState = () => {}, lastFrame = () => -1 }) {
        Object.assign(this, { url, onMessage, onMedia, onState, lastFrame });
        this.dial = dial ?? (() => new WebSocket(url));
        this.state = "idle";
        this.created = null;
        this.numbers = { event: 0, [KIND.speech]: 0, [KIND.camera]: 0 };
    }

    // `first` is session.create, session.view or session.attach; gives session.created, or throws the server's error.
    open(first) {
        this.first = first;
        this.attempts = 0;
        this.change("connecting");
        return new Promise((resolve, reject) => {
            this.answer = { resolve, reject };
            this.connect(first);
        });
    }

    connect(first) {
        let socket;
        try {
            socket = this.dial();
        } catch { // the browser forbids it
            return this.onClosed(1006, "");
        }
        socket.binaryType = "arraybuffer";
        this.socket = socket;
        socket.onopen = () => socket.send(JSON.stringify(first));
        socket.onmessage = ({ data }) => {
            if (socket !== this.socket) return;
            this.heard = performance.now();
            if (typeof data === "string") this.hear(JSON.parse(data));
            else this.onMedia(readMedia(data));
        };
        socket.onclose = ({ code, reason }) => socket === this.socket && this.onClosed(code, reason);
    }

    hear(message) {
        if (message.type === "session.created") this.begin(message);
        else if (message.type === "session.ended") this.end(message.reason, message.message);
        else if (message.type === "error" && this.answer) this.refuse(message);
        else if (message.type === "error" && this.state === "lost") this.end("gone", message.message);
        else if (message.code === "driven_elsewhere") this.end("elsewhere", message.message);
        if (message.type !== "pong") this.onMessage(message);
        else if (message.event_id === this.pinged?.id) this.trips = [...this.trips, performance.now() - this.pinged.at].slice(-TRIPS);
    }

    begin(message) {
        this.created = { ...this.created, ...message };
        const back = this.state === "lost";
        this.attempts = 0;
        this.change("open", back ? "back" : "");
        clearInterval(this.beat);
        this.heard = performance.now();
        this.trips = []; // milliseconds that the last messages took there and back
        this.ping();
        this.beat = setInterval(() => this.ping(), BEAT);
        this.answer?.resolve(this.created);
        this.answer = null;
    }

    refuse({ code, message }) {
        const problem = Object.assign(new Error(message), { code });
        const { reject } = this.answer;
        this.answer = null;
        this.close();
        reject(problem);
    }

    ping() {
        if (performance.now() - this.heard > 2 * BEAT) this.lose();
        else this.pinged = { at: performance.now(), id: this.send("ping") };
    }

    // That frame was shown. `decoding`: milliseconds of a picture's decoding, where the player knows.
    acknowledge(epoch, frame, decoding) {
        const known = decoding !== undefined && this.trips.length;
        const transport = known && Math.min(MOST_TRANSPORT, Math.max(...this.trips) + decoding) / 1000;
        return this.send("playback.ack", { epoch, frame, ...(known && { transport }) });
    }

    // A connection that says nothing is as good as none.
    lose() {
        const socket = this.socket;
        this.socket = null;
        socket?.close();
        this.onClosed(1006, "");
    }

    onClosed(code, reason) {
        clearInterval(this.beat);
        if (this.state === "closed") return;
        if (this.answer) return this.refuse({ code: code === 1006 ? "unreachable" : "closed", message: reason });
        this.comeBack(code, reason);
    }

    comeBack(code, reason) {
        const again = this.again();
        if (!again || code === 1008) return this.end("closed", reason);
        if (this.state !== "lost") {
            this.lostAt = performance.now();
            this.change("lost");
        }
        if (performance.now() - this.lostAt > KEPT) return this.end("gone", "");
        this.waiting = setTimeout(() => this.connect(this.again()), WAITS[Math.min(this.attempts++, WAITS.length - 1)]);
    }

    // What takes the session up again after the connection was lost.
    again() {
        if (this.first.type !== "session.create") return this.created && this.first;
        const { session_id, resume_token } = this.created ?? {};
        if (!resume_token) return null;
        const { video, sound, speech } = this.first;
        return { type: "session.resume", session_id, resume_token, last_frame: this.lastFrame(), video, sound, speech };
    }

    end(reason, message) {
        this.close();
        this.onState("ended", reason, message);
    }

    change(state, reason = "") {
        this.state = state;
        this.onState(state, reason);
    }

    // Gives the number by which the receipts name it, or null where there is no connection.
    send(type, fields = {}) {
        if (this.socket?.readyState !== WebSocket.OPEN || (this.state !== "open" && type !== "ping")) return null;
        const event_id = `e${++this.numbers.event}`;
        this.socket.send(JSON.stringify({ type, event_id, ...fields }));
        return event_id;
    }

    // Speech always, camera pictures only where the connection keeps up; `position` is the client's time in microseconds.
    sendMedia(kind, payload) {
        if (this.state !== "open" || this.socket?.readyState !== WebSocket.OPEN) return false;
        if (kind === KIND.camera && this.socket.bufferedAmount > FULL) return false;
        this.socket.send(writeMedia(kind, this.numbers[kind]++, performance.now() * 1000, payload));
        return true;
    }

    close() {
        clearInterval(this.beat);
        clearTimeout(this.waiting);
        this.state = "closed";
        const socket = this.socket;
        this.socket = null;
        socket?.close();
    }
}
