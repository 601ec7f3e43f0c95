"""The live page over WebRTC, in a real browser: it plays, moves, is heard; where nothing gets through, it says so."""

from collections.abc import Iterator
from typing import Any

import pytest

from .test_live_page import LiveServer, Open, browser, difference, face, live_server, open_page, start, until, watch

__all__ = ["browser", "live_server", "open_page"]

pytest.importorskip("aiortc", reason='NO WEBRTC: pip install -e ".[webrtc]"')
LOUD = """async () => {
    const context = new AudioContext(), analyser = context.createAnalyser();
    context.createMediaStreamSource(knotLive.player.video.srcObject).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    for (const end = performance.now() + 60_000; performance.now() < end && loudest < 0.01;) {
        analyser.getFloatTimeDomainData(samples);
        loudest = Math.max(loudest, ...samples.map(Math.abs));
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await context.close();
    return loudest;
}"""


@pytest.fixture(scope="module")
def peer_server(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[LiveServer]:  # noqa: ARG001
    server = LiveServer(tmp_path_factory.mktemp("peer"), "--max-sessions", "1", "--webrtc")
    yield server
    server.close()


def start_over_peer(page: Any) -> None:
    until(page, "!!window.knotLive?.Player && !knotLive.panel.wayRow.hidden")
    if not page.evaluate("import('/static/peer_socket.js').then(({canPeer}) => canPeer())"):
        pytest.skip("NO WEBRTC TEST: this browser has no H.264 in WebRTC")
    page.select_option("#connection", "peer")
    start(page)


def test_it_plays_moves_and_is_heard_over_a_peer_connection(open_page: Open, peer_server: LiveServer) -> None:
    page = open_page(server=peer_server)
    start_over_peer(page)
    assert page.evaluate("knotLive.player.element.id") == "video"
    assert page.evaluate("!!knotLive.client.socket.peer")
    watch(page)
    before = face(page)
    page.evaluate("knotLive.interact({controls: {yaw: 0.9}})")
    until(page, "knotLive.figures.delays.length > 0")
    watch(page, 20)
    assert difference(face(page), before) > 2, "the head turns"
    visible = page.evaluate("knotLive.figures.delays[0]")
    assert 0 < visible < 10
    page.evaluate("knotLive.send('session.say', {text: 'Good morning, this is a sentence.', voice: ''})")
    if page.evaluate("!knotLive.view.speechless"):
        assert page.evaluate(LOUD) > 0.01
        page.keyboard.press("Escape")
        assert page.evaluate("knotLive.player.video.muted")
        until(page, "!knotLive.player.video.muted")
    page.click("#finish")
    until(page, "!knotLive.client")
    peer_server.wait_for_no_session()


def test_a_microphone_goes_as_a_track(open_page: Open, peer_server: LiveServer) -> None:
    page = open_page(server=peer_server)
    start_over_peer(page)
    page.evaluate("""() => {
        window.heard = [];
        const hear = knotLive.client.onMessage;
        knotLive.client.onMessage = (message) => {
            heard.push(message);
            hear(message);
        };
    }""")
    page.click("text=Mirror my voice")
    until(page, "heard.some(({type, speech}) => type === 'video.chunk_metadata' && speech)")
    page.click("text=Stop the microphone")
    page.click("#finish")
    until(page, "!knotLive.client")
    peer_server.wait_for_no_session()


def test_a_lost_connection_comes_back(open_page: Open, peer_server: LiveServer) -> None:
    page = open_page(server=peer_server)
    start_over_peer(page)
    watch(page, 10)
    frame = page.evaluate("knotLive.player.playedFrame")
    page.evaluate("knotLive.client.socket.end(1006, '')")
    until(page, "knotLive.client.state === 'open' && knotLive.view.state === 'live'")
    watch(page, 20)
    assert page.evaluate("knotLive.player.playedFrame") > frame
    page.click("#finish")
    until(page, "!knotLive.client")
    peer_server.wait_for_no_session()


def test_where_nothing_gets_through_it_says_so_and_goes_over_the_websocket(
    open_page: Open,
    peer_server: LiveServer,
) -> None:
    page = open_page(server=peer_server)
    until(page, "!!window.knotLive?.Player && !knotLive.panel.wayRow.hidden")
    page.evaluate("""() => {
        RTCPeerConnection.prototype.setRemoteDescription = () => Promise.reject(new Error("no"));
    }""")
    page.select_option("#connection", "peer")
    start(page)
    assert "WebRTC does not get through" in page.inner_text("#notice")
    assert page.evaluate("knotLive.player.element.id") == "canvas"
    assert not page.evaluate("knotLive.panel.overPeer")
    page.click("#finish")
    until(page, "!knotLive.client")
    peer_server.wait_for_no_session()


def test_a_server_without_it_offers_no_choice(open_page: Open) -> None:
    page = open_page()
    until(page, "!!window.knotLive?.Player")
    assert page.evaluate("knotLive.panel.wayRow.hidden")
