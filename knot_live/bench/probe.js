// In the live page: what was painted and heard, and when. Times are milliseconds of performance.now().

const SIDE = 24; // the face and the mouth are compared at so many pixels a side
const FACE = [0.22, 0.2, 0.56, 0.6]; // of the picture: left, top, width, height
const MOUTH = [0.36, 0.58, 0.28, 0.18];
const LEVELS = 2; // of 255: what is seen differs by so much more, in the mean, than a still portrait from itself
const RATE = 24_000;

window.bench = {
    paints: [], // {at, frame, late, face, mouth}
    levels: [], // {at, peak} of what is heard
    threshold: { face: LEVELS, mouth: LEVELS }, // mean differences above it are seen

    begin({ seed, mode, chunk }) {
        const { wish } = knotLive;
        knotLive.wish = (...given) => ({
            ...wish.apply(knotLive, given), seed, settings: { num_chunk_frames: chunk }, speech: { rate: RATE, mode },
        });
        const { prototype } = knotLive.Player;
        if (prototype.unprobed) return;
        prototype.unprobed = prototype.paint;
        prototype.paint = function (one) {
            const late = (this.speaker?.position() ?? 0) / this.samplesPerFrame - one.frame;
            this.unprobed(one);
            const [face, mouth] = [FACE, MOUTH].map((box) => look(this.canvas, box));
            bench.paints.push({ at: performance.now(), frame: one.frame, late, face, mouth });
            if (bench.paints.length > 12_000) bench.paints.splice(0, 2000); // five minutes and more
        };
        setInterval(listen, 10);
    },

    // Do something, and wait until `part` of a painted picture differs from what it is like just before it.
    async visible(part, act, patience = 4000) {
        const before = bench.now(part), since = performance.now();
        act();
        return bench.until((one) => one.at > since && bench.differ(one[part], before) > bench.threshold[part], since, patience);
    },

    // Milliseconds since then until the first paint for which `is` holds; null where there is none in time.
    async until(is, since, patience) {
        let place = bench.paints.length;
        while (performance.now() < since + patience) {
            for (; place < bench.paints.length; place++) if (is(bench.paints[place])) return bench.paints[place].at - since;
            await pause(4);
        }
        return null;
    },

    // The mean of the last pictures.
    now(part, count = 5) {
        const last = bench.paints.slice(-count).map((one) => one[part]);
        return last[0].map((_, i) => last.reduce((sum, one) => sum + one[i], 0) / last.length);
    },

    differ(one, other) {
        return one.reduce((sum, value, i) => sum + Math.abs(value - other[i]), 0) / one.length;
    },

    // How much pictures differ from one another where nothing is asked. Changes must show above it from here on.
    async noise(part, milliseconds) {
        const before = bench.now(part), since = performance.now();
        await pause(milliseconds);
        const noise = Math.max(0, ...bench.paints.filter((one) => one.at > since).map((one) => bench.differ(one[part], before)));
        bench.threshold[part] = LEVELS + noise;
        return noise;
    },

    async sliders(count) {
        const found = [];
        for (let i = 0; i < count; i++) {
            const yaw = i % 2 ? -0.5 : 0.5;
            found.push(await bench.visible("face", () => knotLive.interact({ controls: { yaw } })));
            await pause(1100 + 480 * Math.random());
        }
        return found;
    },

    // A sentence that comes faster than real time, while nobody speaks.
    async onsets(count) {
        const found = [];
        for (let i = 0; i < count; i++) {
            found.push(await bench.visible("mouth", () => bench.say(0.9)));
            await pause(1500 + 480 * Math.random());
        }
        return found;
    },

    say(seconds) {
        knotLive.sendSpeech(voice(seconds));
        knotLive.send("input_audio_buffer.commit");
    },

    // A long sentence, and somebody who falls into it.
    async bargeIns(count) {
        const rest = bench.now("mouth"), found = [];
        for (let i = 0; i < count; i++) {
            await bench.visible("mouth", () => bench.say(4));
            await pause(900 + 480 * Math.random());
            const since = performance.now();
            knotLive.silence();
            const atRest = bench.settled((one) => bench.differ(one.mouth, rest) <= bench.threshold.mouth, since, 3000);
            const silent = await quiet(since, 1500);
            found.push({ silent, rest: await atRest });
            await pause(1200);
        }
        return found;
    },

    // Until five paints in a row are so.
    async settled(is, since, patience) {
        let run = [], place = bench.paints.length;
        while (performance.now() < since + patience) {
            for (; place < bench.paints.length; place++) run = is(bench.paints[place]) ? [...run, bench.paints[place]] : [];
            if (run.length >= 5) return run[0].at - since;
            await pause(4);
        }
        return null;
    },

    // Speech in pieces of 20 ms as a microphone gives it, mirrored by the face. The capture device's own delay is not in it.
    async mirrored(count) {
        const found = [];
        for (let i = 0; i < count; i++) {
            const spoken = voice(1.2);
            const talk = async () => {
                const from = performance.now();
                for (let at = 0; at < spoken.length; at += 960) {
                    await pause(from + (at / 960 + 1) * 20 - performance.now());
                    knotLive.sendSpeech(spoken.subarray(at, at + 960));
                }
                knotLive.send("input_audio_buffer.commit");
            };
            found.push(await bench.visible("mouth", talk));
            await pause(1900 + 480 * Math.random());
        }
        return found;
    },

    // How pictures came since then: {seconds, frames, late: milliseconds by the audio clock}.
    playing(since) {
        const paints = bench.paints.filter((one) => one.at >= since), [first, last] = [paints[0], paints.at(-1)];
        return {
            seconds: (last.at - first.at) / 1000, frames: last.frame - first.frame, painted: paints.length,
            late: paints.map((one) => one.late * 40), stalls: knotLive.player.figures.stalls,
        };
    },
};

