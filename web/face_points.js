import { FacePoints, PictureView } from "../../knot_forcing/live/page/face_points_model.js";
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { element } from "./element.js";
import { text } from "./editor_texts.js";
import { hearWheel } from "./wheel.js";

// Three points on a picture: the eyes and the mouth. They stand in the node's text widget; nothing else is stored.

const NODE = "KnotForcingEncodeAnchor";
const TEXT = "points";
const WIDGET = "knot_forcing_points";
const MARGIN = 3; // pixels above, below and beside it; the editor's own 10 leave no room for a button
const CLOSED = 30; // pixels, the margin included
const OPEN = 270;
const NEAR = 7; // pixels of the page within which a click is meant for a point that is there: its circle
const ZOOM = 1.25; // a notch of the wheel
const LOADERS = ["LoadImage", "LoadImageOutput"];
const COLOURS = ["#6cf", "#6cf", "#fb6"]; // eyes, mouth

function textWidget(node) {
    return node.widgets?.find((widget) => widget.name === TEXT);
}

// What a node that loads a file shows, or its file itself; other nodes show nothing before a run. Never a preview in
// another format, which the editor can be set to: it lies on its side where the photo says how it was held.
function addressOf(node) {
    const slot = node.inputs?.findIndex((input) => input.name === "image") ?? -1;
    const from = slot < 0 ? null : node.getInputNode?.(slot);
    const shown = from?.imgs?.[0]?.src;
    if (shown) {
        const address = new URL(shown, location.href);
        address.searchParams.delete("preview");
        return address.href;
    }
    const file = LOADERS.includes(from?.comfyClass) && from.widgets?.find((widget) => widget.name === "image")?.value;
    if (!file) return null;
    const [, path, type = "input"] = String(file).match(/^(.*?)(?: \[(input|output|temp)\])?$/s);
    const parts = path.split("/");
    const query = new URLSearchParams({ filename: parts.pop(), subfolder: parts.join("/"), type });
    return new URL(api.apiURL(`/view?${query}`), location.href).href;
}

class PointsEditor {
    constructor(node) {
        this.node = node;
        this.model = new FacePoints();
        this.view = new PictureView();
        this.open = false;
        this.picture = new Image();
        this.picture.addEventListener("load", () => this.draw());
        this.picture.addEventListener("error", () => this.draw());
        this.button = element("button", { width: "100%", height: "24px" }, { type: "button" });
        this.clear = element("button", { height: "24px" }, { type: "button", textContent: text("points.clear") });
        this.canvas = element("canvas", { width: "100%", flex: "1", minHeight: "0", touchAction: "none" }, { tabIndex: 0 });
        this.note = element("div", { font: "12px sans-serif", color: "#bbb", height: "18px" });
        this.element = element("div", {
            display: "flex", flexDirection: "column", gap: "2px", boxSizing: "border-box", overflow: "hidden",
        });
        this.element.append(this.button, this.canvas, this.note, this.clear);
        this.button.addEventListener("click", () => this.toggle(!this.open));
        this.clear.addEventListener("click", () => this.write(this.model.clear()));
        this.canvas.addEventListener("pointerenter", () => this.show());
        this.canvas.addEventListener("pointerdown", (event) => this.press(event));
        this.canvas.addEventListener("pointermove", (event) => this.move(event));
        this.canvas.addEventListener("pointerup", () => { this.held = null; });
        hearWheel(this.canvas);
        this.canvas.addEventListener("wheel", (event) => this.enlarge(event), { passive: false });
        this.resized = new ResizeObserver(() => this.draw());
        this.resized.observe(this.canvas);
        this.toggle(false);
    }

    get height() {
        return this.open ? OPEN : CLOSED;
    }

    toggle(open) {
        this.open = open;
        for (const part of [this.canvas, this.note, this.clear]) part.style.display = open ? "block" : "none";
        this.button.textContent = text(open ? "points.close" : "points.open");
        if (open) this.show();
        const [width, height] = this.node.size;
        const least = this.node.computeSize()[1];
        this.node.setSize?.([width, open ? Math.max(height, least) : Math.max(least, height - (OPEN - CLOSED))]);
        this.node.setDirtyCanvas?.(true, true);
    }

