// What the live player consists of: its elements, with their labels and styles, and nothing that happens.

import { element } from "./element.js";
import { icon } from "../../knot_forcing/live/page/icons.js";
import { canPopOut } from "./pop_out.js";
import { text } from "./editor_texts.js";

export const STYLESHEET = new URL("live_player.css", import.meta.url).href;
export const BUTTON = "kf-button";

function withStyle() {
    if (document.querySelector(`link[href="${STYLESHEET}"]`)) return;
    document.head.append(element("link", {}, { rel: "stylesheet", href: STYLESHEET }));
}

export function button(iconName, label, onClick, className = BUTTON) {
    const made = element("button", {}, { type: "button", className });
    made.addEventListener("click", onClick);
    dress(made, iconName, label);
    return made;
}

// Another drawing, label and words, if they differ from those there are.
export function dress(made, iconName, label, words = "") {
    if (made.dataset.icon === iconName && made.title === label && made.dataset.words === words) return;
    Object.assign(made.dataset, { icon: iconName, words });
    made.replaceChildren(icon(iconName), ...(words ? [words] : []));
    made.title = label;
    made.setAttribute("aria-label", [words, label].filter(Boolean).join(". "));
}

function box(className, values = {}, attributes = {}) {
    const made = element("div", {}, { className, ...values });
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
}

// Everything by its name; `actions` are what its buttons do.
export function playerParts(actions) {
    withStyle();
    const video = element("video", {}, { muted: true, autoplay: true, playsInline: true });
    const pill = element("button", {}, { type: "button", className: "kf-state" });
    pill.addEventListener("click", actions.goLive);
    const said = box("kf-said", {}, { role: "status" });
    const stage = box("kf-stage", { tabIndex: 0 }, { role: "group", "aria-label": text("player.video") });
    const figures = box("kf-figures", { textContent: text("figures.waiting") });
    const problem = box("kf-problem", {}, { role: "alert" });
    const part = box("kf-player", {}, { role: "region", "aria-label": text("player.label") });
    const playback = playbackBar(video, actions);
    const stream = streamRow(actions);
    stage.append(video, pill, playback.bar, said);
    part.append(stage, stream.row, figures, problem);
    const outer = box("knot-forcing-live");
    outer.append(part);
    return { video, pill, said, stage, text: figures, problem, part, element: outer, ...playback, ...stream };
}

function playbackBar(video, actions) {
    const play = button("pause", "", actions.togglePlayback);
    const live = button("live", text("player.goLive"), actions.goLive);
    const speaker = button("silence", "", actions.mute);
    const volume = element("input", {}, { type: "range", min: 0, max: 1, step: 0.05, value: 1 });
    volume.title = text("player.volume");
    volume.setAttribute("aria-label", volume.title);
    volume.addEventListener("input", () => actions.setVolume(Number(volume.value)));
    const popper = button("popOut", text("player.popOut"), actions.popOut);
    popper.hidden = !canPopOut(video);
    const bigger = button("fullScreen", "", actions.toggleFullScreen);
    const bar = box("kf-playback");
    bar.append(play, live, speaker, volume, element("span", {}, { className: "kf-room" }), popper, bigger);
    return { bar, play, live, speaker, volume, popper, bigger };
}

function streamRow(actions) {
    const pause = button("pause", "", actions.pauseOrGoOn, `${BUTTON} kf-framed`);
    const finish = button("done", "", () => actions.tell("finish"), `${BUTTON} kf-framed`);
    dress(finish, "done", text("stream.finishHint"), text("stream.finish"));
    const place = element("span", {}, { dir: "ltr" });
    const copy = button("copy", text("player.copy"), actions.copyPlace);
    copy.hidden = !navigator.clipboard;
    const path = box("kf-path", { hidden: true });
    path.append(place, copy);
    const row = box("kf-row");
    row.append(pause, finish, path);
    return { row, pause, finish, place, copy, path };
}
