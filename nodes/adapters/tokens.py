"""Words in percent signs in a file name's prefix, replaced as ComfyUI's editor and Save nodes do, headless runs too.

%date:yyyy-MM-dd%, %Node.widget% (the node's name for search and replace, its title, or its type), %width%, %height%,
%year%, %month%, %day%, %hour%, %minute% and %second%. What names nothing stays as it is.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"%([^%]+)%")
_DATE = "date:"
_DATE_PARTS = re.compile(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|yyyy|yy")
_CLOCK = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_NAME_PROPERTY = "Node name for S&R"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The graph that runs, as ComfyUI gives it to a node: the prompt, and the editor's workflow if there is an
    editor.
    """

    prompt: Mapping[str, Any] | None = None
    extra_pnginfo: Mapping[str, Any] | None = None

    def value(self, name: str, widget: str) -> str | None:
        """A widget's value in the first node of that name; None if there is no such node or the input is connected."""
        found = next(self._named(name), None)
        value = None if found is None else found.get("inputs", {}).get(widget)
        if value is None or isinstance(value, list | dict):
            return None
        return str(value).lower() if isinstance(value, bool) else str(value)  # as a script's true and false

    def _named(self, name: str) -> Iterator[Mapping[str, Any]]:
        """By the names that the editor gives, in its order; then by the node's type, which a prompt always has."""
        prompt, properties = self.prompt or {}, self._names_in_editor()
        yield from (node for key, node in prompt.items() if properties.get(key) == name)
        yield from (node for node in prompt.values() if node.get("_meta", {}).get("title") == name)
        yield from (node for node in prompt.values() if node.get("class_type") == name)

    def _names_in_editor(self) -> dict[str, str]:
        """Node id in the prompt -> its name for search and replace; within subgraphs, "12:7"."""
        workflow = (self.extra_pnginfo or {}).get("workflow") or {}
        subgraphs = {sub.get("id"): sub for sub in workflow.get("definitions", {}).get("subgraphs", ())}
        return dict(_names(workflow.get("nodes", ()), subgraphs, "", len(subgraphs)))


def _names(nodes: Any, subgraphs: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, str]]:
    for node in nodes:
        key = f"{before}{node.get('id')}"
        name = (node.get("properties") or {}).get(_NAME_PROPERTY)
        if name:
            yield key, name
        if depth and (inner := subgraphs.get(node.get("type"))):
            yield from _names(inner.get("nodes", ()), subgraphs, f"{key}:", depth - 1)


def filled(prefix: str, graph: Graph, size: tuple[int, int], now: time.struct_time | None = None) -> str:
    """The prefix with its words replaced; `size` is (height, width) of the video in pixels."""
    now = now or time.localtime()
    sides = dict(zip(("height", "width"), map(str, size), strict=True))

    def replacement(word: str) -> str | None:
        if word.startswith(_DATE):
            return _date(word.removeprefix(_DATE), now)
        if word in sides:
            return sides[word]
        if word in _CLOCK:
            return time.strftime(_CLOCK[word], now)
        name, dot, widget = word.rpartition(".")
        value = graph.value(name, widget) if dot else None
        return None if value is None else _NOT_IN_NAMES.sub("_", value)

    return "".join(_replaced(prefix, replacement))


def _replaced(prefix: str, replacement: Callable[[str], str | None]) -> Iterator[str]:
    """Parts of the result. A sign that closes what names nothing may open a word: that of 50%_%width%."""
    at = 0
    while found := _WORD.search(prefix, at):
        value = replacement(found[1])
        yield prefix[at : found.start()]
        yield found[0][:-1] if value is None else value
        at = found.end() - (value is None)
    yield prefix[at:]


def _date(form: str, now: time.struct_time) -> str:
    """yyyy-MM-dd hh:mm:ss, each in one letter or two."""
    numbers = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def part(found: re.Match[str]) -> str:
        if found[0][0] == "y":
            return f"{now.tm_year:04}"[-len(found[0]) :]
        return f"{numbers[found[0][0]]:0{len(found[0])}}"

    return _DATE_PARTS.sub(part, form)
