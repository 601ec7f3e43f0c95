// Where a timeline's keys and curves lie in a picture, and the picture itself. Lengths are CSS pixels.

import { text } from "./editor_texts.js";
import { CONTROLS, EASES, RANGES, lastKeyTime } from "./timeline.js";

export const COLOURS = {
    yaw: "#5b9dff", pitch: "#27b598", roll: "#9a7df7", blink: "#eba51f", gaze: "#f06aab",
    mouth_open: "#ff6557", mouth_wide: "#d28346", brow: "#9fb52f",
};
export const RULER = 16; // height of the time axis, which is also what one zooms and scrolls by

const MARGIN = { left: 26, right: 8, top: 7 };
const KEY_RADIUS = 4;
const REACH = 8; // how near to a key the pointer must be
const LABEL_ROOM = 46; // between two labels of the time axis
const TICKS = [0.04, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400, 604800];
const SHORTEST_VIEW = 0.4; // seconds
const SHORTEST_SHEET = 4; // seconds, to begin on

// What is shown if nobody zoomed: all of it, and where no length is set room for more behind the last key.
export function wholeView(timeline) {
    const last = lastKeyTime(timeline);
    const to = "seconds" in timeline ? Math.max(timeline.seconds, last) : Math.max(SHORTEST_SHEET, last * 1.25);
    return { from: 0, to: to || SHORTEST_SHEET };
}

export function zoomed({ from, to }, around, factor, whole) {
    const span = Math.min(Math.max((to - from) * factor, SHORTEST_VIEW), whole.to);
    const start = around - (around - from) * (span / (to - from));
    return scrolled({ from: start, to: start + span }, 0, whole);
}

export function scrolled({ from, to }, seconds, whole) {
    const start = Math.max(0, Math.min(from + seconds, whole.to - (to - from)));
    return { from: start, to: start + to - from };
}

// The picture's axes, for one control's range and one view of time.
export class Plot {
    constructor({ width, height, view, control }) {
        Object.assign(this, view, { width, height, control, left: MARGIN.left, top: MARGIN.top });
        this.right = Math.max(width - MARGIN.right, this.left + 1);
        this.bottom = Math.max(height - RULER, this.top + 1);
        [this.low, this.high] = RANGES[control];
    }

    x(seconds) {
        return this.left + ((seconds - this.from) / (this.to - this.from)) * (this.right - this.left);
    }

    y(value) {
        return this.bottom - ((value - this.low) / (this.high - this.low)) * (this.bottom - this.top);
    }

    seconds(x) {
        return this.from + ((x - this.left) / (this.right - this.left)) * (this.to - this.from);
    }

    value(y) {
        return this.low + ((this.bottom - y) / (this.bottom - this.top)) * (this.high - this.low);
    }

    onRuler(y) {
        return y > this.bottom + 2;
    }
}

// Which of the keys is under a place, or null: the nearest.
export function keyAt(plot, keys, x, y) {
    let [nearest, reach] = [null, REACH];
    keys.forEach(([time, value], place) => {
        const away = Math.hypot(plot.x(time) - x, plot.y(value) - y);
        if (away <= reach) [nearest, reach] = [place, away];
    });
    return nearest;
}

// Seconds to be labelled.
export function ticks(from, to, most) {
    const step = TICKS.find((candidate) => (to - from) / candidate <= most) ?? TICKS.at(-1);
    const first = Math.ceil(from / step - 1e-9);
    const count = Math.min(Math.floor(to / step + 1e-9) - first + 1, 100);
    return Array.from({ length: Math.max(count, 0) }, (_, place) => Number(((first + place) * step).toFixed(2)));
}

// ---- drawing ----

// `ink` is the colour of text and lines; `chosen` the place of the selected key, `pointed` what the pointer is on.
export function draw(context, plot, timeline, { ink, chosen = null, pointed = null }) {
    context.clearRect(0, 0, plot.width, plot.height);
    drawAxes(context, plot, ink);
    if (!CONTROLS.some((name) => name in timeline)) return;
    drawEnd(context, plot, timeline, ink);
    const own = timeline[plot.control];
    clipped(context, plot, 1, () => {
        for (const name of CONTROLS.filter((name) => name in timeline && name !== plot.control)) {
            drawCurve(context, plot, timeline[name], COLOURS[name], false);
        }
        if (own) drawCurve(context, plot, own, COLOURS[plot.control], true);
    });
    clipped(context, plot, KEY_RADIUS + 3, () => {
        if (own) drawKeys(context, plot, own, { colour: COLOURS[plot.control], ink, chosen, pointed });
    });
}