const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
const context = small.getContext("2d", { willReadFrequently: true });

function look(canvas, [left, top, width, height]) {
    const [w, h] = [canvas.width, canvas.height];
    context.drawImage(canvas, left * w, top * h, width * w, height * h, 0, 0, SIDE, SIDE);
    const { data } = context.getImageData(0, 0, SIDE, SIDE), grey = [];
    for (let i = 0; i < data.length; i += 4) grey.push((data[i] + data[i + 1] + data[i + 2]) / 3);
    return grey;
}

function listen() {
    const gain = knotLive.player?.speaker?.gain;
    if (!gain) return;
    if (bench.tap?.context !== gain.context) {
        bench.tap = new AnalyserNode(gain.context, { fftSize: 256 });
        gain.connect(bench.tap);
    }
    const samples = new Float32Array(256);
    bench.tap.getFloatTimeDomainData(samples);
    bench.levels.push({ at: performance.now(), peak: Math.max(...samples.map(Math.abs)) });
    if (bench.levels.length > 2000) bench.levels.splice(0, 1000);
}

// Milliseconds until nothing is heard any more; null where something is.
async function quiet(since, milliseconds) {
    await pause(milliseconds);
    const heard = bench.levels.filter(({ at, peak }) => at > since && peak > 0.003);
    return heard.at(-1)?.at > since + milliseconds - 100 ? null : Math.max(0, (heard.at(-1)?.at ?? since) - since);
}

// PCM16 of something like vowels: a buzz of 140 Hz through two formants, which opens the mouth.
function voice(seconds) {
    const samples = new Int16Array(seconds * RATE);
    for (let i = 0; i < samples.length; i++) {
        const t = i / RATE, syllable = 0.5 - 0.5 * Math.cos(2 * Math.PI * Math.min(1, t * 4 % 1 * 1.4));
        let value = 0;
        for (let k = 1; k < 20; k++) {
            const f = 140 * k, formants = Math.exp(-(((f - 700) / 250) ** 2)) + 0.6 * Math.exp(-(((f - 1200) / 300) ** 2));
            value += formants * Math.sin(2 * Math.PI * f * t);
        }
        samples[i] = 5000 * value * (0.3 + 0.7 * syllable);
    }
    return new Uint8Array(samples.buffer);
}

const pause = (milliseconds) => new Promise((go) => setTimeout(go, Math.max(0, milliseconds)));
