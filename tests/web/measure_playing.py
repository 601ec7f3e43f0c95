"""How fast a stream is drawn in ComfyUI while its editor plays it.

    python3 run.py test -s tests/web/measure_playing.py      (it is no test: pytest finds ComfyUI and the browser)

KNOT_SECONDS=20 is how long each stream is, KNOT_RUNS=3 how many count; the first also loads the model, and does not.
"""

import os
import sys

import pytest

from ..host.comfyui import Server
from .editor import LIVE, NODE, RUN_LIMIT_MS, SET_VALUES, Page, queue, workflow

pytestmark = pytest.mark.host
SECONDS, RUNS = float(os.environ.get("KNOT_SECONDS", "20")), int(os.environ.get("KNOT_RUNS", "3"))
COLLECT = """() => {
    window.arrived = [];
    window.collect ??= ({detail}) => window.arrived.push({...detail, now: performance.now() / 1000});
    app.api.removeEventListener("knot_forcing.live", window.collect);
    app.api.addEventListener("knot_forcing.live", window.collect);
}"""


def test_measure(page: Page, server: Server) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow("portrait_from_audio"))
    page.wait_for_timeout(1000)
    found = [factor_of(page, seed) for seed in range(1 + RUNS)][1:]
    sys.stdout.write(f"\n{server.host.name}: {', '.join(f'{one:.2f}' for one in found)} times real time\n")


def factor_of(page: Page, seed: int) -> float:
    """Seconds of pictures between the first chunk and the last, over the seconds between them."""
    page.evaluate(SET_VALUES, {"KnotForcingStreamToVideo": {"seed": seed, "seconds": SECONDS}})
    page.evaluate(COLLECT)
    queue(page)
    page.wait_for_function(f"{LIVE}?.player.video.currentTime > 1", timeout=RUN_LIMIT_MS)
    assert not page.evaluate(f"{LIVE}.player.video.paused")
    page.wait_for_function("window.ended", timeout=RUN_LIMIT_MS)
    assert page.evaluate("window.ended") == "success"
    first, *_, last = (one for one in page.evaluate("window.arrived") if "frames" in one)
    page.wait_for_function(f"!{NODE}.knotForcingLive", timeout=RUN_LIMIT_MS)
    return (last["frames"] - first["frames"]) / last["rate"] / (last["now"] - first["now"])