// Within the axes and `room` pixels around them.
function clipped(context, plot, room, drawing) {
    context.save();
    context.beginPath();
    const [width, height] = [plot.right - plot.left, plot.bottom - plot.top];
    context.rect(plot.left - room, plot.top - room, width + 2 * room, height + 2 * room);
    context.clip();
    drawing();
    context.restore();
}

function line(context, points, style) {
    Object.assign(context, { globalAlpha: 1, lineWidth: 1, ...style });
    context.setLineDash(style.dash ?? []);
    context.beginPath();
    points.forEach(([x, y]) => context.lineTo(x, y));
    context.stroke();
    context.globalAlpha = 1;
}

function drawAxes(context, plot, ink) {
    Object.assign(context, { font: "10px sans-serif", fillStyle: ink, textBaseline: "middle", textAlign: "right" });
    for (const value of [plot.high, (plot.high + plot.low) / 2, plot.low]) {
        const y = Math.round(plot.y(value)) + 0.5;
        const strength = value === 0 ? 0.55 : 0.16; // the line of rest is to be seen
        line(context, [[plot.left, y], [plot.right, y]], { strokeStyle: ink, globalAlpha: strength });
        context.fillText(String(value).replace("-", "\u2212"), plot.left - 5, y);
    }
    const marks = ticks(plot.from, plot.to, (plot.right - plot.left) / LABEL_ROOM);
    for (const seconds of marks) {
        const x = Math.round(plot.x(seconds)) + 0.5;
        line(context, [[x, plot.top], [x, plot.bottom + 3]], { strokeStyle: ink, globalAlpha: 0.16 });
        context.textAlign = x + 12 > plot.right ? "right" : "center";
        context.fillText(text("curves.tick", { seconds }), context.textAlign === "right" ? plot.right : x, plot.bottom + RULER / 2 + 2);
    }
}

// What lies behind the end is not played.
function drawEnd(context, plot, timeline, ink) {
    const x = plot.x(timeline.seconds ?? lastKeyTime(timeline));
    if (x >= plot.right) return;
    const start = Math.max(x, plot.left);
    Object.assign(context, { fillStyle: ink, globalAlpha: 0.07 });
    context.fillRect(start, plot.top, plot.right - start, plot.bottom - plot.top);
    line(context, [[start, plot.top], [start, plot.bottom]], { strokeStyle: ink, globalAlpha: 0.45, dash: [3, 3] });
}

function drawCurve(context, plot, keys, colour, bold) {
    const points = [[Math.min(plot.left, plot.x(keys[0][0])), plot.y(keys[0][1])]];
    keys.forEach(([time, value, ease], place) => {
        const [nextTime, nextValue] = keys[place + 1] ?? [];
        points.push([plot.x(time), plot.y(value)]);
        if (nextTime === undefined || nextTime < plot.from || time > plot.to) return;
        if (ease === "hold") points.push([plot.x(nextTime), plot.y(value)]);
        else if (ease !== "linear") points.push(...bend(plot, time, value, nextTime, nextValue, EASES[ease]));
    });
    points.push([Math.max(plot.right, points.at(-1)[0]), points.at(-1)[1]]);
    const style = bold ? { lineWidth: 2 } : { lineWidth: 1.25, globalAlpha: 0.6 };
    line(context, points, { strokeStyle: colour, lineJoin: "round", ...style });
}

// Between two keys, without them.
function bend(plot, time, value, nextTime, nextValue, ease) {
    const count = Math.min(Math.max(Math.ceil((plot.x(nextTime) - plot.x(time)) / 4), 4), 200);
    return Array.from({ length: count - 1 }, (_, place) => {
        const u = (place + 1) / count;
        return [plot.x(time + (nextTime - time) * u), plot.y(value + (nextValue - value) * ease(u))];
    });
}

function drawKeys(context, plot, keys, { colour, ink, chosen, pointed }) {
    keys.forEach(([time, value], place) => {
        const x = plot.x(time);
        if (x < plot.left - KEY_RADIUS || x > plot.right + KEY_RADIUS) return;
        const radius = place === chosen || place === pointed ? KEY_RADIUS + 1.5 : KEY_RADIUS;
        context.beginPath();
        context.arc(x, plot.y(value), radius, 0, 2 * Math.PI);
        context.fillStyle = colour;
        context.fill();
        if (place !== chosen) return;
        Object.assign(context, { strokeStyle: ink, lineWidth: 2 });
        context.setLineDash([]);
        context.stroke();
    });
}
