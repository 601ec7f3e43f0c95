// What the live page's own modules say in a node, in the editor's language. They are written in English.

import { translate } from "../../knot_forcing/live/page/texts.js";
import { inChinese } from "./texts.js";

const CHINESE = {
    "notice.mirror": "人像映射你的声音。其间它的声音关闭，以免你听到延迟的自己。",
    "notice.fallback.insecure": "此地址不是安全地址（https 或 localhost），浏览器不提供 WebCodecs，因此改用 Media Source 播放，晚零点几秒。",
    "notice.fallback.missing": "此浏览器没有支持 H.264 的 WebCodecs，因此改用 Media Source 播放，晚零点几秒。",
    "notice.silent": "浏览器不播放声音；画面照常活动。",
    "problem.player": "此浏览器既不能用 WebCodecs 也不能用 Media Source 播放 H.264。近年的 Chrome、Edge、Firefox 和 Safari 都可以。",
    "problem.decoder": "浏览器无法解码视频（{reason}）。",
    "problem.fullScreen": "浏览器在此处不支持全屏。",
    "microphone.insecure": "浏览器只对安全地址开放麦克风：请以 https 或在 localhost 打开 ComfyUI。",
    "microphone.refused": "浏览器被设置为不开放麦克风。请在地址栏中允许，然后重试。",
    "microphone.missing": "没有麦克风。",
    "microphone.busy": "另一个程序正在使用麦克风。",
    "microphone.failed": "无法使用麦克风。",
    "camera.insecure": "浏览器只对安全地址开放摄像头：请以 https 或在 localhost 打开 ComfyUI。",
    "camera.refused": "浏览器被设置为不开放摄像头。请在地址栏中允许，然后重试。",
    "camera.missing": "没有摄像头。",
    "camera.busy": "另一个程序正在使用摄像头。",
    "camera.failed": "无法使用摄像头。",
    "panel.move": "移动",
    "panel.idle": "待机",
    "panel.reset": "恢复待机",
    "panel.resetAll": "全部恢复待机",
    "panel.moveHint": "双击滑块，或在其上按 Delete，它就恢复待机。点击画面，人像就看向那里。",
    "panel.gestures": "动作",
    "panel.you": "你",
    "panel.microphone": "映射我的声音",
    "panel.microphoneStop": "关闭麦克风",
    "panel.level": "麦克风音量",
    "panel.microphoneHint": "你说话，人像就跟着说，大约晚一秒。",
    "panel.camera": "映射我的脸",
    "panel.cameraStop": "关闭摄像头",
    "panel.cameraHint": "每秒最多 15 张图片发送到 ComfyUI，由它读取头部和脸的姿态，不保留任何图片。",
    "panel.settings": "流",
    "panel.liveliness": "待机时的活跃度",
    "panel.chunk": "块的长度",
    "panel.fast": "回应快",
    "panel.best": "画面好",
    "panel.prompt": "提示词",
    "panel.promptSend": "使用",
    "control.yaw": "转头", "control.pitch": "点头", "control.roll": "歪头", "control.gaze": "视线", "control.blink": "眨眼",
    "control.brow": "眉毛", "control.mouth_open": "张嘴", "control.mouth_wide": "嘴宽",
    "gesture.nod": "点头", "gesture.shake": "摇头", "gesture.smile": "微笑", "gesture.wink": "眨眼", "gesture.brows": "挑眉",
    "gesture.look_left": "看左", "gesture.look_right": "看右", "gesture.look_up": "看上", "gesture.look_down": "看下",
    "figures.visible": "操作到可见 {seconds} 秒",
    "figures.visibleMedian": "操作到可见 {seconds} 秒（{count} 次的中位数：{median} 秒）",
    "figures.visibleNone": "操作到可见 –",
    "figures.chunk": "每块 {seconds} 秒",
    "figures.fps": "{fps} 帧/秒",
    "figures.buffer": "缓冲 {seconds} 秒",
    "figures.stalls": "停顿 {stalls} 次",
    "figures.stalls.1": "停顿 1 次",
};

// Before a player is made: its elements are written once.
export function speakTheEditorsLanguage() {
    if (inChinese()) translate(CHINESE);
}
