"""How fast a stream is drawn in ComfyUI while its editor plays it, and while the player stands still.

    python3 run.py test -s tests/web/measure_playing.py      (it is no test: pytest finds ComfyUI and the browser)

KNOT_SECONDS=20 is how long each stream is, KNOT_PAIRS=3 how often both are measured in turn; the first stream also
loads the model, and does not count.
"""

import os
import sys

import pytest

from ..host.comfyui import Server
from .editor import LIVE, NODE, RUN_LIMIT_MS, SET_VALUES, Page, queue, workflow

pytestmark = pytest.mark.host
SECONDS, PAIRS = float(os.environ.get("KNOT_SECONDS", "20")), int(os.environ.get("KNOT_PAIRS", "3"))
COLLECT = """() => {
    window.arrived = [];
    window.collect ??= ({detail}) => window.arrived.push({...detail, now: performance.now() / 1000});
    app.api.removeEventListener("knot_forcing.live", window.collect);
    app.api.addEventListener("knot_forcing.live", window.collect);
}"""


def test_measure(page: Page, server: Server) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow("portrait_from_audio"))
    page.wait_for_timeout(1000)
    factor_of(page, 0, stands=False)
    for pair in range(PAIRS):
        plays, stands = (factor_of(page, pair + 1, stands=stands) for stands in (False, True))
        sys.stdout.write(
            f"\n{server.host.name}: {plays:.2f}x real time while it plays, {stands:.2f}x while it does not"
        )


def factor_of(page: Page, seed: int, *, stands: bool) -> float:
    """Seconds of pictures between the first chunk and the last, over the seconds between them."""
    page.evaluate(SET_VALUES, {"KnotForcingStreamToVideo": {"seed": seed, "seconds": SECONDS}})
    page.evaluate(COLLECT)
    queue(page)
    page.wait_for_function(f"{LIVE}?.player.video.readyState >= 2", timeout=RUN_LIMIT_MS)
    if stands:
        page.evaluate(f"{LIVE}.player.togglePlayback()")
    page.wait_for_timeout(1000 * SECONDS / 4)
    assert page.evaluate(f"{LIVE}?.player.video.paused ?? true") == stands, "it plays, or it was stopped"
    page.wait_for_function("window.ended", timeout=RUN_LIMIT_MS)
    assert page.evaluate("window.ended") == "success"
    first, *_, last = (one for one in page.evaluate("window.arrived") if "frames" in one)
    page.wait_for_function(f"!{NODE}.knotForcingLive", timeout=RUN_LIMIT_MS)
    return (last["frames"] - first["frames"]) / last["rate"] / (last["now"] - first["now"])
