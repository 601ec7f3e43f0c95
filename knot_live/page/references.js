// The pictures that one can begin with: those of the server, and uploaded ones.

import { byId } from "./elements.js";
import { text } from "./texts.js";

export class References {
    constructor(app) {
        this.app = app;
        this.known = [];
        this.chosen = "builtin:ada";
    }

    // `names` such as builtin:ada.
    load(names = [this.chosen]) {
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

    async upload(file) {
        const { app } = this;
        const secret = app.client?.created?.resume_token ?? (app.view.token || app.token);
        try {
            const headers = secret ? { Authorization: `Bearer ${secret}` } : {};
            const answer = await fetch("/v1/references", { method: "POST", body: file, headers });
            const { reference, error } = await answer.json();
            if (!answer.ok) throw new Error(error?.message ?? answer.status);
            this.known.push({ name: reference, label: file.name, picture: URL.createObjectURL(file) });
            this.choose(reference, app.panel.cut.box.checked);
            this.show();
            app.view.notice(text("notice.uploaded"));
        } catch (problem) {
            app.view.problem(text("problem.upload", { reason: problem.message }));
        }
    }
}
