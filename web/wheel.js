// In Nodes 2.0 the wheel zooms the graph before an element in a node hears of it, unless that says so and has the focus:
// ComfyUI's own attribute. So the pointer focuses it, but not while somebody types elsewhere.
export function hearWheel(element) {
    element.dataset.captureWheel = "true";
    element.addEventListener("pointerenter", () => {
        if (!document.activeElement?.matches("input, textarea, [contenteditable]")) element.focus({ preventScroll: true });
    });
}
