// Plays the ring on the audio device, and tells where it stands 50 times a second.

import { SoundRing } from "./sound_ring.js";

class SpeakerProcessor extends AudioWorkletProcessor {
    constructor() {
        super();
        this.ring = new SoundRing({ rate: sampleRate });
        this.due = 0;
        this.port.onmessage = ({ data: [name, ...values] }) => this.ring[name](...values);
    }

    process(_inputs, [[out]]) {
        this.ring.take(out.length, out);
        if (currentFrame >= this.due) {
            this.due = currentFrame + sampleRate / 50;
            this.port.postMessage({ ...this.ring.report(), time: currentTime + out.length / sampleRate });
        }
        return true;
    }
}

registerProcessor("knot-speaker", SpeakerProcessor);
