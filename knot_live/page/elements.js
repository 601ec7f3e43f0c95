// Small helpers for the page's elements.

import { icon } from "./icons.js";

export const byId = (id) => document.getElementById(id);

// An element with its properties; names with a dash are attributes.
export function make(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
        else made[name] = value;
    }
    made.append(...children);
    return made;
}

// A button's drawing, its words, and its hint; only where they changed, so that a screen reader is not disturbed.
export function dress(button, iconName, words, hint = words) {
    const now = [iconName, words, hint].join("|");
    if (button.dataset.dress === now) return;
    button.dataset.dress = now;
    button.replaceChildren(icon(iconName), make("span", { textContent: words }));
    button.title = hint;
    button.setAttribute("aria-label", hint.startsWith(words) ? hint : `${words}. ${hint}`);
}
