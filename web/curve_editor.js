// Draws and edits the curves of an expression timeline.

import { Fields, Legend } from "./curve_fields.js";
import { element } from "./element.js";
import { text } from "./editor_texts.js";
import { STEPS, complaint, snapped, valueAt } from "./timeline.js";
import { TimelineModel } from "./timeline_model.js";
import { Plot, draw, keyAt, scrolled, wholeView, zoomed } from "./timeline_plot.js";
import { hearWheel } from "./wheel.js";

const WATCH = 200; // milliseconds; editors set a text in many ways, and comparing it while one looks finds them all
const STILL = 3; // pixels that a pointer may shake without moving a key
const ZOOM = 1.25; // a notch of the wheel

export class CurveEditor {
    // `text`: what a TimelineModel wants, but for onChange.
    constructor({ onFail, ...text }) {
        this.onFail = onFail;
        this.model = new TimelineModel({ ...text, onChange: () => this.update() });
        this.pointer = null; // where it is, over the curves
        this.drag = null; // of a key: {x, y, plot, key}; of the time axis: {x, view}
        this.view = null; // {from, to} in seconds, if not all of it
        this.build();
        this.sight = new IntersectionObserver(this.guarded((entries) => this.follow(entries.at(-1).isIntersecting)));
        this.sight.observe(this.element);
    }

    // Nothing goes on while nobody looks, nor after the node is gone.
    follow(seen) {
        clearInterval(this.watch);
        if (!seen) return;
        this.watch = setInterval(this.guarded(() => this.refresh()), WATCH);
        this.refresh();
    }

    // Whatever goes wrong here ends the editor of curves and nothing else: the text stays.
    guarded(action) {
        return (event) => {
            try {
                action(event);
            } catch (problem) {
                this.remove();
                this.onFail(problem);
            }
        };
    }

    remove() {
        clearInterval(this.watch);
        this.sight.disconnect();
        this.element.remove();
    }

    build() {
        this.canvas = element("canvas", {}, { tabIndex: 0 });
        hearWheel(this.canvas);
        this.message = element("div", {}, { className: "message" });
        const stage = element("div", {}, { className: "stage" });
        stage.append(this.canvas, this.message);
        this.legend = new Legend((name) => this.guarded(() => this.model.select(name))());
        this.fields = new Fields();
        this.element = element("div", {}, { className: "knot-forcing-curves" });
        this.element.append(this.legend.element, stage, ...this.fields.rows);
        this.listen(this.canvas, {
            pointerdown: (event) => this.onDown(event),
            pointermove: (event) => this.onMove(event),
            pointerup: (event) => this.onUp(event),
            pointercancel: () => this.cancelDrag(),
            pointerleave: () => this.point(null),
            dblclick: (event) => this.onDoubleClick(event),
            contextmenu: (event) => this.onContextMenu(event),
            keydown: (event) => this.onKeyDown(event),
            wheel: (event) => this.onWheel(event),
        });
        const { time, value, ease, seconds, loop } = this.fields;
        this.listen(time, { change: () => this.model.move(time.valueAsNumber, null) });
        this.listen(value, { change: () => this.model.move(null, value.valueAsNumber) });
        this.listen(ease, { change: () => this.model.setEase(ease.value) });
        this.listen(seconds, { change: () => this.setSeconds(seconds) });
        this.listen(loop, { change: () => this.model.setLoop(loop.checked) });
    }

    listen(target, events) {
        for (const [name, action] of Object.entries(events)) {
            target.addEventListener(name, this.guarded(action), { passive: false });
        }
    }

    // Takes over what was typed, and the size and zoom at which it is shown.
    refresh() {
        this.model.refresh();
        const { clientWidth: width, clientHeight: height } = this.canvas;
        const scale = (this.canvas.getBoundingClientRect().width / width || 1) * (window.devicePixelRatio || 1);
        const shown = `${width} ${height} ${scale.toFixed(3)}`;
        if (shown === this.shown) return;
        Object.assign(this, { shown, width, height, scale });
        this.paint();
    }

    setSeconds(field) {
        if (field.validity.badInput) return this.update();
        this.view = null;
        this.model.setSeconds(field.value === "" ? null : field.valueAsNumber);
    }

    // ---- pointer and keyboard ----

    place(event) {
        const box = this.canvas.getBoundingClientRect(); // the editor zooms its nodes
        return {
            x: ((event.clientX - box.left) * this.width) / box.width,
            y: ((event.clientY - box.top) * this.height) / box.height,
        };
    }

    // What a pointer is on; nothing where the text cannot be read.
    under({ x, y }, plot = this.plot()) {
        if (this.model.problem) return { plot, ruler: false, hit: null };
        const ruler = plot.onRuler(y);
        return { plot, ruler, hit: ruler ? null : keyAt(plot, this.model.keys, x, y) };
    }

    onDown(event) {
        if (event.button !== 0 || this.model.problem) return;
        event.stopPropagation(); // else the editor drags the node
        this.canvas.setPointerCapture(event.pointerId);
        const place = this.place(event);
        const { ruler, hit } = this.under(place);
        if (ruler) {
            this.drag = { ...place, view: this.shownView() };
            return;
        }
        this.model.choose(hit);
        if (hit !== null) this.drag = { ...place, plot: this.plot(), key: this.model.key };
    }

