// The camera as JPEG pictures, at most 15 a second, for the pose of the driver's face.

const MOST_A_SECOND = 15;
const WIDTH = 320; // pixels: enough for landmarks
const QUALITY = 0.7;

export class Camera {
    // `video` shows what the camera sees; `onPicture(jpeg)` gets a Uint8Array.
    constructor({ video, onPicture, onEnd = () => {} }) {
        Object.assign(this, { video, onPicture, onEnd });
        this.canvas = document.createElement("canvas");
    }

    async start() {
        const video = { width: { ideal: 2 * WIDTH }, frameRate: { ideal: 30 }, facingMode: "user" };
        this.media = await navigator.mediaDevices.getUserMedia({ video });
        this.media.getTracks()[0].addEventListener("ended", () => this.onEnd());
        this.video.srcObject = this.media;
        await this.video.play();
        this.timer = setInterval(() => this.take(), 1000 / MOST_A_SECOND);
    }

    async take() {
        const { videoWidth, videoHeight } = this.video;
        if (this.taking || !videoWidth) return;
        this.taking = true;
        Object.assign(this.canvas, { width: WIDTH, height: Math.round((WIDTH * videoHeight) / videoWidth) });
        this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
        const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", QUALITY));
        this.taking = false;
        if (this.media && blob) this.onPicture(new Uint8Array(await blob.arrayBuffer()));
    }

    stop() {
        clearInterval(this.timer);
        for (const track of this.media?.getTracks() ?? []) track.stop();
        this.video.srcObject = this.media = null;
    }
}
