"""Translations: every text of locales/en is there, in the other language, with the same numbers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOCALES = Path(__file__).resolve().parents[2] / "locales"
LANGUAGES = sorted(path.name for path in LOCALES.iterdir())
TRANSLATED = [language for language in LANGUAGES if language != "en"]
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SAME_EVERYWHERE = {"VAE", "CLIP", "MODEL", "JSON", "Latent"}  # names as ComfyUI's own Chinese texts have them
AS_WRITTEN = re.compile(r"\]\([^)]+\)|`[^`]+`")
MESSAGE_SYNTAX = "{}|@"  # of the editor's translation library: it would take them for its own


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Where each text stands, and the text."""
    if isinstance(value, str):
        yield path, value
        return
    for name, inner in value.items():
        yield from texts(inner, f"{path}/{name}")


def node_texts(language: str) -> dict[str, str]:
    return dict(texts(json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))))


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"-?\d+(?:\.\d+)?", text))


def test_chinese_is_among_the_languages():
    assert {"en", "zh"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_every_text_and_no_other(language):
    assert list(node_texts(language)) == list(node_texts("en"))


def test_nothing_is_left_in_english():
    left = {
        path: text for path, text in node_texts("zh").items()
        if text not in SAME_EVERYWHERE and (not CHINESE.search(text) or re.search(r"(?:[A-Za-z']{2,} ){3}", text))
    }  # fmt: skip
    assert left == {}


@pytest.mark.parametrize("language", TRANSLATED)
def test_ranges_units_and_sizes_are_those_of_the_english_text(language):
    english = node_texts("en")
    other = {path: text for path, text in node_texts(language).items() if numbers(text) != numbers(english[path])}
    assert {path: (text, english[path]) for path, text in other.items()} == {}


@pytest.mark.parametrize("language", TRANSLATED)
def test_two_nodes_have_no_name_in_common(language):
    names = [text for path, text in node_texts(language).items() if path.endswith("/display_name")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_says_whose_it_is(language):
    """The search lists nodes of all packs by their names."""
    names = {path: text for path, text in node_texts(language).items() if path.endswith("/display_name")}
    assert {path for path, text in names.items() if "Knot Forcing" not in text} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_cables_of_a_node_are_told_apart(language):
    """By more than capital letters."""
    definitions = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert definitions
    for node_id, node in definitions.items():
        for part in ("inputs", "outputs"):
            names = [slot["name"].casefold() for slot in node[part].values()]
            assert len(names) == len(set(names)), (node_id, part)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_editor_can_show_every_text(language):
    assert not [text for text in node_texts(language).values() if set(text) & set(MESSAGE_SYNTAX)]
    assert all(text.strip() == text != "" for text in node_texts(language).values())


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_menu_is_translated(language):
    """Its parts one by one, as the editor looks them up; the pack's own name stays."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (LOCALES.parent / "nodes").glob("*.py"))
    parts = set(re.findall(r'f"\{CATEGORY\}/(\w+)"', sources))
    menu = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))["nodeCategories"]
    assert set(menu) == parts


def template_texts() -> dict[str, str]:
    """What web/template_texts_zh.js exports."""
    script = (LOCALES.parent / "web" / "template_texts_zh.js").read_text(encoding="utf-8")
    return json.loads(script.split("export default ")[1].strip().removesuffix(";"))


def shown_in_templates() -> Iterator[str]:
    """Titles, and notes by paragraph."""
    for path in sorted((LOCALES.parent / "workflows").glob("*.json")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        yield from (group["title"] for group in graph["groups"])
        yield from (node["title"] for node in graph["nodes"] if node.get("title"))
        for node in graph["nodes"]:
            if node["type"] == "MarkdownNote":
                yield from node["widgets_values"][0].split("\n\n")


def test_templates_have_every_text_in_chinese_and_no_other():
    translated = template_texts()
    assert set(translated) == set(shown_in_templates())
    for english, chinese in translated.items():
        assert CHINESE.search(chinese), english
        assert numbers(chinese) == numbers(english)
        assert set(AS_WRITTEN.findall(chinese)) == set(AS_WRITTEN.findall(english)), "links and names"


def test_a_template_says_in_which_language_it_is_written():
    """Only then the editor may translate it."""
    paths = list((LOCALES.parent / "workflows").glob("*.json"))
    assert paths
    for path in paths:
        assert json.loads(path.read_text(encoding="utf-8"))["extra"]["knot_forcing"] == {"texts": "en"}


def test_what_the_live_page_says_is_said_in_chinese_there_and_in_a_node():
    """Each sentence, with the same values in it; and none that the page does not know."""
    entry = re.compile(r'"(start|[a-z]+\.[\w.]+)":\s*((?:"(?:[^"\\]|\\.)*"[\s+]*)+)')
    page, root = LOCALES.parent / "knot_live" / "page", LOCALES.parent
    english, chinese, node = (dict(entry.findall(path.read_text(encoding="utf-8"))) for path in (
        page / "texts.js", page / "texts_zh.js", root / "web" / "live_session_texts.js"))  # fmt: skip
    assert len(english) > 120
    assert set(english) == set(chinese)
    assert set(node) < set(chinese)
    for name, words in {**chinese, **node}.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", english[name])), name
        assert CHINESE.search(words) or name in {"panel.connection.socket"}, name


def test_what_the_live_page_s_elements_say_has_words():
    page = LOCALES.parent / "knot_live" / "page"
    texts = (page / "texts.js").read_text(encoding="utf-8")
    for name in ("index.html", "view.html"):
        elements = (page / name).read_text(encoding="utf-8")
        asked = re.findall(r'data-(?:text|label|placeholder|title)="([^"]+)"', elements)
        assert asked
        assert not [key for key in asked if f'"{key}": ' not in texts]
