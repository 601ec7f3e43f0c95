// The page: it starts a session, shows it, and hands on what is done by hand.

import { choosePlayer, peerPlayer, socketUrl, takeFragment } from "./choose_player.js";
import { Devices } from "./devices.js";
import { byId } from "./elements.js";
import { Figures } from "./figures.js";
import { speakTheBrowsersLanguage } from "./language.js";
import { KIND, LiveClient } from "./live_client.js";
import { Panel } from "./panel.js";
import { PeerSocket } from "./peer_socket.js";
import { Recording } from "./recording.js";
import { References } from "./references.js";
import { Stage } from "./stage.js";
import { sentence, text } from "./texts.js";

const LOOK = 250; // milliseconds between two looks at the figures
const WAIT_FOR_END = 4000; // milliseconds
const WAIT_FOR_CUT = 3000; // milliseconds after which the sound comes back where the server said nothing

class App {
    constructor() {
        this.token = takeFragment().get("token");
        this.view = new Stage({
            start: () => this.start(), finish: () => this.finish(), silence: () => this.silence(), pause: () => this.pauseOrGoOn(),
            sound: () => this.setSound(!this.soundOn), record: () => this.recording.toggle(), share: () => this.share(),
            say: (words, voice) => this.send("session.say", { text: words, voice }),
            look: (x, y) => this.interact({ look: { x, y } }), gesture: (name) => this.gesture(name),
        });
        this.panel = new Panel(byId("panel"), {
            controls: (controls) => this.interact({ controls }), gesture: (name) => this.gesture(name),
            liveliness: (liveliness) => this.send("session.update", { liveliness }),
            chunkLength: (frames) => this.client && this.send("session.update", { settings: { num_chunk_frames: frames } }),
            prompt: (prompt) => this.interact({ prompt }), reference: (name, cut) => this.references.choose(name, cut),
            upload: (file) => this.references.upload(file), points: () => this.references.setPoints(), microphone: () => this.devices.toggleMicrophone(),
            camera: () => this.devices.toggleCamera(), recentre: () => this.send("camera.recentre"),
        });
        this.view.panel = this.panel;
        this.devices = new Devices(this);
        this.recording = new Recording(this);
        this.references = new References(this);
        this.soundOn = true;
        this.figures = new Figures();
        setInterval(() => this.look(), LOOK);
        // whoever leaves or reloads the page has lost its token, and the server need not wait for it
        addEventListener("pagehide", () => this.client?.send("session.finish"));
    }

    async load() {
        this.view.showState("idle");
        this.view.showFigures(null);
        const chosen = choosePlayer(new URLSearchParams(location.search).get("player"));
        try {
            const answer = await fetch("/v1/info");
            this.info = await answer.json();
            if (!answer.ok) return this.view.problem(sentence(this.info.error.message));
        } catch {
            return this.view.problem(text("problem.unreachable"));
        }
        this.view.showEntry(this.info.token_needed && !this.token);
        this.view.begin(this.info);
        this.panel.begin(this.info);
        this.references.load(this.info.references);
        this.panel.offerPeer(!!peerPlayer(this.info));
        const { Player, reason } = await chosen;
        this.Player = Player;
        if (!Player) return this.view.problem(text(reason));
        if (reason) this.view.fallback(text(reason));
    }

    // Everything that sound needs is asked for in the click itself.
    async start() {
        if (this.client || !this.Player) return;
        this.view.showState("starting");
        this.view.problem("");
        this.token = this.view.token || this.token;
        this.figures = new Figures();
        this.spoken = []; // what is known of the newest chunks
        const Player = this.panel.overPeer ? peerPlayer(this.info) : this.Player;
        const player = this.player = new Player({
            canvas: byId("canvas"), video: byId("video"), fps: this.info?.fps ?? 25,
            onPlayed: (epoch, frame) => this.client?.acknowledge(epoch, frame, this.player.decodeTime),
            onPaint: (_epoch, frame, now) => this.onPaint(frame, now),
            onFail: (reason) => this.stop("ended", text("problem.decoder", { reason })),
        });
        this.setSound(this.soundOn);
        this.client = new LiveClient({
            url: socketUrl(), dial: Player.peer && (() => this.dial(player)), onMessage: (message) => this.hear(message), onMedia: (media) => player.accept(media),
            onState: (state, reason, message) => this.onState(state, reason, message), lastFrame: () => player.playedFrame,
        });
        try {
            const [created] = await Promise.all([this.client.open(this.wish(Player)), player.start()]);
            this.begin(created);
        } catch (problem) {
            if (Player.peer && problem.code === "unreachable") this.startOverSocket();
            else this.refused(problem);
        }
    }

    dial(player) {
        return new PeerSocket({
            token: this.client.created?.resume_token ?? this.token, onStream: (stream, peer) => player.attach(stream, peer),
        });
    }

    // Networks may let no WebRTC through.
    startOverSocket() {
        this.stop("idle", "");
        this.panel.overPeer = false;
        this.start();
        this.view.notice(text("notice.fallback.peer"));
    }

    wish(Player) {
        return {
            type: "session.create", ...(this.token ? { token: this.token } : {}), reference: this.references.chosen,
            seed: Math.floor(Math.random() * 2 ** 31), settings: { num_chunk_frames: this.panel.numChunkFrames },
            ...Player.formats, speech: { rate: 24_000, mode: "mirror" },
        };
    }

