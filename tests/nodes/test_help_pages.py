"""Help pages: each begins with its picture, and says of the inputs and outputs what the nodes say.

The editor asks for docs/<NodeId>/<language>.md, then for docs/<NodeId>.md, and resolves links of both from docs/.
"""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
PICTURES = DOCS / "images"
PAGES = sorted(DOCS.glob("*.md"))
TRANSLATED = sorted(DOCS.glob("*/*.md"))
MOST_BYTES = 40 * 1024
IMAGE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
RANGE = re.compile(r"-?\d+(?:\.\d+)? (?:to|到) -?\d+(?:\.\d+)?")
CELL = re.compile(r"`(\w+)`")
FULL_COMMA = "\uff0c"
IN_COLUMNS = "KnotForcingExpressionTimeline"  # what its controls range over stands in two columns
NO_TABLE = ("KnotForcingSamplePortrait", "KnotForcingSampleSpeech")  # one combo each, plain to see


def language(page: Path) -> str:
    return "en" if page.parent == DOCS else page.stem


def node_id(page: Path) -> str:
    return page.stem if page.parent == DOCS else page.parent.name


def definition(page: Path) -> dict:
    path = ROOT / "locales" / language(page) / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8"))[node_id(page)]


def names(page: Path) -> str:
    return str(page.relative_to(DOCS))


def rows(text: str) -> list[set[str]]:
    """The names in the first cell of each row of the page's tables, without their heads."""
    return [set(CELL.findall(line.split("|")[1])) for line in text.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATED], ids=names)
def test_a_page_begins_with_its_name_and_its_picture(page):
    heading, _, picture, _ = page.read_text(encoding="utf-8").split("\n", 3)
    assert heading == f"# {definition(page)['display_name']}"
    words, link = IMAGE.fullmatch(picture).groups()
    assert words, "for who cannot see it"
    assert Path(link).stem == node_id(page)


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATED], ids=names)
def test_every_picture_of_a_page_is_there_and_small(page):
    pictures = IMAGE.findall(page.read_text(encoding="utf-8"))
    assert pictures
    for _, link in pictures:
        assert link.startswith("images/"), "from docs/, as the help panel resolves links"
        path = DOCS / link
        assert path.stat().st_size <= MOST_BYTES
        with Image.open(path) as picture:
            assert picture.format == {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
            assert min(picture.size) >= 100


def test_no_picture_is_left_over():
    shown = {link for page in PAGES for _, link in IMAGE.findall(page.read_text(encoding="utf-8"))}
    assert {f"images/{path.name}" for path in PICTURES.iterdir()} == shown


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATED], ids=names)
def test_tables_name_inputs_and_outputs_that_there_are(page):
    """Every input, every output of a table of outputs, and nothing that the node has not."""
    english = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))[node_id(page)]
    inputs, outputs = set(english["inputs"]), {output["name"] for output in english["outputs"].values()}
    if node_id(page) in NO_TABLE:
        return
    named = set().union(*rows(page.read_text(encoding="utf-8")))
    assert inputs <= named | set(CELL.findall(page.read_text(encoding="utf-8")))
    if node_id(page) not in {IN_COLUMNS, "KnotForcingStreamToVideo"}:  # tables of other things
        assert named <= inputs | outputs


@pytest.mark.parametrize("page", TRANSLATED, ids=names)
def test_a_translated_table_says_what_the_editor_shows_beside_the_name_in_files(page):
    slots = definition(page)
    english = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))[node_id(page)]
    inputs = {name: slot["name"] for name, slot in slots["inputs"].items()}
    outputs = {english["outputs"][place]["name"]: slot["name"] for place, slot in slots["outputs"].items()}
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert lines or node_id(page) in {*NO_TABLE, "KnotForcingNewDriving"}  # it says its one input in its text
    for line in lines:
        cells = set(line.split("|")[1].strip().split(FULL_COMMA))
        for name in CELL.findall(line.split("|")[1]):
            shown = {f"`{name}` {kind[name]}" for kind in (inputs, outputs) if name in kind}
            assert not shown or shown & cells, name


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATED], ids=names)
def test_a_page_says_the_ranges_that_the_inputs_have(page):
    said = page.read_text(encoding="utf-8")
    if node_id(page) == IN_COLUMNS:
        return
    missing = {name: [text for text in RANGE.findall(texts["tooltip"]) if text not in said]
               for name, texts in definition(page)["inputs"].items()}  # fmt: skip
    assert missing
    assert not any(missing.values()), missing


def test_ranges_are_found_in_tooltips_of_both_languages():
    found = {language(page) for page in (*PAGES, *TRANSLATED) for texts in definition(page)["inputs"].values()
             if RANGE.search(texts["tooltip"])}  # fmt: skip
    assert found == {"en", "zh"}


def test_every_node_is_explained_in_chinese():
    assert {page.parent.name for page in TRANSLATED if page.stem == "zh"} == {page.stem for page in PAGES}


@pytest.mark.parametrize("page", TRANSLATED, ids=names)
def test_a_translated_page_shows_and_says_what_the_english_one_does(page):
    english = (DOCS / f"{node_id(page)}.md").read_text(encoding="utf-8")
    said = page.read_text(encoding="utf-8")
    assert [link for _, link in IMAGE.findall(said)] == [link for _, link in IMAGE.findall(english)]
    assert rows(said) == rows(english)
    assert not re.search(r"(?:[A-Za-z']{2,} ){4}", re.sub(r"`[^`]*`", "", said)), "left in English"
