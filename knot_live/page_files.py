"""The files of the live page: a page for browsers, and modules of which ComfyUI's editor builds its player."""

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent / "page"
_TYPES = {  # Windows' registry may call a script text/plain
    ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml",
    ".webp": "image/webp", ".json": "application/json", ".wasm": "application/wasm", ".woff2": "font/woff2",
}  # fmt: skip


class PageFile(NamedTuple):
    """The bytes of a file, and their kind."""

    body: bytes
    kind: str  # of media


def page_file(name: str) -> PageFile | None:
    """The file of that name, which may hold folders; None where the page has no such file."""
    files = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.suffix in _TYPES}
    path = files.get(name)
    return None if path is None else PageFile(path.read_bytes(), _TYPES[path.suffix])
