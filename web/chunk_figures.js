// The line under the picture: what a chunk's event says of the stream.

import { text } from "./editor_texts.js";

const WITHOUT_END = 1e9; // frames: what a stream is given that goes on until it is finished or stopped

export function figures({ chunk, frames, all_frames, rate, fps, latency, memory_mib, device_mib }) {
    const made = (frames / rate).toFixed(1);
    const whole = (all_frames / rate).toFixed(1);
    return [
        text("figures.chunk", { number: chunk + 1 }),
        text(all_frames < WITHOUT_END ? "figures.lengthOf" : "figures.length", { made, whole }),
        text("figures.rate", { fps: fps.toFixed(1), factor: (fps / rate).toFixed(2) }),
        text("figures.latency", { seconds: latency.toFixed(2) }),
        device_mib > 0 ? `VRAM ${gib(device_mib)}` : `RAM ${gib(memory_mib)}`,
    ].join(" · ");
}

function gib(mib) {
    return mib < 1024 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}
