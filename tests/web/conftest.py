"""The browser tests run against the host tests' ComfyUI versions; without a browser they skip, and say so."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ..host.comfyui import Server
from ..host.conftest import pytest_generate_tests, server
from .editor import CHROMIUM, USUAL_SCREEN, open_editor

__all__ = ["page", "pytest_generate_tests", "server"]

# What the editor itself complains of, with or without this pack: patterns of what the console says.
NOT_OURS = [
    r"https://api\.comfy\.org/",  # it asks for news of new versions; a test machine may have no network
    # of a user without a stylesheet, templates or subgraphs of their own
    r"404 \(Not Found\) \[http://[\d.:]+/user\.css",
    r"404 \(Not Found\) \[http://[\d.:]+/api/userdata(\?dir=|/user\.css|/comfy\.templates\.json)",
    r"^Attempted to cleanup event listeners for graph that was never set up",  # 0.8.0's map, where a subgraph opens
    r"^ComfyApp graph accessed before initialization",  # 0.33.0, whenever it loads
    r"(?s)Failed to execute 'removeChild'.*vendor-primevue",  # 0.8.0, now and then where a template opens
    r"https://huggingface\.co/",  # it asks for the sizes of the files that a workflow links, its own first one's too
    r"^Error fetching file size: TypeError: Failed to fetch",  # 0.8.0, of the same
]


@pytest.fixture(scope="session")
def launch() -> Iterator[Any]:
    """Begins a Chromium with the flags that it is given; one Playwright for all tests, since a process has room for
    one.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TEST: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TEST: no chromium on the PATH")
    with playwright.sync_playwright() as play:

        def begin(*flags: str) -> Any:
            return play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])

        yield begin


@pytest.fixture(scope="session")
def page(server: Server, launch: Any) -> Iterator[Any]:
    server.post("/settings", {"Comfy.TutorialCompleted": True})  # else the template browser opens over the canvas
    browser = launch()
    page = browser.new_page(viewport=USUAL_SCREEN)
    page.complaints = []  # errors in the page's console since the test began
    page.on(
        "console",
        lambda said: page.complaints.append(f"{said.text} [{said.location['url']}]") if said.type == "error" else None,
    )
    page.on("pageerror", lambda error: page.complaints.append(f"uncaught: {error} {error.stack}"))
    open_editor(page, server)
    yield page
    browser.close()


@pytest.fixture(autouse=True)
def no_console_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test that has a page: whatever it does there, nobody complains."""
    page = request.getfixturevalue("page") if "page" in request.fixturenames else None
    if page is None:
        yield
        return
    page.complaints.clear()
    yield
    ours = [text for text in page.complaints if not any(re.search(known, text) for known in NOT_OURS)]
    assert not ours, "\n".join(ours)
