// The bare picture, for OBS or a second screen: it shows a session and can change nothing.

import { choosePlayer, socketUrl, takeFragment } from "./choose_player.js";
import { byId } from "./elements.js";
import { speakTheBrowsersLanguage } from "./language.js";
import { LiveClient } from "./live_client.js";
import { text } from "./texts.js";

speakTheBrowsersLanguage();
const values = takeFragment();
if (values.get("background")) document.body.dataset.background = values.get("background");

const say = (words) => { byId("problem").textContent = words; };

async function show(view_token) {
    const { Player, reason } = await choosePlayer(new URLSearchParams(location.search).get("player"));
    if (!Player) return say(text(reason));
    const info = await (await fetch("/v1/info")).json();
    const player = new Player({ canvas: byId("canvas"), video: byId("video"), fps: info.fps, onFail: say, onPaint: () => { player.element.hidden = false; } });
    const client = new LiveClient({
        url: socketUrl(), onMedia: (media) => player.accept(media), onState: (state, _reason, message) => onState(state, message),
        onMessage: ({ type, epoch, first_frame }) => type === "output_audio_buffer.cleared" && player.cut(epoch, first_frame),
    });
    byId("frame").style.setProperty("--ratio", info.size[0] / info.size[1]);
    window.knotLive = { client, player };
    player.setVolume(values.get("sound") === "off" ? 0 : 1);
    const [{ badge }] = await Promise.all([client.open({ type: "session.view", view_token, ...Player.formats }), player.start()]);
    byId("badge").hidden = badge === false;
    offerSound(player);
}

function onState(state, message) {
    if (state === "lost") say(text("view.lost"));
    if (state === "open") say("");
    if (state === "ended") say(message || text("view.ended"));
}

// A browser plays no sound before a click; OBS does.
function offerSound(player) {
    const button = byId("sound");
    button.hidden = !player.silent;
    button.addEventListener("click", async () => {
        await player.start();
        button.hidden = !player.silent;
    });
}

const token = values.get("token");
if (token) show(token).catch(({ message }) => say(message || text("problem.unreachable")));
else say(text("view.noToken"));
