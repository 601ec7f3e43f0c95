"""Links of the documents lead somewhere, in a clone and in what a user installs."""

import re
from pathlib import Path

import pytest

from .. import archive

ROOT = archive.ROOT
OWN_ADDRESSES = (
    "https://github.com/knot-forcing/knot-forcing/blob/main/",
    "https://raw.githubusercontent.com/knot-forcing/knot-forcing/main/",
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "knot_core/assets/*.md", "web/docs/**/*.md")
    for path in ROOT.glob(pattern)
)


def links(page: Path) -> list[str]:
    return LINK.findall(CODE.sub("", (ROOT / page).read_text(encoding="utf-8")))


def target(page: Path, link: str) -> tuple[Path | None, str]:
    """The file below the root that a link leads to, None for other people's pages; and the heading in it."""
    address, _, heading = link.partition("#")
    for own in OWN_ADDRESSES:
        if address.startswith(own):
            return ROOT / address.removeprefix(own), heading
    if re.match(r"[a-z]+:", address):
        return None, heading
    if page.is_relative_to("web/docs"):  # the help panel resolves all of them from docs/
        return ROOT / "web" / "docs" / address, heading
    return (ROOT / page.parent / address if address else ROOT / page), heading


def anchors(path: Path) -> set[str]:
    """What GitHub calls a page's headings."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages_and_links():
    assert {Path("README.md"), Path("docs/nodes.md"), Path("web/docs/KnotForcingStream.md")} <= set(PAGES)
    assert len(links(Path("README.md"))) > 15


def test_no_link_is_dead_in_a_clone():
    dead = []
    for page in PAGES:
        for link in links(page):
            path, heading = target(page, link)
            if path is not None and not (path.exists() and (not heading or heading in anchors(path))):
                dead.append((page.as_posix(), link))
    assert dead == []


def test_no_relative_link_is_dead_in_an_installed_pack():
    if not archive.can_be_read():
        pytest.skip(f"NOT TESTED: {archive.NO_CLONE}")
    installed = {ROOT / name for name in archive.archived()}
    folders = {parent for path in installed for parent in path.parents}
    pages = [page for page in PAGES if ROOT / page in installed]
    assert {Path("README.md"), Path("docs/nodes.md"), Path("knot_core/assets/MODEL_CARD.md")} <= set(pages)
    relative = [(page, link) for page in pages for link in links(page) if not re.match(r"[a-z]+:", link)]
    dead = [(page.as_posix(), link) for page, link in relative
            if target(page, link)[0].resolve() not in installed | folders]  # fmt: skip
    assert dead == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
