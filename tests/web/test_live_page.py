"""The live page, with the live server and the built-in model, in a real browser: what a person does and sees there."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHOTS = os.environ.get("KNOT_SCREENSHOTS")  # a folder for pictures to look at
DEVICES = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
ALLOWED = ["microphone", "camera", "clipboard-read", "clipboard-write"]
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
TOKEN = "a-token-of-the-tests-0123456789"
LIMIT = 120.0  # seconds until something shows, on a busy machine
BOX = """id => {
    const {x, y, width, height} = document.getElementById(id).getBoundingClientRect();
    return [x, y, width, height];
}"""
PIXELS = """() => {
    const small = document.createElement("canvas");
    small.width = small.height = 32;
    small.getContext("2d").drawImage(knotLive.player.element, 0, 0, 32, 32);
    return [...small.getContext("2d").getImageData(0, 0, 32, 32).data];
}"""
LISTEN = """
    window.told = []; // [milliseconds, acknowledgement], and [milliseconds, bytes] of the camera's pictures
    window.pictures = [];
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        const binary = typeof data !== "string";
        if (binary && new Uint8Array(data)[0] === 17) pictures.push([performance.now(), data.byteLength]);
        if (!binary && data.includes("playback.ack")) told.push([performance.now(), JSON.parse(data)]);
        return send.call(this, data);
    };
"""
FRAMES_OF_CHUNKS = """() => { // a chunk may come in several parts
    const frames = new Map();
    for (const {epoch, chunk, frames: more} of heard.filter(({type}) => type === "video.chunk_metadata"))
        frames.set(`${epoch}/${chunk}`, (frames.get(`${epoch}/${chunk}`) ?? 0) + more);
    return [...frames.values()];
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, meter, canvas")].filter(one =>
    one.checkVisibility() && !one.getAttribute("aria-label") && !one.labels?.length && !one.textContent.trim()
).map(one => one.outerHTML)"""
FACE = (8, 24)  # rows and columns of the 32 that hold the face
Page = Any  # of Playwright, which may not be installed


class LiveServer:
    """A live server as its own process, on a free port."""

    def __init__(self, tmp_path: Path, *options: str, token: str | None = None) -> None:
        if token is not None:
            (tmp_path / "token").write_text(token, encoding="utf-8")
            options = (*options, "--token-file", str(tmp_path / "token"))
        self.log = tmp_path / "server.log"
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "knot_live", "serve", "--port", "0", "--model", "knot-tiny", *options],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.url = self._url()

    def _url(self) -> str:
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(r"open (http://[\d.:]+)", self.log.read_text(encoding="utf-8")):
                return found[1]
            time.sleep(0.1)
        raise AssertionError(f"no server: {self.log.read_text(encoding='utf-8')}")

    def wait_for_no_session(self) -> None:
        """A session that was told to end draws its chunk first."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{self.url}/v1/info") as answer:
                if json.load(answer)["sessions"] == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"a session goes on without its page: {self.log.read_text(encoding='utf-8')}")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[LiveServer]:  # noqa: ARG001 - first
    pytest.importorskip("aiohttp", reason='NO LIVE SERVER: pip install -e ".[live]"')
    server = LiveServer(tmp_path_factory.mktemp("live"), "--max-sessions", "1")
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser(launch: Any) -> Iterator[Any]:
    found = launch(*DEVICES)
    yield found
    found.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Any, live_server: LiveServer) -> Iterator[Open]:
    """Opens pages; sessions that they have begun are ended, and nothing may have complained."""
    opened: list[Page] = []

    def open_one(path: str = "/", *, server: LiveServer = live_server, script: str = "", **context: Any) -> Page:
        context = {"viewport": DESKTOP, "permissions": ALLOWED, **context}
        page = browser.new_context(**context).new_page()
        page.complaints, page.forgiven = [], []
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(f"uncaught: {error} {error.stack}"))
        if script:
            page.add_init_script(script)
        page.goto(server.url + path)
        opened.append(page)
        return page

    yield open_one
    for page in opened:
        if page.evaluate("window.knotLive?.client?.state === 'open' && !!knotLive.finish"):
            page.evaluate("knotLive.finish()")
            until(page, "!knotLive.client")
        ours = [said for said in page.complaints if not any(re.search(known, said) for known in page.forgiven)]
        page.context.close()
        assert not ours, "\n".join(ours)
    live_server.wait_for_no_session()


