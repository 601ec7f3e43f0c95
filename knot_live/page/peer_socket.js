// A peer connection that looks like the WebSocket of LiveClient: messages over its data channel, and beside them the
// stream's pictures and sound as tracks. The offer's answer comes from /v1/whep.

const CONNECTS_IN = 9000; // milliseconds; the server waits for no longer either
const CHANNEL = "knot-live";

export function canPeer() {
    const codecs = globalThis.RTCPeerConnection && globalThis.RTCRtpReceiver?.getCapabilities?.("video")?.codecs;
    return !!codecs?.some(({ mimeType }) => mimeType.toLowerCase() === "video/h264");
}

export class PeerSocket {
    // `onStream(stream, peer)` is called as its tracks come; `token` is the server's, or a secret of a session.
    constructor({ url = "/v1/whep", token, onStream }) {
        Object.assign(this, { url, token, onStream });
        this.readyState = WebSocket.CONNECTING;
        this.stream = new MediaStream();
        const peer = this.peer = new RTCPeerConnection();
        peer.addTransceiver("video", { direction: "recvonly" });
        this.voice = peer.addTransceiver("audio", { direction: "sendrecv" });
        const channel = this.channel = peer.createDataChannel(CHANNEL);
        channel.onopen = () => this.open();
        channel.onmessage = (event) => this.onmessage(event);
        channel.onclose = () => this.end(1006, "");
        peer.onconnectionstatechange = () => ["failed", "closed"].includes(peer.connectionState) && this.end(1006, "");
        peer.ontrack = ({ track }) => this.stream.addTrack(track);
        this.late = setTimeout(() => this.end(1006, ""), CONNECTS_IN);
        this.offer().catch(() => this.end(1006, ""));
    }

    async offer() {
        await this.peer.setLocalDescription();
        const headers = { "Content-Type": "application/sdp", ...(this.token ? { Authorization: `Bearer ${this.token}` } : {}) };
        const answer = await fetch(this.url, { method: "POST", body: this.peer.localDescription.sdp, headers });
        if (!answer.ok) return this.refused((await answer.json()).error);
        this.location = answer.headers.get("Location");
        if (this.readyState === WebSocket.CLOSED) return this.remove();
        await this.peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    }

    refused({ code, message }) {
        this.onmessage({ data: JSON.stringify({ type: "error", code, message }) });
        this.end(1006, message);
    }

    open() {
        clearTimeout(this.late);
        this.readyState = WebSocket.OPEN;
        this.onStream(this.stream, this.peer);
        this.onopen();
    }

    get bufferedAmount() {
        return this.channel.bufferedAmount;
    }

    // What is longer than a message may be, a large picture of the camera, is left out.
    send(data) {
        if ((data.byteLength ?? data.length) < (this.peer.sctp?.maxMessageSize ?? Infinity)) this.channel.send(data);
    }

    // The microphone's track, or null; it goes beside the messages.
    async sendSound(track) {
        await this.voice.sender.replaceTrack(track);
    }

    end(code, reason) {
        if (this.readyState === WebSocket.CLOSED) return;
        this.close();
        this.onclose?.({ code, reason });
    }

    close() {
        clearTimeout(this.late);
        this.readyState = WebSocket.CLOSED;
        this.peer.close();
        this.remove();
    }

    remove() {
        if (this.location) fetch(this.location, { method: "DELETE", keepalive: true }).catch(() => {});
        this.location = null;
    }
}
