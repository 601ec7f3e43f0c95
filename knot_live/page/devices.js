// Microphone and camera of whoever sits before the page.

import { Camera } from "./camera.js";
import { deviceProblem, Microphone } from "./microphone.js";
import { text } from "./texts.js";

export class Devices {
    constructor(app) {
        this.app = app;
        this.microphone = this.camera = null;
    }

    show() {
        this.app.panel.showDevices({ microphone: !!this.microphone, camera: !!this.camera });
    }

    // The sound of the mirror is off, unless one turns it on: one would hear oneself a second late.
    async toggleMicrophone() {
        if (this.microphone) return this.stopMicrophone();
        const { app } = this;
        this.microphone = new Microphone({
            onPiece: (pcm, level) => {
                app.sendSpeech(pcm);
                app.panel.showLevel(level);
            },
            onEnd: () => this.stopMicrophone(),
        });
        if (!(await this.begin("microphone"))) return;
        app.sendSound?.(this.microphone.track); // a host that has no peer connections has none
        this.soundBefore = app.soundOn;
        app.setSound(false);
        app.view.notice(text("notice.mirror"));
    }

    stopMicrophone() {
        if (!this.microphone) return;
        this.app.sendSound?.(null);
        this.microphone.stop();
        this.microphone = null;
        this.app.send("input_audio_buffer.commit");
        if (this.soundBefore) this.app.setSound(true);
        this.show();
    }

    async toggleCamera() {
        if (this.camera) return this.stopCamera();
        this.camera = new Camera({
            video: this.app.panel.preview, onPicture: (jpeg) => this.app.sendCamera(jpeg), onEnd: () => this.stopCamera(),
        });
        await this.begin("camera");
    }

    stopCamera() {
        this.camera?.stop();
        this.camera = null;
        this.show();
    }

    // Whether the device was given; else the page says why not.
    async begin(name) {
        const device = this[name];
        this.show();
        try {
            await device.start();
            return this[name] === device;
        } catch (problem) {
            device.stop();
            this[name] = null;
            this.show();
            this.app.view.problem(text(deviceProblem(problem, name)));
            return false;
        }
    }

    stop() {
        this.stopMicrophone();
        this.stopCamera();
    }
}
