// The sound of a player that shows a <video>: it is silent where the viewer, the browser or an interruption wants that.

export class VideoSound {
    constructor(video) {
        this.video = video;
        this.silentByHand = this.silentUntilCut = false;
        this.silent = false; // the browser's wish
        this.unmuteAt = Infinity; // where in the video, in its player's own unit, an interruption's silence ends
    }

    // Called from a click, it has sound; else the browser may want it muted.
    start() {
        this.silent = false;
        this.apply();
        this.video.play().catch((problem) => {
            if (problem.name !== "NotAllowedError") return;
            this.silent = true;
            this.apply();
            this.video.play().catch(() => {});
        });
    }

    setVolume(volume) {
        this.silentByHand = volume === 0;
        this.video.volume = volume;
        this.apply();
    }

    mute() {
        this.silentUntilCut = true;
        this.unmuteAt = Infinity;
        this.apply();
    }

    unmute() {
        this.silentUntilCut = false;
        this.unmuteAt = Infinity;
        this.apply();
    }

    // What was interrupted ends at that place, and the silence with it.
    endSilenceAt(place) {
        if (this.silentUntilCut) this.unmuteAt = place;
    }

    heardUpTo(place) {
        if (place >= this.unmuteAt) this.unmute();
    }

    apply() {
        this.video.muted = this.silentByHand || this.silent || this.silentUntilCut;
    }
}
