"""The browser tests run against the host tests' ComfyUI versions; without a browser they skip, and say so."""

from collections.abc import Iterator
from typing import Any

import pytest

from ..host.comfyui import Server
from ..host.conftest import pytest_generate_tests, server
from .editor import CHROMIUM, READY

__all__ = ["page", "pytest_generate_tests", "server"]


@pytest.fixture(scope="session")
def page(server: Server) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TEST: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TEST: no chromium on the PATH")
    server.post("/settings", {"Comfy.TutorialCompleted": True})  # else the template browser opens over the canvas
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_function(READY, timeout=60_000)
        yield page
        browser.close()
