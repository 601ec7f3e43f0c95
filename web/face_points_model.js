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
