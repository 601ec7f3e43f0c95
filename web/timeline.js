// The expression timeline as text and as values, without a page: read by the rules of knot_core/driving/expression.py,
// and eased by its curves. A test holds the two equal.
//
// A timeline is a plain object in the order of its text: {seconds, loop, yaw: [[time, value, ease], ...], ...}. Every
// edit is a function from one timeline to the next.

import { text as said } from "./editor_texts.js";

export const FPS = 25;
export const RANGES = {
    yaw: [-1, 1], pitch: [-1, 1], roll: [-1, 1], blink: [0, 1], gaze: [-1, 1],
    mouth_open: [0, 1], mouth_wide: [-1, 1], brow: [-1, 1],
};
export const CONTROLS = Object.keys(RANGES);
// u runs from 0 to 1 between two keys.
export const EASES = {
    "in-out": (u) => u * u * (3 - 2 * u),
    linear: (u) => u,
    in: (u) => u * u,
    out: (u) => u * (2 - u),
    hold: () => 0,
};
export const DEFAULT_EASE = "in-out";
export const STEPS = { seconds: 1 / FPS, value: 0.05, fine: 0.01 };

const OPTIONS = ["seconds", "loop"];
const MAX_SECONDS = 1e6;

// ---- text to timeline ----

// Throws an Error that says what is wrong. A blank text is a timeline without keys, so that drawing can begin there.
export function read(text) {
    if (!text.trim()) return {};
    const found = parse(text);
    const unknown = Object.keys(found).filter((name) => !CONTROLS.includes(name) && !OPTIONS.includes(name));
    if (unknown.length) fail("timeline.unknown", { names: shortened(unknown.join(", ")) });
    if ("loop" in found && typeof found.loop !== "boolean") fail("timeline.loop");
    if ("seconds" in found) number("timeline.seconds", {}, found.seconds, 0, MAX_SECONDS);
    return Object.fromEntries(Object.entries(found).map(([name, value]) => {
        return [name, OPTIONS.includes(name) ? value : readKeys(name, value)];
    }));
}

function parse(text) {
    let found;
    try {
        found = JSON.parse(text);
    } catch (problem) {
        fail("timeline.json", { reason: problem.message });
    }
    if (found === null || typeof found !== "object" || Array.isArray(found)) fail("timeline.object");
    const seen = new Set();
    const twice = namesOf(text).find((name) => seen.has(name) || !seen.add(name));
    if (twice !== undefined) fail("timeline.twice", { name: shortened(twice) }); // JSON.parse drops the first
    return found;
}

// The outermost names of a valid JSON object, as often as they stand there.
function namesOf(text) {
    const names = [];
    let depth = 0;
    for (const [token, name] of text.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
        if (name) {
            if (depth === 1) names.push(JSON.parse(name));
        } else if ("[{".includes(token)) depth += 1;
        else if ("]}".includes(token)) depth -= 1;
    }
    return names;
}

function readKeys(name, keys) {
    if (!Array.isArray(keys) || !keys.length) fail("timeline.list", { name });
    const read = keys.map((key, place) => readKey(name, place, key));
    read.forEach(([time], place) => {
        const before = place ? read[place - 1][0] : -1;
        if (time <= before) fail("timeline.order", { name, time, before });
    });
    return read;
}

function readKey(name, place, key) {
    const which = { name, place };
    if (!Array.isArray(key) || key.length < 2 || key.length > 3)
        fail("timeline.key", which);
    const [time, value, ease = DEFAULT_EASE] = key;
    number("timeline.keyTime", which, time, 0, MAX_SECONDS);
    number("timeline.keyValue", which, value, ...RANGES[name]);
    if (typeof ease !== "string" || !Object.hasOwn(EASES, ease))
        fail("timeline.keyEase", { ...which, eases: Object.keys(EASES).join(", ") });
    return [time, value, ease];
}

function shortened(text) {
    return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}

function number(complaint, which, value, low, high) {
    if (typeof value !== "number" || !(value >= low && value <= high)) fail(complaint, { ...which, low, high });
}

// In the editor's language.
function fail(complaint, values) {
    throw new Error(said(complaint, values));
}

// Why the node would refuse a timeline that can be drawn and edited; null if it would not.
export function complaint(timeline) {
    if (!CONTROLS.some((name) => name in timeline)) return said("timeline.nothing");
    const timed = "seconds" in timeline || timeline.loop;
    return timed && frames(timeline) < 1 ? said("timeline.short") : null;
}

// ---- timeline to text ----

