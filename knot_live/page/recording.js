// Recording: the server writes it, the page fetches and saves it.

import { make } from "./elements.js";
import { text } from "./texts.js";

export class Recording {
    constructor(app) {
        this.app = app;
        this.running = false;
    }

    toggle() {
        const sent = this.app.send(this.running ? "recording.stop" : "recording.start");
        if (!sent) return;
        this.show(!this.running);
        if (this.running) this.app.view.notice(text("notice.recording"));
        this.secret = this.app.client.created.resume_token;
    }

    show(running) {
        this.running = running;
        this.app.view.showRecording(running);
    }

    onError() {
        if (this.running) this.show(false);
    }

    stop() {
        this.show(false);
    }

    async fetch(url) {
        try {
            const answer = await fetch(url, { headers: { Authorization: `Bearer ${this.secret}` } });
            if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message ?? answer.status);
            this.save(await answer.blob());
        } catch (problem) {
            this.app.view.problem(text("problem.recording", { reason: problem.message }));
        }
    }

    save(blob) {
        const url = URL.createObjectURL(blob);
        make("a", { href: url, download: `knot-live-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.mp4` }).click();
        setTimeout(() => URL.revokeObjectURL(url), 60_000);
        this.app.view.notice(text("notice.recorded"));
    }
}
