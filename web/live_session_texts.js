// What the live page's own modules say in a node, in the editor's language. They are written in English.

import { translate } from "../../knot_forcing/live/page/texts.js";
import { CHINESE } from "../../knot_forcing/live/page/texts_zh.js";
import { inChinese } from "./editor_texts.js";

// What is otherwise here than on the page of the live server.
const HERE = {
    "microphone.insecure": "浏览器只对安全地址开放麦克风：请以 https 或在 localhost 打开 ComfyUI。",
    "camera.insecure": "浏览器只对安全地址开放摄像头：请以 https 或在 localhost 打开 ComfyUI。",
    "panel.cameraHint": "每秒最多 15 张图片发送到 ComfyUI，由它读取头部和脸的姿态，不保留任何图片。",
};

// Before a player is made: its elements are written once.
export function speakTheEditorsLanguage() {
    if (inChinese()) translate({ ...CHINESE, ...HERE });
}
