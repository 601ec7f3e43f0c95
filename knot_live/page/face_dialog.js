// A picture whose face is set by hand: its user clicks the eyes and the mouth.

import { make } from "./elements.js";
import { FacePoints, PictureView } from "./face_points_model.js";
import { text } from "./texts.js";

const NEAR = 10; // pixels of the page within which a click is meant for a point that is there
const ZOOM = 1.25; // a notch of the wheel
const COLOURS = ["#6cf", "#6cf", "#fb6"]; // eyes, mouth

export class FaceDialog {
    constructor() {
        this.model = new FacePoints();
        this.view = new PictureView();
        this.picture = new Image();
        this.said = make("p", { className: "hint" });
        this.note = make("p", { role: "status" });
        this.canvas = make("canvas", { className: "points", tabIndex: 0, role: "img", "aria-label": text("face.title") });
        this.use = make("button", { type: "button", className: "primary", textContent: text("face.use") });
        const clear = make("button", { type: "button", textContent: text("face.clear") });
        const cancel = make("button", { type: "button", textContent: text("face.cancel") });
        this.element = make("dialog", { className: "face", "aria-label": text("face.title") }, this.said, this.canvas, this.note,
            make("div", { className: "row" }, this.use, clear, cancel));
        this.use.addEventListener("click", () => this.element.close(this.model.text));
        cancel.addEventListener("click", () => this.element.close(""));
        clear.addEventListener("click", () => this.change(() => this.model.clear()));
        this.canvas.addEventListener("pointerdown", (event) => this.press(event));
        this.canvas.addEventListener("pointermove", (event) => this.held != null && this.drag(event));
        this.canvas.addEventListener("pointerup", () => { this.held = null; });
        this.canvas.addEventListener("wheel", (event) => this.enlarge(event), { passive: false });
        new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    // Three points "x,y x,y x,y" in pixels of the file's picture; empty where its user gives up. `why`: a sentence.
    async ask(file, why = "") {
        document.body.append(this.element);
        this.said.textContent = why;
        this.said.hidden = !why;
        const address = URL.createObjectURL(file);
        try {
            this.picture.src = address;
            await this.picture.decode();
            this.model.clear();
            this.view.whole();
            this.element.returnValue = "";
            this.element.showModal();
            this.draw();
            await new Promise((done) => { this.element.addEventListener("close", done, { once: true }); });
            return this.element.returnValue;
        } finally {
            URL.revokeObjectURL(address);
            this.element.remove();
        }
    }

    get sizes() {
        return [[this.picture.naturalWidth, this.picture.naturalHeight], [this.canvas.offsetWidth, this.canvas.offsetHeight]];
    }

    // In pixels of the picture, held within it.
    at(event) {
        const { scale, left, top } = this.view.place(...this.sizes);
        const box = this.canvas.getBoundingClientRect();
        const [[width, height]] = this.sizes;
        const point = [(event.clientX - box.left - left) * scale, (event.clientY - box.top - top) * scale];
        return [Math.min(Math.max(point[0], 0), width), Math.min(Math.max(point[1], 0), height)];
    }

    press(event) {
        if (event.button !== 0) return;
        this.canvas.setPointerCapture(event.pointerId);
        this.change(() => { this.held = this.model.take(this.at(event), NEAR * this.view.place(...this.sizes).scale); });
    }

    drag(event) {
        this.change(() => this.model.move(this.held, this.at(event)));
    }

    enlarge(event) {
        event.preventDefault();
        this.change(() => this.view.enlarge(this.at(event), event.deltaY < 0 ? ZOOM : 1 / ZOOM, ...this.sizes));
    }

    change(how) {
        how();
        this.draw();
    }

    draw() {
        const { offsetWidth: across, offsetHeight: down } = this.canvas;
        Object.assign(this.canvas, { width: 2 * across, height: 2 * down });
        const pen = this.canvas.getContext("2d");
        pen.scale(2, 2);
        const { scale, left, top } = this.view.place(...this.sizes);
        const { naturalWidth: width, naturalHeight: height } = this.picture;
        if (width) pen.drawImage(this.picture, left, top, width / scale, height / scale);
        this.model.points.forEach(([x, y], number) => {
            pen.beginPath();
            pen.arc(left + x / scale, top + y / scale, 6, 0, 2 * Math.PI);
            Object.assign(pen, { lineWidth: 2, strokeStyle: COLOURS[number] });
            pen.stroke();
        });
        this.note.textContent = text(["face.firstEye", "face.otherEye", "face.mouth"][this.model.points.length] ?? "face.done");
        this.use.disabled = !this.model.text;
    }
}
