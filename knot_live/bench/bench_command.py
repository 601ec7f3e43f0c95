"""`python -m knot_live bench`: what somebody at the page waits for, as figures."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import controls
from ..client import LiveError
from ..session import Session
from . import figures
from .chunk_costs import model_and_anchor
from .long_run import long_run
from .processes import processor_seconds

PROBE = Path(__file__).with_name("probe.js")
_FLAGS = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream",
          "--use-fake-device-for-media-stream", "--disable-background-timer-throttling",
          "--disable-renderer-backgrounding")  # fmt: skip
_SEED = 7
_SETTLE = 4.0  # seconds until a session stands still
RUNS = ("slider", "onset", "barge-in", "mirror")


def bench_long(minutes: int, say: Callable[[str], None], model: str, *, changing: bool) -> dict[str, Any]:
    """Figures of one session of that model that lasts so many minutes: see `long_run`.

    Raises:
        LiveError: there is no browser, or no Playwright to drive it with.
    """
    with _server(model) as (url, server), _browser() as (browser, _):
        page = _open(browser, url, mode="reply", chunk=3)
        found = long_run(page, server, minutes, say, changing=changing)
        page.evaluate("knotLive.finish()")
        page.close()
    return {"changing run" if changing else "long run": found}


def bench(
    events: int, chunks: tuple[int, ...], runs: tuple[str, ...], say: Callable[[str], None], model: str
) -> dict[str, Any]:
    """All figures of that model, as JSON holds them.

    Raises:
        LiveError: there is no browser, no Playwright to drive it with, or no such run.
    """
    if unknown := sorted(set(runs) - set(RUNS)):
        raise LiveError("bench", f"there is no run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    found: dict[str, Any] = {"control taken": figures.spread(control_times(model), unit=1.0)}
    say(f"control taken: {found['control taken']}")
    with _server(model) as (url, server), _browser() as (browser, processes):
        found["first frame after Start"] = figures.spread(_starts(browser, url, max(3, events // 6)))
        for chunk in chunks:
            for run in runs:
                name = f"{run}, chunk {chunk}"
                found |= _run(browser, url, run, name, chunk, events, lambda: _seconds_used([server, *processes()]))
                say(f"{name}: {found[name]}")
    return found


def control_times(name: str, count: int = 1000) -> list[float]:
    """Seconds from the arrival of a control until the next chunk that is begun is drawn under it: `apply` has returned.

    While the session draws in another thread.
    """
    model, anchor = model_and_anchor(name)
    session = Session(model, anchor, model.settings, seed=_SEED, viewer=False)
    drawing = threading.Thread(target=lambda: [None for _ in session.chunks()])
    drawing.start()
    time.sleep(2)
    times = []
    for number in range(count):
        since = time.perf_counter()
        session.apply(controls.SetControls({"yaw": (number % 100) / 100}))
        times.append(time.perf_counter() - since)
        time.sleep(0.005)
    session.apply(controls.Finish())
    drawing.join()
    return times


def _run(  # noqa: PLR0913, PLR0917
    browser: Any, url: str, run: str, name: str, chunk: int, events: int, used: Callable[[], tuple[float, ...]]
) -> dict[str, Any]:
    part, call = {
        "slider": ("face", "sliders"), "onset": ("mouth", "onsets"),
        "barge-in": ("mouth", "bargeIns"), "mirror": ("mouth", "mirrored"),
    }[run]  # fmt: skip
    page = _open(browser, url, mode="mirror" if run == "mirror" else "reply", chunk=chunk)
    fps = page.evaluate("knotLive.info.fps")
    noise = page.evaluate("part => bench.noise(part, 3000)", part)
    began, stalls = page.evaluate("[performance.now(), knotLive.player.figures.stalls]")
    before, since = used(), time.monotonic()
    times = page.evaluate(f"count => bench.{call}(count)", events)
    seconds = time.monotonic() - since
    cores = [round((after - first) / seconds, 2) for first, after in zip(before, used(), strict=True)]
    told = page.evaluate("since => bench.playing(since)", began)
    told["stalls"] -= stalls
    steps = page.evaluate("knotLive.client.created.steps")
    page.evaluate("knotLive.finish()")
    page.wait_for_timeout(1500)
    page.close()
    about = {"noise": round(noise, 2), "steps": steps, "processors": {"server": cores[0], "browser": sum(cores[1:])}}
    about |= figures.playing(told, fps)
    if run != "barge-in":
        return {name: figures.spread(times) | about}
    return {
        f"{name}: silent": figures.spread([one["silent"] for one in times]),
        name: figures.spread([one["rest"] for one in times]) | about,
    }


def _starts(browser: Any, url: str, count: int) -> list[float | None]:
    """Milliseconds from the click to the first picture, warm."""
    found = []
    for _ in range(count):
        page = _open(browser, url, mode="reply", chunk=3, begin=False)
        found.append(page.evaluate(
            "() => { const since = performance.now(); knotLive.start(); return bench.until(() => true, since, 20000) }"
        ))  # fmt: skip
        page.evaluate("knotLive.finish()")
        page.wait_for_timeout(2500)
        page.close()
    return found


def _open(browser: Any, url: str, *, mode: str, chunk: int, begin: bool = True) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.goto(url)
    page.wait_for_function("() => !!window.knotLive?.Player", timeout=60_000)
    page.evaluate(f"() => {{ {PROBE.read_text(encoding='utf-8')} }}")
    page.evaluate("wish => bench.begin(wish)", {"seed": _SEED, "mode": mode, "chunk": chunk})
    if begin:
        page.evaluate("knotLive.start()")
        page.wait_for_function("() => bench.paints.length > 30", timeout=60_000)
        page.evaluate("knotLive.send('session.update', { liveliness: 0 })")
        page.wait_for_timeout(1000 * _SETTLE)
    return page


@contextmanager
def _server(model: str) -> Iterator[tuple[str, int]]:
    """The address of a live server of that model, and its process number."""
    command = [
        sys.executable,
        "-m",
        "knot_live",
        "serve",
        "--model",
        model,
        "--port",
        "0",
        "--max-sessions",
        "4",
        "--session-seconds",
        "36000",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = next(filter(None, (re.search(r"open (http://\S+)", line) for line in process.stderr)), None)
            if address is None:
                raise LiveError("bench", "the live server did not begin; run python -m knot_live serve to see why")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield address[1], process.pid
        finally:
            process.terminate()


@contextmanager
def _browser() -> Iterator[tuple[Any, Callable[[], list[int]]]]:
    """A headless Chromium, and the numbers of its processes."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise LiveError("bench", "measuring needs Playwright: pip install playwright") from None
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise LiveError("bench", "measuring needs Chromium: apt install chromium, or your system's package of it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser, _chromium_processes
        finally:
            browser.close()


def _chromium_processes() -> list[int]:
    """Linux's; none elsewhere."""
    names = ((int(one.name), one / "comm") for one in Path("/proc").glob("[0-9]*"))
    return [number for number, comm in names if comm.is_file() and comm.read_text().startswith("chromium")]


def _seconds_used(processes: list[int]) -> tuple[float, float]:
    """Processor seconds of the first process, and of all others together."""
    used = [processor_seconds(number) for number in processes]
    return used[0], sum(used[1:])


def write(found: dict[str, Any], path: Path | None) -> str:
    """The figures as JSON to that file, and as a table."""
    write_json(found, path)
    return figures.table(found)


def write_json(found: dict[str, Any], path: Path | None) -> None:
    """All figures to that file, if there is to be one."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
