// The page in the browser's language: Chinese, or else English. `?language=zh` or `en` asks for one.

import { text, translate } from "./texts.js";
import { CHINESE } from "./texts_zh.js";

const PLACES = { text: "textContent", placeholder: "placeholder", title: "title" };

export function inChinese() {
    const wanted = new URLSearchParams(location.search).get("language") ?? navigator.language;
    return wanted.toLowerCase().startsWith("zh");
}

// Before anything is made of the page's words: elements name theirs by data-text, -label, -placeholder and -title.
export function speakTheBrowsersLanguage() {
    if (inChinese()) {
        translate(CHINESE);
        document.documentElement.lang = "zh";
    }
    for (const [name, property] of Object.entries(PLACES))
        for (const one of document.querySelectorAll(`[data-${name}]`)) one[property] = text(one.dataset[name]);
    for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", text(one.dataset.label));
}