    // The picture may have been exchanged, and the text edited, since somebody last looked.
    show() {
        const address = addressOf(this.node);
        if (address && address !== this.picture.src) {
            this.picture.src = address;
            this.view.whole();
        }
        this.known = !!address;
        this.model.read(String(textWidget(this.node)?.value ?? ""));
        this.draw();
    }

    get sizes() {
        const { naturalWidth, naturalHeight } = this.picture;
        return [[naturalWidth, naturalHeight], [this.canvas.offsetWidth, this.canvas.offsetHeight]];
    }

    // Pixels of the picture for one of the canvas, and where its corner lies on the canvas.
    get place() {
        const box = this.canvas.getBoundingClientRect();
        const zoom = box.width / (this.canvas.offsetWidth || 1); // of the graph
        return { ...this.view.place(...this.sizes), zoom, box };
    }

    at(event) {
        const { scale, zoom, box, left, top } = this.place;
        return [((event.clientX - box.left) / zoom - left) * scale, ((event.clientY - box.top) / zoom - top) * scale];
    }

    press(event) {
        if (event.button !== 0 || !this.picture.naturalWidth) return;
        const point = this.at(event);
        if (!this.within(point)) return;
        this.held = this.model.take(point, NEAR * this.place.scale);
        this.canvas.setPointerCapture(event.pointerId);
        this.write(this.model.text);
        event.stopPropagation();
    }

    move(event) {
        if (this.held == null) return;
        const point = this.at(event);
        if (!this.within(point)) return;
        this.model.move(this.held, point);
        this.write(this.model.text);
    }

    // A whole picture has no use for being made smaller: then the graph is.
    enlarge(event) {
        event.stopPropagation();
        const factor = event.deltaY < 0 ? ZOOM : 1 / ZOOM;
        if (this.picture.naturalWidth && this.view.enlarge(this.at(event), factor, ...this.sizes)) {
            event.preventDefault();
            this.draw();
        } else app.canvas?.processMouseWheel?.(event);
    }

    within([x, y]) {
        return x >= 0 && y >= 0 && x <= this.picture.naturalWidth && y <= this.picture.naturalHeight;
    }

    write(value) {
        const widget = textWidget(this.node);
        if (widget && widget.value !== value) {
            widget.value = value;
            this.node.setDirtyCanvas?.(true, true);
        }
        this.draw();
    }

    draw() {
        if (!this.open) return;
        const { offsetWidth: across, offsetHeight: down } = this.canvas;
        Object.assign(this.canvas, { width: 2 * across, height: 2 * down });
        const pen = this.canvas.getContext("2d");
        pen.scale(2, 2);
        const { scale, left, top } = this.place;
        const { naturalWidth: width, naturalHeight: height } = this.picture;
        if (this.known && width) pen.drawImage(this.picture, left, top, width / scale, height / scale);
        this.model.points.forEach(([x, y], number) => {
            pen.beginPath();
            pen.arc(left + x / scale, top + y / scale, 5, 0, 2 * Math.PI);
            Object.assign(pen, { lineWidth: 2, strokeStyle: COLOURS[number] });
            pen.stroke();
        });
        const next = ["points.firstEye", "points.otherEye", "points.mouth"][this.model.points.length];
        this.note.textContent = text(!this.known || !width ? "points.noPicture" : next ?? "points.done");
    }
}

function addEditor(node) {
    const editor = new PointsEditor(node);
    const widget = node.addDOMWidget(WIDGET, WIDGET, editor.element, {
        serialize: false, hideOnZoom: false, margin: MARGIN,
        getMinHeight: () => editor.height, getMaxHeight: () => editor.height,
    });
    widget.serialize = false; // nor in the workflow
    node.knotForcingPoints = editor;
    const onRemoved = node.onRemoved;
    node.onRemoved = function (...values) {
        editor.resized.disconnect();
        return onRemoved?.apply(this, values);
    };
}

app.registerExtension({
    name: "KnotForcing.FacePoints",
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        try {
            addEditor(node);
        } catch (problem) {
            console.warn("Knot Forcing: points cannot be clicked in this editor, the text remains", problem);
        }
    },
});
