// What a curve editor is at: the text and the timeline read from it, the control that is drawn in full, the chosen key.
// The text is the truth. One edit is one change of it; text that cannot be read is left as it is.

import { text as said } from "./editor_texts.js";
import {
    CONTROLS, read, withEase, withKey, withKeyAt, withLoop, withSeconds, withoutKey, write,
} from "./timeline.js";

export class TimelineModel {
    // `getText` gives null where the text is none of the node's. `recall` and `remember` are for the chosen control:
    // undoing an edit makes the node, and this, anew.
    constructor({ getText, setText, recall, remember, onChange }) {
        Object.assign(this, { getText, setText, recall, remember, onChange });
        this.text = undefined; // that `timeline` was read from
        this.timeline = {};
        this.problem = null; // why there are no curves
        this.control = CONTROLS[0];
        this.place = null; // of the chosen key
        this.before = null; // the timeline, while a key is on its way
    }

    get keys() {
        return this.timeline[this.control] ?? [];
    }

    get key() {
        return this.keys[this.place] ?? null;
    }

    // Takes over what somebody else wrote.
    refresh() {
        const text = this.getText();
        if (text === this.text) return;
        this.text = text;
        this.before = null;
        this.timeline = {};
        this.problem = null;
        if (text === null) this.problem = "The text comes over a cable: its curves are not known here.";
        else this.take(text);
        const given = CONTROLS.find((name) => name in this.timeline);
        this.control = this.recall() ?? given ?? this.control;
        if (!this.key) this.place = null;
        this.onChange();
    }

    take(text) {
        try {
            this.timeline = read(text);
        } catch (problem) {
            this.problem = said("timeline.mend", { problem: problem.message });
        }
    }

    commit(timeline) {
        const text = write(timeline);
        if (!this.problem && text !== write(read(this.text))) {
            this.timeline = timeline;
            this.text = text;
            this.setText(text);
        }
        this.onChange();
    }

    select(control) {
        this.remember(control);
        this.control = control;
        this.choose(null);
    }

    // Of the control's keys.
    choose(place) {
        this.place = place;
        this.onChange();
    }

    add(time, value) {
        const next = withKey(this.timeline, this.control, time, value);
        this.place = next[this.control].findIndex((key) => key[0] === time);
        this.commit(next);
    }

    remove(place) {
        this.place = null;
        this.commit(withoutKey(this.timeline, this.control, place));
    }

    // What is no number stays as it is.
    move(time, value) {
        if (!this.key) return;
        const [at, to] = [time, value].map((wish, part) => (Number.isFinite(wish) ? wish : this.key[part]));
        this.commit(withKeyAt(this.timeline, this.control, this.place, at, to));
    }

    setEase(ease) {
        if (this.key) this.commit(withEase(this.timeline, this.control, this.place, ease));
    }

    setSeconds(seconds) {
        this.commit(withSeconds(this.timeline, seconds));
    }

    setLoop(loop) {
        this.commit(withLoop(this.timeline, loop));
    }

    // A drag shows where the key would be, and is an edit when it ends.
    drag(time, value) {
        if (!this.key) return;
        this.before ??= this.timeline;
        this.timeline = withKeyAt(this.before, this.control, this.place, time, value);
        this.onChange();
    }

    drop() {
        if (!this.before) return;
        this.before = null;
        this.commit(this.timeline);
    }

    cancel() {
        this.timeline = this.before ?? this.timeline;
        this.before = null;
        this.onChange();
    }
}
