"""The live page in the browser's language."""

import re

import pytest

from .test_live_page import Open, browser, live_server, open_page, until

__all__ = ["browser", "live_server", "open_page"]

CHINESE = re.compile(r"[\u4e00-\u9fff]")
WORDS = """() => [...document.querySelectorAll("button, label, legend, .hint, [aria-label], [placeholder], [title]")]
    .filter((one) => one.checkVisibility())
    .flatMap((one) => [one.textContent, one.getAttribute("aria-label"), one.getAttribute("placeholder"), one.title])
    .map((one) => (one ?? "").trim()).filter((one) => /[a-z]{3}/i.test(one))"""
NAMES = re.compile(r"WebSocket|WebRTC|MP4|OBS|MediaPipe|mediapipe|pip|espeak|localhost|https|Ada|Ben|Cleo|AI")


@pytest.mark.parametrize(("options", "path"), [({"locale": "zh-CN"}, "/"), ({"locale": "en-US"}, "/?language=zh")])
def test_it_is_whole_in_chinese(open_page: Open, options: dict, path: str) -> None:
    page = open_page(path, **options)
    until(page, "!!window.knotLive?.Player")
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.inner_text("#start") == "开始"
    assert CHINESE.search(page.get_attribute("#sentence", "placeholder"))
    left = [words for words in page.evaluate(WORDS) if not CHINESE.search(words)]
    portraits = set(page.evaluate("[...document.querySelectorAll('.thumbnail')].map((one) => one.title)"))
    assert not [words for words in left if not NAMES.search(words) and words not in portraits]


def test_it_is_english_elsewhere(open_page: Open) -> None:
    page = open_page(locale="de-DE")
    until(page, "!!window.knotLive?.Player")
    assert page.inner_text("#start") == "Start"
    assert not CHINESE.search(page.inner_text("body"))
