import { app } from "../../scripts/app.js";
import { CurveEditor } from "./curve_editor.js";

// The curves stand under the text, edit it, and are stored nowhere: prompts, workflows and the order of widgets are as
// they would be without them.

const NODE = "KnotForcingExpressionTimeline";
const TEXT = "timeline";
const WIDGET = "knot_forcing_curves";
const HEIGHT = 256; // pixels, at least
const ROOM = 100; // pixels more in a new node, which the text and the curves share

const chosenControls = new Map(); // by node; of this page alone

function loadStyle() {
    const href = new URL("./curve_editor.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
}

// The editor takes steps to undo when a pointer or a key goes up; some of our edits come later than that.
function keepForUndo() {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    if (tracker?.captureCanvasState) tracker.captureCanvasState();
    else tracker?.checkState?.(); // until editor 1.40 or so
}

function keyOf(node) {
    return `${node.graph?.id}:${node.id}`;
}

function isCabled(node) {
    return !!node.inputs?.some((input) => input.widget?.name === TEXT && input.link != null);
}

function addCurves(node) {
    const text = node.widgets?.find((widget) => widget.name === TEXT);
    if (!text) throw new Error(`the node has no widget ${TEXT}`);
    const editor = new CurveEditor({
        getText: () => (isCabled(node) ? null : String(text.value ?? "")),
        setText: (value) => {
            text.value = value;
            node.setDirtyCanvas?.(true, true);
            keepForUndo();
        },
        recall: () => chosenControls.get(keyOf(node)),
        remember: (control) => chosenControls.set(keyOf(node), control),
        onFail: (problem) => {
            console.warn("Knot Forcing: no curves in this editor, the text remains", problem);
            removeWidget(node, editor);
        },
    });
    forwardToCanvas(editor.canvas);
    const widget = node.addDOMWidget(WIDGET, WIDGET, editor.element, {
        serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT,
    });
    widget.serialize = false; // nor in the workflow
    node.knotForcingCurves = { editor, widget };
    const onRemoved = node.onRemoved;
    node.onRemoved = function (...values) {
        editor.remove();
        return onRemoved?.apply(this, values);
    };
    node.setSize?.([node.size[0], Math.max(node.size[1], node.computeSize()[1] + ROOM)]);
}

function removeWidget(node, editor) {
    const place = node.widgets?.findIndex((widget) => widget.element === editor.element) ?? -1;
    if (place < 0) return;
    node.widgets[place].onRemove?.();
    node.widgets.splice(place, 1);
    node.setDirtyCanvas?.(true, true);
}

// What the curves have no use for is the graph's: the middle button pans, the wheel zooms.
function forwardToCanvas(canvas) {
    const forward = (name, wanted, method) => canvas.addEventListener(name, (event) => {
        if (wanted(event)) app.canvas?.[method]?.(event);
    }, { passive: false });
    forward("pointerdown", (event) => event.button === 1, "processMouseDown");
    forward("pointermove", (event) => (event.buttons & 4) === 4, "processMouseMove");
    forward("pointerup", (event) => event.button === 1, "processMouseUp");
    forward("wheel", (event) => !event.defaultPrevented, "processMouseWheel");
}

app.registerExtension({
    name: "KnotForcing.ExpressionTimeline",
    setup: loadStyle,
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        try {
            addCurves(node);
        } catch (problem) {
            console.warn("Knot Forcing: no curves in this editor, the text remains", problem);
        }
    },
});
