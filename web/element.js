// An element with its style and properties.
export function element(tag, style = {}, properties = {}) {
    const made = Object.assign(document.createElement(tag), properties);
    Object.assign(made.style, style);
    return made;
}
