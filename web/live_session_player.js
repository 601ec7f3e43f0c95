// A live session in a node: the live page's client, player and panel, around the editor's own event of it. It knows no
// graph. Whatever goes wrong in it is said in it.

import { choosePlayer } from "../../knot_forcing/live/page/choose_player.js";
import { Devices } from "../../knot_forcing/live/page/devices.js";
import { make } from "../../knot_forcing/live/page/elements.js";
import { Figures } from "../../knot_forcing/live/page/figures.js";
import { KIND, LiveClient } from "../../knot_forcing/live/page/live_client.js";
import { Panel } from "../../knot_forcing/live/page/panel.js";
import { sentence, text as pageText } from "../../knot_forcing/live/page/texts.js";
import { dressPause, dressSound, sessionParts } from "./live_session_parts.js";
import { speakTheEditorsLanguage } from "./live_session_texts.js";
import { text } from "./editor_texts.js";

const LOOK = 250; // milliseconds between two looks at the figures
const WAIT_FOR_CUT = 3000; // milliseconds after which the sound comes back where nobody answered
const RUNNING = ["live", "paused", "lost", "finishing"];
let count = 0; // of players: their elements' ids

export class LiveSessionPlayer {
    // `event` is `knot_forcing.live_session`'s; `url` where its WebSocket is.
    constructor({ event, url }) {
        Object.assign(this, { event, url });
        this.soundOn = true;
        speakTheEditorsLanguage();
        this.parts = sessionParts({
            silence: () => this.silence(), pauseOrGoOn: () => this.send(this.paused ? "session.go_on" : "session.pause"),
            sound: () => this.toggleSound(), large: () => this.toggleFullScreen(), finish: () => this.finish(),
            say: (words, voice) => this.send("session.say", { text: words, voice }), look: (x, y) => this.interact({ look: { x, y } }),
        });
        this.element = this.parts.element;
        this.controls = new Panel(this.parts.panel, {
            controls: (controls) => this.interact({ controls }), gesture: (name) => this.interact({ gesture: { name, strength: this.controls.strength } }),
            liveliness: (liveliness) => this.send("session.update", { liveliness }),
            chunkLength: (frames) => this.send("session.update", { settings: { num_chunk_frames: frames } }),
            prompt: (prompt) => this.interact({ prompt }),
            microphone: () => this.devices.toggleMicrophone(), camera: () => this.devices.toggleCamera(),
            recentre: () => this.send("camera.recentre"),
        }, { parts: ["gestures", "move", "you", "stream"], scope: `kfs${count++}-` });
        this.devices = new Devices(this.asPage());
        this.measured = new Figures();
        this.showState("starting");
        this.looking = setInterval(() => this.lookAtFigures(), LOOK);
    }

    // What the live page's devices ask of the page around them.
    asPage() {
        const player = this;
        return {
            panel: this.controls,
            view: { notice: (words) => player.note(words), problem: (words) => player.say(words) },
            get soundOn() { return player.soundOn; },
            setSound: (on) => player.setSound(on), send: (...message) => player.send(...message),
            sendSpeech: (pcm) => player.client?.sendMedia(KIND.speech, pcm),
            sendCamera: (jpeg) => player.client?.sendMedia(KIND.camera, jpeg),
        };
    }

    async start() {
        const { Player, reason } = await choosePlayer();
        if (this.closed) return;
        if (!Player) return this.fail(pageText(reason));
        if (reason) this.note(pageText(reason));
        try {
            await this.attach(Player);
        } catch (problem) {
            this.fail(problem.code === "unreachable" ? text("session.unreachable") : sentence(problem.message));
        }
    }

    async attach(Player) {
        const { session, token } = this.event;
        const player = this.player = new Player({
            canvas: this.parts.canvas, video: this.parts.video, fps: this.event.fps,
            onPlayed: (epoch, frame) => this.client?.acknowledge(epoch, frame, this.player.decodeTime),
            onPaint: (_epoch, frame, now) => this.measured.onPaint(frame, now),
            onFail: (problem) => this.fail(pageText("problem.decoder", { reason: problem })),
        });
        for (const each of [this.parts.canvas, this.parts.video]) each.hidden = each !== player.element;
        this.client = new LiveClient({
            url: this.url, onMessage: (message) => this.hear(message), onMedia: (media) => player.accept(media),
            onState: (state, reason, message) => this.onState(state, reason, message), lastFrame: () => player.playedFrame,
        });
        const first = { type: "session.attach", session, token, ...Player.formats, speech: { rate: 24_000, mode: "mirror" } };
        const [created] = await Promise.all([this.client.open(first), player.start()]);
        if (!this.closed) this.begin(created);
    }

