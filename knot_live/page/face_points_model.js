// Three points on a picture, and the picture in its box, without the page.

// Up to three points in pixels of a picture, and their text: "x,y x,y x,y" once there are three, nothing before.

export class FacePoints {
    constructor() {
        this.points = [];
    }

    read(text) {
        const found = text.replaceAll(";", " ").trim().split(/\s+/).map((word) => word.split(",").map(Number));
        const whole = found.length === 3 && found.every((point) => point.length === 2 && point.every(Number.isFinite));
        if (whole) this.points = found;
        else if (this.points.length === 3) this.points = []; // the text was emptied
    }

    get text() {
        return this.points.length === 3 ? this.points.map((point) => point.map(Math.round).join(",")).join(" ") : "";
    }

    // The number of the point that is held from now on: one that is near, a new one, or the nearest of all.
    take(point, near) {
        const away = this.points.map(([x, y]) => Math.hypot(x - point[0], y - point[1]));
        const nearest = away.indexOf(Math.min(...away));
        if (this.points.length < 3 && !(away[nearest] <= near)) return this.points.push(point) - 1;
        this.move(nearest, point);
        return nearest;
    }

    move(number, point) {
        this.points[number] = point;
    }

    clear() {
        this.points = [];
        return this.text;
    }
}

const LARGEST = 32; // times the whole picture's size

// A picture [width, height] in a box [width, height], as a whole or enlarged. All of it is the state: how many times it
// is enlarged, and which of its pixels lies in the middle of the box.
export class PictureView {
    constructor() {
        this.whole();
    }

    whole() {
        this.zoom = 1;
        this.middle = null;
    }

    // Pixels of the picture for one of the box, and where its corner lies in the box; no edge comes inside of the box
    // while the picture is larger.
    place(picture, box) {
        const scale = Math.max(picture[0] / box[0], picture[1] / box[1]) / this.zoom || 1;
        const corner = [0, 1].map((axis) => {
            const room = box[axis] - picture[axis] / scale;
            if (room >= 0 || !this.middle) return room / 2;
            return Math.min(0, Math.max(room, box[axis] / 2 - this.middle[axis] / scale));
        });
        return { scale, left: corner[0], top: corner[1] };
    }

    // Around a point of the picture, which stays where it is in the box. False where it is as large, or small, as can be.
    enlarge(point, factor, picture, box) {
        const before = this.place(picture, box);
        const zoom = Math.min(LARGEST, Math.max(1, this.zoom * factor));
        if (zoom === this.zoom) return false;
        const scale = before.scale * (this.zoom / zoom);
        const at = [before.left + point[0] / before.scale, before.top + point[1] / before.scale];
        this.zoom = zoom;
        this.middle = [0, 1].map((axis) => point[axis] + (box[axis] / 2 - at[axis]) * scale);
        return true;
    }
}
