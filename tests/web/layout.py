"""Where nodes and groups lie in the editor, as they are drawn: on the canvas, or as parts of the page (Nodes 2.0)."""

import itertools
from typing import Any

from .editor import Page

SCREEN = {"width": 1680, "height": 960}
READABLE = 0.65  # scale of the canvas
SLACK = 2  # pixels of the graph: borders, and what rounding takes
Box = tuple[float, float, float, float]  # left, top, right, bottom

BOXES = """() => {
    const { scale, offset } = app.canvas.ds;
    const canvas = app.canvas.canvas.getBoundingClientRect();
    const title = LiteGraph.NODE_TITLE_HEIGHT;
    const drawn = ({ pos, size }) => [pos[0], pos[1] - title, pos[0] + size[0], pos[1] + size[1]];
    const inPage = ({ left, top, right, bottom }) => [
        (left - canvas.x) / scale - offset[0], (top - canvas.y) / scale - offset[1],
        (right - canvas.x) / scale - offset[0], (bottom - canvas.y) / scale - offset[1],
    ];
    const boxOf = (node) => {
        const part = LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`);
        return part ? inPage(part.getBoundingClientRect()) : drawn(node);
    };
    return {
        scale,
        view: inPage(canvas),
        nodes: app.graph._nodes.map((node) => ({ name: `${node.id} ${node.type}`, box: boxOf(node) })),
        groups: app.graph._groups.map(({ pos, size }) => [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]]),
    };
}"""


def boxes(page: Page) -> dict[str, Any]:
    return page.evaluate(BOXES)


def overlap(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > SLACK and min(a[3], b[3]) - max(a[1], b[1]) > SLACK


def inside(a: Box, b: Box) -> bool:
    return all(a[i] >= b[i] - SLACK for i in (0, 1)) and all(a[i] <= b[i] + SLACK for i in (2, 3))


def check_in_place(page: Page) -> None:
    """No node lies over another, and every one but the note lies in a group."""
    found = boxes(page)
    pairs = itertools.combinations(found["nodes"], 2)
    assert not [(a["name"], b["name"]) for a, b in pairs if overlap(a["box"], b["box"])]
    nodes = [node for node in found["nodes"] if "Note" not in node["name"]]
    outside = [node for node in nodes if not any(inside(node["box"], group) for group in found["groups"])]
    assert not outside, f"{outside} lie in none of {found['groups']}"


def check_in_view(page: Page) -> None:
    """All of the graph is on the screen, at a scale at which it can be read."""
    found = boxes(page)
    assert found["scale"] >= READABLE
    assert not [node["name"] for node in found["nodes"] if not inside(node["box"], found["view"])]