    begin(created) {
        const { size, voices = [], voice_titles = {}, speech_problem } = created;
        this.parts.stage.style.aspectRatio = `${size[0]} / ${size[1]}`;
        this.parts.voice.replaceChildren(...voices.map((name) => make("option", { value: name, textContent: voice_titles[name] ?? name })));
        const own = voices.find((name) => name.toLowerCase().startsWith(navigator.language.slice(0, 2).toLowerCase()));
        this.parts.voice.value = own ?? voices.find((name) => name.startsWith("en")) ?? voices[0] ?? "";
        this.speechless = !voices.length;
        if (speech_problem) this.note(sentence(speech_problem));
        this.controls.begin(created);
        this.showState(this.paused ? "paused" : "live");
        if (this.player.silent) this.note(pageText("notice.silent"));
    }

    onState(state, reason, message) {
        if (this.closed) return;
        if (state === "lost") this.showState("lost");
        if (state === "open" && reason === "back") this.showState(this.paused ? "paused" : "live");
        if (state === "ended") this.end(reason, message);
        this.player?.setLast(state === "lost" || this.paused);
    }

    hear(message) {
        const answer = {
            "control.applied": () => this.measured.onApplied(message),
            "video.chunk_metadata": () => this.measured.onChunk(message),
            "output_audio_buffer.cleared": () => this.onCut(message),
            "session.state": () => this.onSessionState(message.state),
            error: () => this.client?.state === "open" && this.onError(message),
        }[message.type];
        answer?.();
    }

    onError({ code, message }) {
        this.say(sentence(message));
        if (code === "no_camera") this.devices.stopCamera();
    }

    onSessionState(state) {
        this.paused = state === "paused";
        this.player?.setLast(this.paused);
        if (["paused", "running"].includes(state) && this.state !== "finishing") this.showState(this.paused ? "paused" : "live");
    }

    onCut({ epoch, first_frame }) {
        clearTimeout(this.cutting);
        this.player.cut(epoch, first_frame);
        this.measured.onCut(first_frame);
    }

    send(type, fields = {}) {
        const eventId = this.client?.send(type, fields) ?? null;
        if (eventId) this.say("");
        return eventId;
    }

    interact(fields) {
        this.measured.onSent(this.send("session.interaction", fields));
    }

    // Silent at once; what is made already is cut as soon as it is heard of there.
    silence() {
        if (!this.player) return;
        this.player.mute();
        clearTimeout(this.cutting);
        this.cutting = setTimeout(() => this.player?.unmute(), WAIT_FOR_CUT);
        this.send("output_audio_buffer.clear", { played_frame: this.player.playedFrame });
    }

    // A page that was loaded again may play sound only once something in it was clicked.
    toggleSound() {
        const silent = this.soundOn && this.player?.silent;
        if (silent) this.player.start();
        this.setSound(silent || !this.soundOn);
    }

    setSound(on) {
        this.soundOn = on;
        this.player?.setVolume(on ? 1 : 0);
        dressSound(this.parts.sound, on);
    }

    async toggleFullScreen() {
        try {
            if (document.fullscreenElement) await document.exitFullscreen();
            else await this.parts.stage.requestFullscreen();
        } catch {
            this.say(pageText("problem.fullScreen"));
        }
    }

    finish() {
        if (this.send("session.finish")) this.showState("finishing");
    }

    // It is over: the last picture stays until the node shows the recording.
    end(reason, message) {
        if (this.state === "ended") return;
        this.showState("ended");
        this.note("");
        const asked = ["finished", "longest", "stopped"].includes(reason);
        if (!asked && reason) this.say(reason === "elsewhere" ? text("session.elsewhere") : sentence(message || reason));
        this.release();
    }

    fail(words) {
        this.showState("failed");
        this.say(words);
        this.release();
    }

    release() {
        clearTimeout(this.cutting);
        this.devices.stop();
        this.client?.close();
        this.player?.close();
        this.client = this.player = null;
        clearInterval(this.looking);
    }

    remove() {
        this.closed = true;
        this.release();
    }

    showState(state) {
        this.state = state;
        const { pill, silence, pause, finish, sentence: words, voice, speak } = this.parts;
        pill.dataset.kind = state;
        pill.textContent = text(`session.${state}`);
        const running = RUNNING.includes(state);
        for (const each of [silence, pause, finish]) each.disabled = !running || state === "finishing";
        for (const each of [words, voice, speak]) each.disabled = !running || this.speechless;
        dressPause(pause, state === "paused");
        this.controls.setRunning(running);
    }

    note(words) {
        this.parts.notice.textContent = [words, this.state === "ended" ? "" : text("session.queueWaits")].filter(Boolean).join(" ");
    }

    say(words) {
        if (this.parts.problem.textContent !== words) this.parts.problem.textContent = words;
    }

    lookAtFigures() {
        if (this.player) this.parts.figures.textContent = this.measured.line(this.player.figures).join(" · ");
    }
}
