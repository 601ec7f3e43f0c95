// The microphone's sound as PCM16 at 24 kHz in pieces of 20 ms, whatever rate the device has.

const RATE = 24_000;
const PIECE = 480; // samples: 20 ms

class MicrophoneProcessor extends AudioWorkletProcessor {
    constructor() {
        super();
        this.step = sampleRate / RATE; // samples of the device for one of ours
        this.piece = new Int16Array(PIECE);
        this.filled = this.sum = this.count = 0;
        this.passed = 0; // of the device's samples, of the one that is being gathered
        this.power = 0;
    }

    process([[heard]]) {
        for (const value of heard ?? []) this.gather(value);
        return true;
    }

    // The mean of the device's samples that fall into one of ours: a low pass that speech needs no better.
    gather(value) {
        this.sum += value;
        this.count++;
        this.passed++;
        while (this.passed >= this.step) {
            this.passed -= this.step;
            this.put(this.count ? this.sum / this.count : value);
            this.sum = this.count = 0;
        }
    }

    put(value) {
        this.power += value * value;
        this.piece[this.filled++] = Math.round(32767 * Math.max(-1, Math.min(1, value)));
        if (this.filled < PIECE) return;
        const { buffer } = this.piece;
        this.port.postMessage({ buffer, level: Math.sqrt(this.power / PIECE) }, [buffer]);
        this.piece = new Int16Array(PIECE);
        this.filled = this.power = 0;
    }
}

registerProcessor("knot-microphone", MicrophoneProcessor);