def until(page: Page, expression: str, seconds: float = LIMIT) -> Any:
    """The expression's first true value; the page's own policy forbids Playwright's way, which evaluates text."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := page.evaluate(expression):
            return found
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds} s: {expression}; the page says {page.inner_text('#problem')!r}")


def start(page: Page) -> None:
    until(page, "!!window.knotLive?.Player")
    page.click("#start")
    until(page, "knotLive.client?.state === 'open' && knotLive.player.playedFrame >= 0")


def watch(page: Page, frames: int = 30) -> None:
    """Until so many more have been painted."""
    painted = page.evaluate("knotLive.player.figures.painted")
    until(page, f"knotLive.player.figures.painted > {painted + frames}")


def face(page: Page) -> list[int]:
    rgba = page.evaluate(PIXELS)
    low, high = FACE
    return [rgba[4 * (32 * row + column) + colour]
            for row in range(low, high) for column in range(low, high) for colour in range(3)]  # fmt: skip


def difference(one: list[int], other: list[int]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def shot(page: Page, name: str, *, whole: bool = False) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"live-{name}.png", full_page=whole)


def test_one_click_and_it_moves_where_the_portrait_was(open_page: Open) -> None:
    page = open_page()
    until(page, "document.getElementById('poster').complete && !!knotLive.Player")
    shot(page, "idle")
    before = [page.evaluate(BOX, name) for name in ("stage", "bar", "say", "figures", "panel")]
    start(page)
    assert [page.evaluate(BOX, name) for name in ("stage", "bar", "say", "figures", "panel")] == before
    watch(page, 10)
    first = face(page)
    watch(page)
    shot(page, "runs")
    assert difference(face(page), first) > 0.05, "it idles, so something moves"
    assert page.evaluate("!knotLive.player.silent"), "the click allows sound"
    assert "fps" in page.inner_text("#figures")
    assert page.inner_text("#badge") == "AI"
    until(page, "knotLive.player.figures.stalls >= 0 && knotLive.player.epoch === 0")
    page.click("#finish")
    until(page, "!knotLive.client")
    assert page.inner_text("#start") == "Start again"
    shot(page, "ended")
    start(page)
    watch(page, 10)
    shot(page, "again")
    assert [page.evaluate(BOX, name) for name in ("stage", "bar", "panel")] == [before[0], before[1], before[4]]


RING = """async (steps) => {
    const {SoundRing} = await import("/static/sound_ring.js");
    const ring = new SoundRing({rate: 1000, seconds: 1, target: 0.05});
    const heard = [];
    for (const [name, ...values] of steps) {
        if (name === "push") ring.push(values[0], Float32Array.from({length: values[1]}, () => values[2]));
        else if (name === "take") {
            const out = new Float32Array(values[0]);
            ring.take(values[0], out);
            heard.push([...out].map(value => Math.round(value * 100) / 100));
        } else ring[name](...values);
    }
    return [heard, ring.report()];
}"""


def test_the_ring_plays_each_sample_at_its_place_and_stands_still_without(open_page: Open) -> None:
    page = open_page()

    def play(*steps: tuple) -> tuple[list[list[float]], dict[str, Any]]:
        return page.evaluate(RING, steps)

    heard, report = play(("push", 100, 40, 0.5), ("take", 10))
    assert heard == [[0] * 10], "less than it waits for"
    assert (report["read"], report["running"]) == (100, False)

    heard, report = play(("push", 100, 60, 0.5), ("take", 40), ("take", 30))
    assert heard == [[0.5] * 40, [0.5] * 20 + [0] * 10]
    assert (report["read"], report["stalls"], report["target"]) == (160, 1, 90), "it waits for 40 ms more after a stall"

    heard, report = play(("push", 0, 60, 0.5), ("setLast", True), ("take", 80))
    assert report["stalls"] == 0, "the end is no stall"

    heard, _ = play(("push", 0, 100, 0.5), ("take", 20), ("cut", 40), ("push", 40, 60, 0.1), ("take", 40))
    assert heard[1] == [0.5] * 20 + [0.1] * 20, "what was to come is replaced"

    heard, _ = play(("push", 0, 100, 0.5), ("take", 60), ("cut", 40), ("push", 40, 60, 0.1), ("take", 10))
    assert heard[1] == [0.1] * 10, "what comes late goes on where it would be by now"

    cut = [("mute",), ("take", 100), ("take", 10), ("cut", 300), ("push", 300, 200, 0.2)]
    heard, report = play(("push", 0, 400, 0.5), *cut, ("take", 190), ("take", 80))
    assert heard[1] == [0] * 10, "muted"
    assert (heard[3][-1], report["muted"]) == (0.2, False), "heard again from the cut on"

    heard, report = play(("push", 0, 60, 0.5), ("take", 60), ("take", 1), ("push", 20_000, 100, 0.3), ("take", 10))
    assert (heard[2], report["read"]) == ([0.3] * 10, 20_010), "a long gap is jumped over"


def test_what_stands_before_a_cut_counts_also_after_its_news(open_page: Open) -> None:
    page = open_page()
    heard = page.evaluate("""async () => {
        const {LivePlayer} = await import("/static/player.js");
        const player = new LivePlayer({canvas: document.createElement("canvas"), fps: 25});
        const put = (epoch, frame) => player.accept(
            {kind: 2, flags: 0, epoch, position: frame * 960, payload: new Uint8Array(1920)});
        player.cut(65535, 0);
        put(65535, 0);
        player.cut(65536, 20); // epochs go round
        put(65535, 12);
        put(65535, 24);
        put(0, 20);
        player.close();
        return player.waiting.map(([name, position]) => [name, position / 960]);
    }""")
    assert heard == [["cut", 0], ["push", 0], ["cut", 20], ["push", 12], ["push", 20]]


def test_binary_messages_are_those_of_the_protocol(open_page: Open) -> None:
    page = open_page()
    header = struct.pack("<BBHIQ", 1, 3, 65_535, 4_000_000_000, 2**52 + 1)
    read, written = page.evaluate(
        """async (bytes) => {
            const {readMedia, writeMedia} = await import("/static/live_client.js");
            const {payload, ...fields} = readMedia(Uint8Array.from(bytes).buffer);
            const written = new Uint8Array(writeMedia(16, 7, 123456, Uint8Array.of(9, 8)));
            return [{...fields, payload: [...payload]}, [...written]];
        }""",
        list(header + b"abc"),
    )
    assert read == {"kind": 1, "flags": 3, "epoch": 65_535, "index": 4_000_000_000, "position": 2**52 + 1,
                    "payload": list(b"abc")}  # fmt: skip
    assert bytes(written) == struct.pack("<BBHIQ", 16, 0, 0, 7, 123_456) + bytes([9, 8])


def test_what_is_played_is_acknowledged_ten_times_a_second(open_page: Open) -> None:
    page = open_page(script=LISTEN)
    start(page)
    watch(page, 40)
    told = page.evaluate("told")
    frames = [message["frame"] for _, message in told]
    assert frames == sorted(frames)
    best = max(sum(at <= other < at + 1000 for other, _ in told) for at, _ in told)
    assert 10 <= best <= 14, "in the second that was disturbed least"
    assert {message["epoch"] for _, message in told} == {0}


def test_a_hidden_tab_paints_nothing_and_its_sound_goes_on(open_page: Open) -> None:
    page = open_page(script=LISTEN)
    start(page)
    watch(page, 10)
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away}); window.away = true")
    painted, frame = page.evaluate("[knotLive.player.figures.painted, knotLive.player.playedFrame]")
    until(page, f"knotLive.player.playedFrame > {frame + 15}")
    assert page.evaluate("knotLive.player.figures.painted") == painted
    assert page.evaluate("told.at(-1)[1].frame") > frame, "so the stream goes on, too"
    page.evaluate("window.away = false")
    watch(page, 10)


def test_a_slider_shows_and_a_double_click_gives_it_back(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    start(page)
    watch(page)
    before = face(page)
    page.fill("#control-yaw", "1")
    until(page, "knotLive.figures.delays.length > 0")
    watch(page, 10)
    assert difference(face(page), before) > 4, "a turned head is another picture"
    assert "control to visible" in page.inner_text("#figures")
    assert page.locator(".slider").first.locator("output").inner_text() == "1.00"
    shot(page, "slider-dark")
    page.dblclick("#control-yaw")
    assert page.locator(".slider").first.locator("output").inner_text() == "idle"
    page.focus("#control-roll")
    page.keyboard.press("End")
    assert page.evaluate("knotLive.panel.sliders.values") == {"roll": 1}
    page.keyboard.press("Delete")
    assert page.evaluate("knotLive.panel.sliders.values") == {}


def test_a_sentence_is_spoken_and_stops_at_once(open_page: Open) -> None:
    page = open_page()
    if not page.evaluate("fetch('/v1/info').then(answer => answer.json()).then(info => info.voices.length)"):
        pytest.skip("NO SPEECH TEST: espeak-ng is missing")
    start(page)
    page.fill("#sentence", "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen.")
    page.keyboard.press("Enter")
    until(page, "knotLive.player.loudest > 0.02")
    shot(page, "speaks")
    silent_after = page.evaluate("""async () => {
        const {context, gain} = knotLive.player.speaker;
        const ear = new AnalyserNode(context, {fftSize: 256}); // 11 ms
        gain.connect(ear);
        const samples = new Float32Array(256);
        const hears = async () => {
            await new Promise(go => setTimeout(go, 5));
            ear.getFloatTimeDomainData(samples);
            return samples.some(value => Math.abs(value) > 0.01);
        };
        while (!(await hears())); // on a busy machine it speaks in pieces
        const pressed = context.currentTime;
        let last = pressed;
        document.getElementById("silence").click();
        while (context.currentTime < pressed + 1.5) if (await hears()) last = context.currentTime;
        return last - pressed;
    }""")
    assert silent_after <= 0.1, "seconds, by the audio device's clock, until nothing is heard any more"
    until(page, "knotLive.player.epoch >= 1")
    painted = page.evaluate("knotLive.player.figures.painted")
    watch(page, 20)
    assert page.evaluate("knotLive.player.figures.painted") > painted, "it goes on"
    page.fill("#sentence", "Once more.")
    page.click("#speak")
    until(page, "knotLive.player.loudest > 0.02 && !knotLive.player.speaker.quiet")


def test_the_microphone_is_heard_and_its_own_sound_is_off(open_page: Open) -> None:
    page = open_page()
    start(page)
    page.get_by_role("button", name="Mirror my voice").click()
    until(page, "knotLive.panel.level.value > 0.2")  # the fake device beeps
    until(page, "knotLive.client.numbers[16] > 60")
    assert not page.evaluate("knotLive.soundOn")
    shot(page, "microphone")
    page.get_by_role("button", name="Stop the microphone").click()
    assert page.evaluate("knotLive.soundOn && knotLive.panel.level.value === 0")
    sent = page.evaluate("knotLive.client.numbers[16]")
    time.sleep(0.3)
    assert page.evaluate("knotLive.client.numbers[16]") == sent


def test_the_camera_sends_few_pictures(open_page: Open) -> None:
    page = open_page(script=LISTEN)
    start(page)
    button = page.get_by_role("button", name="Mirror my face")
    if page.evaluate("knotLive.info.camera_problem ?? ''"):
        assert button.is_disabled()
        assert "install" in page.inner_text(".device:last-of-type .hint")
        page.evaluate("() => { knotLive.onError = () => {}; knotLive.devices.toggleCamera(); }")  # what would be sent
    else:
        button.click()
    until(page, "pictures.length >= 20")
    shot(page, "camera")
    pictures = page.evaluate("pictures")
    assert all(size < 40_000 for _, size in pictures)
    assert (len(pictures) - 1) / ((pictures[-1][0] - pictures[0][0]) / 1000) <= 15.5
    page.evaluate("knotLive.devices.stopCamera()")


def test_media_source_plays_where_there_is_no_web_codecs(open_page: Open) -> None:
    page = open_page(script="delete window.VideoDecoder;")
    until(page, "!!window.knotLive?.Player")
    assert "no WebCodecs" in page.inner_text("#notice")
    start(page)
    watch(page, 40)
    first = page.evaluate(PIXELS)
    watch(page)
    assert page.evaluate(PIXELS) != first
    assert page.evaluate("knotLive.player.element.tagName") == "VIDEO"
    shot(page, "media-source")


def test_media_source_can_be_asked_for_and_is_silent_at_once(open_page: Open) -> None:
    page = open_page("/?player=mse")
    start(page)
    watch(page, 20)
    page.click("#silence")
    assert page.evaluate("knotLive.player.element.muted")
    until(page, "knotLive.player.epoch >= 1")
    watch(page, 40)
    assert page.evaluate("!knotLive.player.element.muted")


def test_a_lost_connection_comes_back_by_itself(open_page: Open) -> None:
    page = open_page()
    page.forgiven = [r"WebSocket connection to .* failed"]
    start(page)
    watch(page, 20)
    session = page.evaluate("knotLive.client.created.session_id")
    page.evaluate("() => { knotLive.client.url += '-nowhere'; knotLive.client.socket.close(); }")
    until(page, "knotLive.client.state === 'lost'")
    until(page, "document.getElementById('veil').checkVisibility()")
    shot(page, "lost")
    assert page.inner_text("#state") == "Connection lost"
    time.sleep(1.5)
    page.evaluate("() => { knotLive.client.url = location.origin.replace('http', 'ws') + '/v1/session'; }")
    until(page, "knotLive.client.state === 'open'")
    assert "back" in page.inner_text("#notice")
    assert page.evaluate("knotLive.client.created.session_id") == session
    watch(page, 40)
    shot(page, "back")
    assert page.get_attribute("#state", "data-kind") in ("live", "buffering")


def test_a_page_that_is_loaded_again_leaves_no_session_behind(open_page: Open) -> None:
    page = open_page()
    start(page)
    watch(page, 5)
    page.reload()
    until(page, "!!window.knotLive?.Player")
    until(page, "fetch('/v1/info').then(answer => answer.json()).then(info => info.sessions === 0)", seconds=20)
    start(page)


def test_a_full_server_says_so(open_page: Open) -> None:
    driver = open_page()
    start(driver)
    page = open_page(viewport=PHONE, color_scheme="dark")
    until(page, "!!window.knotLive?.Player")
    page.click("#start")
    until(page, "!!document.getElementById('problem').textContent")
    assert "sessions are running" in page.inner_text("#problem")
    assert page.inner_text("#state") == "Not started"
    assert page.is_visible("#start")
    shot(page, "refused-phone-dark")


def test_the_bare_view_shows_it_and_changes_nothing(open_page: Open) -> None:
    driver = open_page()
    start(driver)
    driver.click("#share")
    until(driver, "document.getElementById('notice').textContent.includes('link')")
    link = driver.evaluate("navigator.clipboard.readText()")
    path, fragment = re.fullmatch(r"http://[\d.:]+(/view)(#token=[\w-]+)", link).groups()
    view = open_page(path + fragment)
    until(view, "!!window.knotLive && knotLive.player.figures.painted > 20")
    assert "#" not in view.url
    assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert "resume_token" not in view.evaluate("knotLive.client.created")
    shot(view, "view")
    played = driver.evaluate("knotLive.player.playedFrame")
    view.evaluate("knotLive.client.send('session.finish')")
    watch(driver)
    assert driver.evaluate("knotLive.player.playedFrame") > played
    assert open_page("/view").inner_text("#problem").startswith("This address has no token")


def test_a_token_is_typed_in_or_comes_in_the_fragment(open_page: Open, tmp_path: Path) -> None:
    server = LiveServer(tmp_path, token=TOKEN)
    try:
        page = open_page(server=server)
        until(page, "!!window.knotLive?.Player")
        page.click("#start")
        until(page, "document.getElementById('problem').textContent.includes('token')")
        shot(page, "token")
        assert page.is_visible("#token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        until(page, "knotLive.client?.state === 'open'")
        page.evaluate("knotLive.finish()")
        until(page, "!knotLive.client")  # a slow machine has room for one
        page = open_page(f"/#token={TOKEN}", server=server)
        assert TOKEN not in page.url
        start(page)
        page.evaluate("knotLive.finish()")
        until(page, "!knotLive.client")
    finally:
        for context in page.context.browser.contexts:
            for one in context.pages:
                one.forgiven = [".*"]  # the server goes before its pages
        server.close()


def test_every_device_failure_is_a_sentence(open_page: Open) -> None:
    page = open_page(script="Object.defineProperty(navigator, 'mediaDevices', {value: undefined});")
    start(page)
    page.get_by_role("button", name="Mirror my voice").click()
    until(page, "document.getElementById('problem').textContent.includes('secure address')")
    page.evaluate("() => { knotLive.devices.toggleCamera(); }")
    until(page, "document.getElementById('problem').textContent.includes('camera')")
    shot(page, "no-microphone")


def test_keys_names_and_gestures(open_page: Open) -> None:
    page = open_page(viewport=PHONE)
    start(page)
    watch(page, 5)
    assert page.evaluate(NAMELESS) == []
    shot(page, "phone", whole=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out on a phone"
    sent = "knotLive.client.numbers.event"
    page.focus("#stage")
    for key in ("n", "ArrowLeft", "h"):
        before = page.evaluate(f"knotLive.figures.sent.size + {sent}")
        page.keyboard.press(key)
        until(page, f"knotLive.figures.sent.size + {sent} > {before}")
    page.focus("#sentence")
    page.keyboard.type("mn")
    assert page.input_value("#sentence") == "mn", "letters of a sentence are no shortcuts"
    page.focus("#stage")
    page.keyboard.press("m")
    assert not page.evaluate("knotLive.soundOn")
    assert not page.inner_text("#problem"), "every gesture of the page is one of the server's"


def test_settings_and_a_click_on_the_picture_take_hold(open_page: Open) -> None:
    page = open_page()
    start(page)
    page.evaluate("""() => {
        window.heard = [];
        const {onMessage} = knotLive.client;
        knotLive.client.onMessage = message => { heard.push(message); onMessage(message); };
    }""")
    page.get_by_label("Fast answers").check()
    page.fill("#liveliness", "0.3")
    page.click("#stage", position={"x": 20, "y": 40})
    until(page, "heard.filter(({type}) => type === 'control.applied').length >= 3")
    assert not page.inner_text("#problem")
    until(page, f"({FRAMES_OF_CHUNKS})().at(-2) === 4")  # pixel frames of one latent frame


def test_a_picture_of_ones_own_needs_its_box_ticked(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    until(page, "!!window.knotLive?.Player")
    page.click("summary")
    shot(page, "upload-dark", whole=True)
    upload = page.get_by_role("button", name="Upload a picture")
    assert upload.is_disabled()
    page.check(".own input[type=checkbox]")
    assert upload.is_enabled()
    page.set_input_files("input[type=file]", ROOT / "knot_core" / "assets" / "portraits" / "dan.png")
    until(page, "knotLive.references.chosen.startsWith('upload:')")
    start(page)
    watch(page, 10)
    page.forgiven = ["422"]
    page.set_input_files("input[type=file]", Path(__file__))
    until(page, "document.getElementById('problem').textContent.includes('picture')")


def test_pause_record_and_another_portrait(open_page: Open) -> None:
    page = open_page()
    start(page)
    watch(page, 10)
    page.click("#record")
    watch(page, 24)
    with page.expect_download(timeout=LIMIT * 1000) as download:
        page.click("#record")
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    before = face(page)
    page.check("input[value='builtin:ben']", force=True)
    watch(page, 36)
    assert difference(face(page), before) > 8
    shot(page, "another-portrait")
    page.click("#pause")
    until(page, "document.getElementById('state').textContent === 'Paused'")
    shot(page, "paused")
    page.click("#pause")
    until(page, "document.getElementById('state').textContent !== 'Paused'")
    watch(page, 20)