    begin(created) {
        this.view.begin(created);
        this.panel.begin(created);
        this.panel.setRunning(true);
        this.view.showEntry(false);
        this.view.showState("live");
        if (this.player.silent) this.view.notice(text("notice.silent"));
        const controls = this.panel.sliders.values;
        if (Object.keys(controls).length) this.interact({ controls });
    }

    refused(problem) {
        const known = { unreachable: text("problem.unreachable"), unauthorized: text("problem.token") }[problem.code];
        this.stop("refused", known ?? sentence(problem.message));
        if (problem.code !== "unauthorized") return;
        this.view.showEntry(true);
        byId("token").focus();
    }

    onState(state, reason, message) {
        if (state === "lost") {
            this.player.setLast(true);
            this.view.showState("lost");
        }
        if (state === "open" && reason === "back") {
            this.player.setLast(false);
            this.view.showState("live");
            this.view.notice(text("notice.back"));
        }
        if (state === "ended") this.onEnd(reason, message);
    }

    onEnd(reason, message) {
        const own = { gone: text("problem.gone"), closed: text("problem.closed", { reason: message ? `: ${message}` : "" }) };
        const finished = reason === "finished";
        this.stop("ended", finished ? "" : own[reason] ?? sentence(message || reason));
    }

    hear(message) {
        const answer = {
            "control.applied": () => this.figures.onApplied(message),
            "video.chunk_metadata": () => this.onChunk(message),
            "output_audio_buffer.cleared": () => this.onCut(message),
            "session.updated": () => this.view.problem(message.rung ? sentence(message.message) : ""),
            "playback.place": () => this.player.place?.(message.frame, message.seconds),
            "session.state": () => this.onSessionState(message.state),
            "recording.ready": () => this.recording.fetch(message.url),
            error: () => this.client?.state === "open" && this.onError(message),
        }[message.type];
        answer?.();
    }

    onError({ code, message }) {
        this.view.problem(sentence(message));
        if (code === "no_camera") this.devices.stopCamera();
        this.recording.onError();
    }

    onSessionState(state) {
        this.paused = state === "paused";
        this.player.setLast(this.paused);
        if (state === "paused" || state === "running") this.view.showState(state === "paused" ? "paused" : "live");
    }

    onChunk(message) {
        this.figures.onChunk(message);
        this.spoken = this.spoken.filter(({ first_frame }) => first_frame < message.first_frame).slice(-8);
        this.spoken.push(message);
    }

    onCut({ epoch, first_frame }) {
        clearTimeout(this.cutting);
        this.player.cut(epoch, first_frame);
        this.figures.onCut(first_frame);
    }

    onPaint(frame, now) {
        this.view.showPicture(this.player.element);
        this.figures.onPaint(frame, now);
        this.view.setSpeaking(!!this.spoken.findLast(({ first_frame }) => first_frame <= frame)?.speech);
    }

    send(type, fields = {}) {
        const eventId = this.client?.send(type, fields) ?? null;
        if (eventId) this.view.problem("");
        return eventId;
    }

    interact(fields) {
        this.figures.onSent(this.send("session.interaction", fields));
    }

    interactReference(reference, cut) {
        this.figures.onSent(this.send("session.reference", { reference, cut }));
    }

    gesture(name) {
        this.interact({ gesture: { name, strength: this.panel.strength } });
    }

    // Silent at once; what is made already is cut as soon as the server has heard it.
    silence() {
        if (!this.player) return;
        this.player.mute();
        clearTimeout(this.cutting);
        this.cutting = setTimeout(() => this.player?.unmute(), WAIT_FOR_CUT);
        this.send("output_audio_buffer.clear", { played_frame: this.player.playedFrame });
    }

    pauseOrGoOn() {
        this.send(this.paused ? "session.go_on" : "session.pause");
    }

    setSound(on) {
        this.soundOn = on;
        this.player?.setVolume(on ? 1 : 0);
        this.view.showSound(on);
    }

    async share() {
        const url = `${location.origin}/view#token=${this.client.created.view_token}`;
        const copied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
        this.view.notice(copied ? text("notice.copied") : text("notice.link", { url }));
    }

    // The server answers with the end, and before it with a recording that runs; one that does not answer is left.
    finish() {
        if (!this.send("session.finish")) return this.stop("ended", "");
        this.view.showState("ending");
        this.leaving = setTimeout(() => this.stop("ended", ""), WAIT_FOR_END);
    }

    stop(state, problem) {
        clearTimeout(this.cutting);
        clearTimeout(this.leaving);
        this.devices.stop();
        this.recording.stop();
        this.client?.close();
        this.player?.close();
        if (this.player?.element !== byId("canvas")) this.view.showPoster();
        this.client = this.player = null;
        this.paused = false;
        this.panel.setRunning(false);
        this.view.showState(state);
        this.view.problem(problem);
    }

    sendSpeech(pcm) {
        if (!this.client?.socket?.sendSound) this.client?.sendMedia(KIND.speech, pcm);
    }

    // A peer connection takes the microphone itself.
    sendSound(track) {
        this.client?.socket?.sendSound?.(track);
    }

    sendCamera(jpeg) {
        this.client?.sendMedia(KIND.camera, jpeg);
    }

    look() {
        if (!this.player) return;
        const now = this.player.figures;
        this.view.showFigures(this.figures.line(now));
        this.view.showStall(now.stalled, this.figures.factor(this.info.fps));
    }
}

speakTheBrowsersLanguage();
const app = new App();
window.knotLive = app; // for whoever looks at it from the console, and for the tests
app.load();
