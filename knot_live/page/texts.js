// Every sentence that the page says. The server's own sentences come with its errors.

const TEXTS = {
    "state.idle": "Ready",
    "state.starting": "Starting",
    "state.live": "Live",
    "state.speaking": "Speaking",
    "state.buffering": "Buffering",
    "state.slow": "Buffering · made at {factor}× real time",
    "state.paused": "Paused",
    "state.lost": "Connection lost",
    "state.ending": "Ending",
    "state.ended": "Ended",
    "state.refused": "Not started",
    "start": "Start",
    "start.again": "Start again",
    "veil.starting": "Starting …",
    "veil.lost": "The connection is lost. Trying to get it back …",
    "veil.paused": "Paused",
    "veil.ending": "Ending …",
    "notice.back": "The connection is back.",
    "notice.copied": "The link is copied. It shows this stream and can change nothing.",
    "notice.link": "Link for OBS: {url}",
    "notice.recording": "Recording what is shown.",
    "notice.recorded": "The recording is saved by your browser.",
    "notice.uploaded": "The picture is there.",
    "notice.mirror": "The portrait mirrors you. Its sound is off meanwhile, so that you do not hear yourself late.",
    "notice.fallback.mse": "This page was told to play through Media Source: some tenths of a second later than otherwise.",
    "notice.fallback.insecure": "This address is not a secure one (https or localhost), so the browser gives no WebCodecs. It plays "
        + "through Media Source instead, some tenths of a second later.",
    "notice.fallback.missing": "This browser has no WebCodecs for H.264. It plays through Media Source instead, some tenths of a "
        + "second later.",
    "notice.fallback.peer": "WebRTC does not get through to this server. It goes over the WebSocket instead, which comes late where "
        + "packets are lost.",
    "notice.silent": "The browser plays no sound; the picture moves all the same.",
    "problem.player": "This browser plays neither WebCodecs nor Media Source with H.264. Chrome, Edge, Firefox and Safari of the last "
        + "years do.",
    "problem.unreachable": "The server does not answer. Is python3 run.py live still running?",
    "problem.closed": "The server closed the connection{reason}.",
    "problem.gone": "The connection was lost for too long, and the session is over. Start again.",
    "problem.decoder": "The browser cannot decode the video ({reason}).",
    "problem.token": "This server wants its token. Type it in above.",
    "problem.upload": "The server took no picture ({reason}).",
    "problem.recording": "The recording cannot be fetched ({reason}).",
    "problem.fullScreen": "This browser gives no full screen here.",
    "microphone.insecure": "The browser gives a microphone only to a secure address: open this page as https (serve with --tls-cert "
        + "and --tls-key) or at localhost.",
    "microphone.refused": "The browser was told not to give the microphone. Allow it in the address bar, then try again.",
    "microphone.missing": "There is no microphone.",
    "microphone.busy": "Another program uses the microphone.",
    "microphone.failed": "The microphone cannot be used.",
    "camera.insecure": "The browser gives a camera only to a secure address: open this page as https (serve with --tls-cert and "
        + "--tls-key) or at localhost.",
    "camera.refused": "The browser was told not to give the camera. Allow it in the address bar, then try again.",
    "camera.missing": "There is no camera.",
    "camera.busy": "Another program uses the camera.",
    "camera.failed": "The camera cannot be used.",
    "bar.silence": "Stop speaking",
    "bar.silence.hint": "Stop speaking at once (Esc)",
    "bar.pause": "Pause",
    "bar.goOn": "Go on",
    "bar.mute": "Sound on",
    "bar.mute.hint": "Sound is on. Turn it off (M)",
    "bar.unmute": "Sound off",
    "bar.unmute.hint": "Sound is off. Turn it on (M)",
    "bar.record": "Record",
    "bar.record.hint": "Record to an MP4, with a mark in it that it is generated",
    "bar.recordStop": "Save",
    "bar.recordStop.hint": "Stop recording and download it",
    "bar.share": "OBS link",
    "bar.share.hint": "Copy the link of a bare picture for OBS or a second screen",
    "bar.large": "Full screen",
    "bar.large.hint": "Full screen (F)",
    "bar.finish": "End",
    "bar.finish.hint": "End this session",
    "panel.portrait": "Portrait",
    "panel.rights": "I have the rights to this picture, and the consent of whoever it shows.",
    "panel.upload": "Upload a picture",
    "panel.photo": "The built-in model draws portraits in a style of its own: upload a drawn one, from the front, hair to shoulders. A photo "
        + "will not look like the person.",
    "panel.cut": "Change at once (a cut), instead of growing out of the present one",
    "panel.move": "Move",
    "panel.idle": "idle",
    "panel.reset": "Back to idle",
    "panel.resetAll": "All back to idle",
    "panel.moveHint": "Double-click a slider, or press Delete on it, and it idles again. A click on the picture makes it look there.",
    "panel.gestures": "Gestures",
    "panel.keys": "Keys on the whole page",
    "panel.keysHint": "Off: keys work only while the picture has the focus.",
    "panel.you": "You",
    "panel.microphone": "Mirror my voice",
    "panel.microphoneStop": "Stop the microphone",
    "panel.level": "Level of the microphone",
    "panel.microphoneHint": "The portrait speaks as you speak, about a second later.",
    "panel.camera": "Mirror my face",
    "panel.cameraStop": "Stop the camera",
    "panel.cameraHint": "At most 15 pictures a second go to this page's own server, which reads the pose of your head and face from them "
        + "and keeps none.",
    "panel.recentre": "I look straight ahead",
    "panel.recentre.hint": "Look straight ahead for a second: from there on that is the middle",
    "panel.strength": "Strength",
    "panel.settings": "Stream",
    "panel.liveliness": "Liveliness while idle",
    "panel.chunk": "Length of a chunk",
    "panel.fast": "Fast answers",
    "panel.best": "Best picture",
    "panel.connection": "Connection",
    "panel.connection.socket": "WebSocket",
    "panel.connection.peer": "WebRTC (for lossy networks)",
    "panel.prompt": "Prompt",
    "panel.promptSend": "Use it",
    "control.yaw": "Turn", "control.pitch": "Nod", "control.roll": "Tilt", "control.gaze": "Gaze", "control.blink": "Blink",
    "control.brow": "Brows", "control.mouth_open": "Mouth open", "control.mouth_wide": "Mouth wide",
    "gesture.nod": "Nod", "gesture.shake": "Shake", "gesture.smile": "Smile", "gesture.wink": "Wink", "gesture.brows": "Brows",
    "gesture.look_left": "Look left", "gesture.look_right": "Look right", "gesture.look_up": "Look up", "gesture.look_down": "Look down",
    "figures.visible": "control to visible {seconds} s",
    "figures.visibleMedian": "control to visible {seconds} s (median of {count}: {median} s)",
    "figures.visibleNone": "control to visible –",
    "figures.chunk": "chunk {seconds} s",
    "figures.fps": "{fps} fps",
    "figures.buffer": "buffer {seconds} s",
    "figures.stalls": "{stalls} stalls",
    "figures.stalls.1": "1 stall",
    "figures.none": "Here it says how fast it answers.",
    "view.noToken": "This address has no token in it: copy the link again with “OBS link”.",
    "view.ended": "The stream is over.",
    "view.lost": "The connection is lost. Trying to get it back …",
};

// Another language's sentences in these ones' place.
export function translate(texts) {
    Object.assign(TEXTS, texts);
}

export const has = (key) => key in TEXTS;

// As a sentence: the server's begin with a small letter, as in a log.
export function sentence(message) {
    const whole = message ? message[0].toUpperCase() + message.slice(1) : "";
    return /[.!?)]$/.test(whole) ? whole : `${whole}.`;
}

export function text(key, values = {}) {
    return (TEXTS[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
