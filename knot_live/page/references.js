// The pictures that one can begin with: those of the server, and uploaded ones.

import { byId } from "./elements.js";
import { FaceDialog } from "./face_dialog.js";
import { sentence, text } from "./texts.js";

export class References {
    constructor(app) {
        this.app = app;
        this.known = [];
        this.chosen = null;
        this.dialog = new FaceDialog();
        this.file = null; // that was uploaded last
    }

    // `names` such as builtin:ada; the first is chosen.
    load(names = ["builtin:ada"]) {
        this.known = names.map((name) => {
            const label = name.replace(/^\w+:/, "");
            return { name, label: label[0].toUpperCase() + label.slice(1), picture: `/v1/references/${label}.png` };
        });
        if (!names.includes(this.chosen)) this.chosen = names[0];
        this.show();
    }

    show() {
        this.app.panel.showReferences(this.known, this.chosen);
        const { picture, label } = this.known.find(({ name }) => name === this.chosen);
        Object.assign(byId("poster"), { src: picture, alt: label });
        if (!this.app.client) this.app.view.showPoster();
    }

    choose(name, cut) {
        this.chosen = name;
        if (this.app.client) this.app.interactReference(name, cut);
        else this.show();
    }

    // `points`: eyes and mouth, where the server is not to look for them.
    async upload(file, points = "") {
        const { app } = this;
        this.file = file;
        app.panel.offerPoints(true);
        const secret = app.client?.created?.resume_token ?? (app.view.token || app.token);
        try {
            const headers = { ...(secret && { Authorization: `Bearer ${secret}` }), ...(points && { "Face-Points": points }) };
            const answer = await fetch("/v1/references", { method: "POST", body: file, headers });
            const { reference, face, error } = await answer.json();
            if (error?.code === "no_face") return await this.setPoints(sentence(error.message));
            if (!answer.ok) throw new Error(error?.message ?? answer.status);
            const picture = face ? `/v1/references/${encodeURIComponent(reference)}` : URL.createObjectURL(file); // the crop
            this.known.push({ name: reference, label: file.name, picture });
            this.choose(reference, app.panel.cut.box.checked);
            this.show();
            app.view.problem("");
            app.view.notice(face ? `${text("notice.uploaded")} ${sentence(face)}` : text("notice.uploaded"));
        } catch (problem) {
            app.view.problem(text("problem.upload", { reason: problem.message }));
        }
    }

    // Of the picture that was uploaded last; `why`: what the server said of it.
    async setPoints(why = "") {
        const points = await this.dialog.ask(this.file, why);
        if (points) await this.upload(this.file, points);
        else if (why) this.app.view.problem(why);
    }
}