// One control a line, in the order that they had; the default ease is left out.
export function write(timeline) {
    const lines = Object.entries(timeline).map(([name, value]) => {
        return `  "${name}": ${OPTIONS.includes(name) ? JSON.stringify(value) : writeKeys(value)}`;
    });
    return lines.length ? `{\n${lines.join(",\n")}\n}` : "{}";
}

function writeKeys(keys) {
    const written = keys.map(([time, value, ease]) => {
        return ease === DEFAULT_EASE ? `[${time}, ${value}]` : `[${time}, ${value}, "${ease}"]`;
    });
    return `[${written.join(", ")}]`;
}

// ---- in time ----

// v0 + (v1 - v0) ease((t - t0) / (t1 - t0)) between the keys 0 and 1 around t; the end values hold outside.
export function valueAt(keys, seconds) {
    let low = 0;
    for (let high = keys.length; high - low > 1;) { // the last key that is not later, by halves
        const middle = (low + high) >> 1;
        if (keys[middle][0] <= seconds) low = middle;
        else high = middle;
    }
    const [time, value, ease] = keys[low];
    if (low + 1 === keys.length || seconds <= time) return value;
    const [nextTime, nextValue] = keys[low + 1];
    return value + (nextValue - value) * EASES[ease]((seconds - time) / (nextTime - time));
}

// A control's value in one pixel frame of the driving.
export function valueInFrame(timeline, name, frame) {
    return valueAt(timeline[name], (timeline.loop ? frame % frames(timeline) : frame) / FPS);
}

export function lastKeyTime(timeline) {
    return Math.max(0, ...CONTROLS.filter((name) => name in timeline).map((name) => timeline[name].at(-1)[0]));
}

// Pixel frames after which a timeline with a length ends, and one with a loop begins again.
export function frames(timeline) {
    return roundHalfToEven((timeline.seconds ?? lastKeyTime(timeline)) * FPS);
}

// As Python rounds.
function roundHalfToEven(value) {
    const below = Math.floor(value);
    return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

// ---- edits ----

export function snapped(value, step) {
    return Number((Math.round(value / step) * step).toFixed(4)) + 0; // + 0: no minus zero
}

function clamped(value, low, high) {
    return Math.min(Math.max(value, low), high);
}

function withKeys(timeline, name, keys) {
    const { [name]: _, ...others } = timeline;
    return keys.length ? { ...timeline, [name]: keys } : others;
}

// Replaces a key of the same time. It goes on as the key before it does.
export function withKey(timeline, name, time, value) {
    const keys = timeline[name] ?? [];
    const at = clamped(time, 0, MAX_SECONDS);
    const before = keys.filter((key) => key[0] < at);
    const after = keys.filter((key) => key[0] > at);
    const ease = (keys.find((key) => key[0] === at) ?? before.at(-1))?.[2] ?? DEFAULT_EASE;
    return withKeys(timeline, name, [...before, [at, clamped(value, ...RANGES[name]), ease], ...after]);
}

// The key goes where it is asked to, but not out of its range nor nearer than a frame to its neighbours.
export function withKeyAt(timeline, name, place, time, value) {
    const keys = timeline[name];
    const earliest = place ? snapped(keys[place - 1][0] + STEPS.seconds, 1e-4) : 0;
    const latest = place + 1 < keys.length ? snapped(keys[place + 1][0] - STEPS.seconds, 1e-4) : MAX_SECONDS;
    const at = earliest <= latest ? clamped(time, earliest, latest) : keys[place][0];
    return withKeys(timeline, name, keys.with(place, [at, clamped(value, ...RANGES[name]), keys[place][2]]));
}

export function withEase(timeline, name, place, ease) {
    const [time, value] = timeline[name][place];
    return withKeys(timeline, name, timeline[name].with(place, [time, value, ease]));
}

export function withoutKey(timeline, name, place) {
    return withKeys(timeline, name, timeline[name].toSpliced(place, 1));
}

// null: up to the last key.
export function withSeconds(timeline, seconds) {
    const { seconds: _, ...others } = timeline;
    if (seconds === null) return others;
    const length = clamped(seconds, STEPS.seconds, MAX_SECONDS);
    return "seconds" in timeline ? { ...timeline, seconds: length } : { seconds: length, ...others };
}

export function withLoop(timeline, loop) {
    if ("loop" in timeline) return { ...timeline, loop };
    const { seconds, ...others } = timeline;
    return seconds === undefined ? { loop, ...others } : { seconds, loop, ...others };
}