    onMove(event) {
        const place = this.place(event);
        if (!this.drag) return this.point(place);
        event.stopPropagation();
        if (this.drag.view) return this.scroll(place.x);
        const { plot, x, y, key: [time, value] } = this.drag;
        const step = event.shiftKey ? STEPS.fine : STEPS.value;
        const later = plot.seconds(place.x) - plot.seconds(x);
        const higher = plot.value(place.y) - plot.value(y);
        const at = Math.abs(place.x - x) < STILL ? time : snapped(Math.min(time + later, plot.to), STEPS.seconds);
        const to = Math.abs(place.y - y) < STILL ? value : snapped(value + higher, step);
        this.model.drag(at, to);
    }

    onUp(event) {
        if (!this.drag) return;
        event.stopPropagation();
        this.drag = null;
        this.model.drop();
        this.paint();
    }

    cancelDrag() {
        this.drag = null;
        this.model.cancel();
    }

    onDoubleClick(event) {
        event.stopPropagation();
        if (this.model.problem) return;
        const place = this.place(event);
        const { plot, ruler, hit } = this.under(place);
        if (ruler) {
            this.view = null;
            this.update();
        } else if (hit === null) {
            const time = Math.min(Math.max(plot.seconds(place.x), 0), plot.to);
            this.model.add(snapped(time, STEPS.seconds), snapped(plot.value(place.y), STEPS.value));
        }
    }

    onContextMenu(event) {
        event.preventDefault();
        event.stopPropagation();
        const { hit } = this.under(this.place(event));
        if (hit !== null) this.model.remove(hit);
    }

    onKeyDown(event) {
        const { model } = this;
        if (!model.key || event.ctrlKey || event.metaKey || event.altKey) return; // undo is the editor's
        const [time, value] = model.key;
        const step = event.shiftKey ? STEPS.fine : STEPS.value;
        const action = {
            Delete: () => model.remove(model.place),
            Backspace: () => model.remove(model.place),
            Escape: () => (this.drag ? this.cancelDrag() : model.choose(null)),
            ArrowLeft: () => model.move(snapped(time - STEPS.seconds, STEPS.seconds), null),
            ArrowRight: () => model.move(snapped(time + STEPS.seconds, STEPS.seconds), null),
            ArrowUp: () => model.move(null, snapped(value + step, step)),
            ArrowDown: () => model.move(null, snapped(value - step, step)),
        }[event.key];
        if (!action) return;
        event.preventDefault();
        event.stopPropagation(); // Delete would remove the node
        action();
    }

    onWheel(event) {
        const place = this.place(event);
        const { plot, ruler } = this.under(place);
        if (!ruler) return; // there the editor zooms
        event.preventDefault();
        event.stopPropagation();
        const factor = event.deltaY < 0 ? 1 / ZOOM : ZOOM;
        this.view = zoomed(this.shownView(), plot.seconds(place.x), factor, wholeView(this.model.timeline));
        this.update();
    }

    scroll(x) {
        const { view, x: from } = this.drag;
        const seconds = this.plot().seconds(from) - this.plot().seconds(x);
        this.view = scrolled(view, seconds, wholeView(this.model.timeline));
        this.update();
    }

    point(place) {
        this.pointer = place;
        this.paint();
    }

    // ---- what is seen ----

    // While a key is dragged the axis stays as it was.
    shownView() {
        const { from, to } = this.drag?.plot ?? this.view ?? wholeView(this.model.timeline);
        return { from, to };
    }

    plot() {
        const { width, height, model } = this;
        return new Plot({ width, height, view: this.shownView(), control: model.control });
    }

    update() {
        const { control, timeline, key, problem } = this.model;
        this.legend.show(control, timeline, !problem);
        this.fields.show(key, timeline, !problem);
        this.message.textContent = problem;
        this.message.hidden = !problem;
        this.paint();
    }

    paint() {
        if (!this.width || !this.height) return;
        const context = this.sharpContext();
        const idle = { plot: this.plot(), ruler: false, hit: null };
        const { plot, ruler, hit } = this.pointer && !this.drag ? this.under(this.pointer) : idle;
        const { timeline, place: chosen } = this.model;
        draw(context, plot, timeline, { ink: getComputedStyle(this.element).color, chosen, pointed: hit });
        this.canvas.style.cursor = this.drag ? "grabbing" : cursorOn(ruler, hit);
        this.fields.note.textContent = this.noteAt(plot, ruler);
    }

    // As many pixels as the screen has there, whatever the zoom.
    sharpContext() {
        const width = Math.round(this.width * this.scale);
        const height = Math.round(this.height * this.scale);
        if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
        const context = this.canvas.getContext("2d");
        context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
        return context;
    }

    noteAt(plot, ruler) {
        const { keys, timeline, problem } = this.model;
        if (problem) return "";
        if (this.pointer && keys.length && !ruler) {
            const seconds = Math.max(plot.seconds(this.pointer.x), 0);
            const value = valueAt(keys, seconds).toFixed(2);
            return text("curves.valueAt", { value, seconds: seconds.toFixed(2) });
        }
        return complaint(timeline) ?? (keys.length ? "" : text("curves.addKey"));
    }
}

function cursorOn(ruler, hit) {
    if (hit !== null) return "grab";
    return ruler ? "ew-resize" : "crosshair";
}
