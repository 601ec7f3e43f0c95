"""The editor in Chinese: a template is whole in it, its note and titles and the curve editor too."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..host.comfyui import Server
from ..host.conftest import UI_WORKFLOWS, load_json
from .editor import Page, second_page, shot

pytestmark = pytest.mark.host
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SENTENCE = re.compile(r"(?:[A-Za-z']{2,} ){4}")  # of English
CURVES = ".knot-forcing-curves"
TITLES = """() => [
    ...app.graph._groups.map((group) => group.title),
    ...app.graph._nodes.map((node) => node.title),
]"""
NOTE = "app.graph._nodes.find(node => node.type === 'MarkdownNote').widgets[0].value"
BREAK = """text => {
    const node = app.graph._nodes.find((node) => node.type === 'KnotForcingExpressionTimeline');
    node.widgets.find((widget) => widget.name === 'timeline').value = text;
}"""


@pytest.fixture(scope="module")
def chinese(page: Page, server: Server) -> Iterator[Page]:
    with second_page(page, server, "Comfy.Locale", "zh", usual="en") as other:
        yield other


def show(page: Page, path: Path) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", load_json(path))
    page.wait_for_function("count => app.graph._nodes.length === count", arg=len(load_json(path)["nodes"]))
    page.wait_for_timeout(500)


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_a_template_is_whole(chinese: Page, server: Server, path: Path) -> None:
    show(chinese, path)
    shot(chinese, f"{path.stem}-zh", server)
    assert not [title for title in chinese.evaluate(TITLES) if not CHINESE.search(title)]
    note = re.sub(r"`[^`]*`|\([^)]*\)", "", chinese.evaluate(NOTE))
    assert CHINESE.search(note)
    assert not SENTENCE.search(note)


def test_what_somebody_wrote_stays(chinese: Page) -> None:
    graph = load_json(next(path for path in UI_WORKFLOWS if path.stem == "portrait_idle"))
    note = next(node for node in graph["nodes"] if node["type"] == "MarkdownNote")
    note["widgets_values"][0] += "\n\nMy own words."
    graph["groups"][0]["title"] = "Mine"
    chinese.evaluate("workflow => app.loadGraphData(workflow)", graph)
    chinese.wait_for_timeout(500)
    assert "Mine" in chinese.evaluate(TITLES)
    assert chinese.evaluate(NOTE) == note["widgets_values"][0]
    assert chinese.evaluate("app.graph.serialize().extra.knot_forcing.texts") == "zh"


def test_the_curves_and_their_complaints(chinese: Page, server: Server) -> None:
    show(chinese, next(path for path in UI_WORKFLOWS if path.stem == "portrait_timeline"))
    words = chinese.locator(f"{CURVES} .legend button, {CURVES} label, {CURVES} option").all_inner_texts()
    assert [word for word in words if word.strip()]
    assert not [word for word in words if word.strip() and not CHINESE.search(word)]
    for broken in ('{"yow": [[0, 1]]}', '{"yaw": [[0, 5]]}', "[1]", '{"yaw": [[1, 0], [0, 1]]}'):
        chinese.evaluate(BREAK, broken)
        message = chinese.locator(f"{CURVES} .message")
        message.wait_for(state="visible")
        assert CHINESE.search(message.inner_text()), broken
    shot(chinese, "curves-zh", server)
