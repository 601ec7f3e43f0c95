"""The live page with a model that aligns faces: a photo without a face asks for three points, in a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest

from ..small_face_model import PHOTO_SIZE, POINTS, write_face_model, write_photo
from .test_live_page import LiveServer, Open, browser, live_server, open_page, shot, start, until, watch

__all__ = ["browser", "live_server", "open_page"]

CLICKED = """([x, y]) => {
    const {dialog} = knotLive.references, box = dialog.canvas.getBoundingClientRect();
    const {scale, left, top} = dialog.view.place(...dialog.sizes);
    return [box.left + left + x / scale, box.top + top + y / scale];
}"""


@pytest.fixture(scope="module")
def face_server(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[LiveServer]:  # noqa: ARG001 - first
    folder = tmp_path_factory.mktemp("face")
    server = LiveServer(folder, "--max-sessions", "1", "--model", str(write_face_model(folder)))
    yield server
    server.close()


def test_three_clicks_bring_a_photo_into_place(open_page: Open, face_server: LiveServer, tmp_path: Any) -> None:
    page = open_page(server=face_server)
    until(page, "!!window.knotLive?.Player")
    assert page.evaluate("knotLive.references.chosen") == "builtin:hopper"
    page.click("summary")
    assert "Its face is found" in page.inner_text(".own .hint")
    page.check(".own input[type=checkbox]")
    page.forgiven = ["422"]
    page.set_input_files("input[type=file]", write_photo(tmp_path / "photo.png", face=False))
    until(page, "document.querySelector('dialog.face')?.open")
    until(page, f"knotLive.references.dialog.sizes[0][0] === {PHOTO_SIZE[1]}")
    assert "give the two eyes and the mouth" in page.inner_text("dialog.face")
    use = page.get_by_role("button", name="Use these points")
    assert use.is_disabled()
    for point in POINTS:
        page.mouse.click(*page.evaluate(CLICKED, [float(number) for number in point.split(",")]))
    shot(page, "face-dialog", whole=False)
    use.click()
    until(page, "knotLive.references.chosen.startsWith('upload:')")
    assert "aligned by your three points: 53 pixels between the eyes" in page.inner_text("#notice")
    assert not page.inner_text("#problem")
    start(page)
    watch(page, 10)
    page.get_by_role("button", name="Set the face by hand").click()
    until(page, "document.querySelector('dialog.face')?.open")
    page.get_by_role("button", name="Cancel").click()
    until(page, "!document.querySelector('dialog.face')")
    assert page.evaluate("knotLive.references.chosen").startswith("upload:")
