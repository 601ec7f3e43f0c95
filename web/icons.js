// Drawn, since not every system has these among its letters. All 16 x 16, in the colour of the text.

const SVG = "http://www.w3.org/2000/svg";
const CONE = "M2 6h3l4-4v12l-4-4H2z";
const PATHS = {
    play: "M4 2.5v11l9-5.5z",
    pause: "M4 2.5h2.5v11H4z M9.5 2.5H12v11H9.5z",
    sound: `${CONE} M11 5a4 4 0 0 1 0 6 M13 3a7 7 0 0 1 0 10`,
    silence: `${CONE} M11 6l4 4 M15 6l-4 4`,
    live: "M3 2.5v11l7-5.5z M12 2.5v11",
    fullScreen: "M2 6V2h4 M10 2h4v4 M14 10v4h-4 M6 14H2v-4",
    smaller: "M6 2v4H2 M14 6h-4V2 M10 14v-4h4 M2 10h4v4",
    popOut: "M2 3h12v10H2z M8 8h5v4H8z",
    copy: "M5 5h9v9H5z M11 5V2H2v9h3",
    done: "M3 8.5l3.5 3.5L13 4.5",
};

export function icon(name) {
    const drawing = document.createElementNS(SVG, "svg");
    const values = {
        width: 16, height: 16, viewBox: "0 0 16 16", fill: "none", stroke: "currentColor", "stroke-width": 1.4,
        "stroke-linejoin": "round", "aria-hidden": true,
    };
    for (const [key, value] of Object.entries(values)) drawing.setAttribute(key, value);
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", PATHS[name]);
    drawing.append(path);
    return drawing;
}
