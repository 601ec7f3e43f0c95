// The microphone: 20 ms pieces of PCM16 at 24 kHz, with the browser's echo cancellation.

export const MICROPHONE_RATE = 24_000;

// The key of the sentence that says why a device cannot be used.
export function deviceProblem(problem, device) {
    if (!globalThis.isSecureContext || !navigator.mediaDevices) return `${device}.insecure`;
    const known = { NotAllowedError: "refused", NotFoundError: "missing", NotReadableError: "busy" };
    return `${device}.${known[problem?.name] ?? "failed"}`;
}

export class Microphone {
    // `onPiece(pcm, level)`: Uint8Array of 480 samples, and their root mean square, 0..1.
    constructor({ onPiece, onEnd = () => {} }) {
        Object.assign(this, { onPiece, onEnd });
    }

    async start() {
        const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
        this.media = await navigator.mediaDevices.getUserMedia({ audio });
        this.media.getTracks()[0].addEventListener("ended", () => this.onEnd());
        this.context = new AudioContext({ latencyHint: "interactive" });
        await this.context.audioWorklet.addModule(new URL("microphone_worklet.js", import.meta.url));
        if (!this.media) return; // stopped meanwhile
        this.node = new AudioWorkletNode(this.context, "knot-microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
        this.node.port.onmessage = ({ data: { buffer, level } }) => this.onPiece(new Uint8Array(buffer), level);
        this.context.createMediaStreamSource(this.media).connect(this.node);
    }

    get track() {
        return this.media.getTracks()[0];
    }

    stop() {
        for (const track of this.media?.getTracks() ?? []) track.stop();
        this.media = null;
        if (this.node) this.node.port.onmessage = null;
        this.context?.close();
        this.context = this.node = null;
    }
}
