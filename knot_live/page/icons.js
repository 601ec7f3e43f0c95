// Drawings on buttons, since not every system has these among its letters: 16 x 16, in the colour of the text.
// The players in ComfyUI use them too.

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
    stop: "M3.5 3.5h9v9h-9z",
    record: "M8 3.5a4.5 4.5 0 1 0 .01 0z",
    microphone: "M6 4a2 2 0 0 1 4 0v4a2 2 0 0 1-4 0z M3.5 8a4.5 4.5 0 0 0 9 0 M8 12.5V15",
    camera: "M1.5 4.5h9v7h-9z M10.5 7l4-2v6l-4-2",
    reset: "M3 8a5 5 0 1 0 1.6-3.7 M3 2.5v3h3",
    upload: "M8 11V2.5 M4.5 6L8 2.5 11.5 6 M2.5 11v2.5h11V11",
};

export function icon(name) {
    const drawing = document.createElementNS(SVG, "svg");
    const values = {
        width: 16, height: 16, viewBox: "0 0 16 16", fill: "none", stroke: "currentColor", "stroke-width": 1.4,
        "stroke-linejoin": "round", "stroke-linecap": "round", "aria-hidden": true,
    };
    for (const [key, value] of Object.entries(values)) drawing.setAttribute(key, value);
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", PATHS[name]);
    drawing.append(path);
    return drawing;
}
