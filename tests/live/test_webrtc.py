"""WebRTC beside the WebSocket: the same session, driven and shown over a peer connection on this machine."""

import asyncio
import contextlib
import json
from fractions import Fraction

import aiohttp
import av
import numpy as np
import pytest

from knot_live import controls
from knot_live.media_encoder import has_opus
from knot_live.server import Services
from knot_live.webrtc import _without_candidates

from .serving import FPS, FRAMES, served

pytestmark = pytest.mark.alone

aiortc = pytest.importorskip("aiortc", reason='NO WEBRTC: pip install -e ".[webrtc]"')
if not has_opus():
    pytest.skip("NO WEBRTC: this PyAV has no Opus", allow_module_level=True)

TOKEN = "a-token-of-some-length"
SERVICES = Services(about=dict, add_reference=str, picture_of=lambda _: None, ice_servers=())


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


class Hum(aiortc.MediaStreamTrack):
    """A microphone: 20 ms of a tone at 48 kHz, in real time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._count, self.on = 0, True

    async def recv(self):
        await asyncio.sleep(0.02)
        place = np.arange(960 * self._count, 960 * (self._count + 1)) * (2 * np.pi * 300 / 48_000)
        frame = av.AudioFrame.from_ndarray((12_000 * np.sin(place)).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), 960 * self._count
        self._count += 1
        return frame


class Peer:
    """A client of aiortc's, as a browser is one."""

    def __init__(self, *, microphone=None, channel=True) -> None:
        self.peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self.pictures, self.sound, self.seen, self._new = [], [], [], asyncio.Event()
        self.peer.addTransceiver("video", direction="recvonly")
        if microphone is None:
            self.peer.addTransceiver("audio", direction="recvonly")
        else:
            self.peer.addTrack(microphone)
        self.channel, self.ended = None, asyncio.Event()
        if channel:
            self.channel = self.peer.createDataChannel("knot-live")
            self.channel.on("message", self._hear)
            self.channel.on("close", self.ended.set)
        self.peer.on("track", self._keep)

    def _hear(self, message):
        self.seen.append(json.loads(message))
        self._new.set()

    def _keep(self, track):
        async def keep(into):
            with contextlib.suppress(aiortc.MediaStreamError):
                while True:
                    into.append(await track.recv())
                    self._new.set()

        self.tasks = [*getattr(self, "tasks", []), asyncio.ensure_future(
            keep(self.pictures if track.kind == "video" else self.sound))]  # fmt: skip

    async def offer(self):
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def until(self, condition):
        while not condition():
            self._new.clear()
            await asyncio.wait_for(self._new.wait(), 20)

    async def answer(self, kind, **fields):
        """The first message of that type with those fields."""

        def found():
            return [one for one in self.seen if one["type"] == kind and fields.items() <= one.items()]

        await self.until(found)
        return found()[0]

    def say(self, kind, **fields):
        self.channel.send(json.dumps({"type": kind, **fields}))


async def post(url, offer, **headers):
    async with aiohttp.ClientSession() as http, http.post(
        f"{url}/v1/whep", data=offer, headers={"Content-Type": "application/sdp", **headers}
    ) as answer:  # fmt: skip
        return answer.status, answer.headers.get("Location"), await answer.text()


@contextlib.asynccontextmanager
async def peer(url, *, bearer=None, kind="session.create", fields=None, **options):
    """A peer connection with a session of its own."""
    one = Peer(**options)
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    status, location, answer = await post(url, await one.offer(), **headers)
    assert status == 201, answer
    one.location = location
    await one.peer.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
    if one.channel is not None:
        one.channel.on("open", lambda: one.say(kind, **(fields or {})))
    yield one
    await one.peer.close()
    for task in getattr(one, "tasks", []):
        task.cancel()


def test_pictures_and_sound_arrive_in_their_time_and_count_as_shown():
    async def live():
        async with served(services=SERVICES) as at, peer(at.url) as one:
            created = await one.answer("session.created")
            await one.until(lambda: len(one.pictures) >= 3 * FRAMES and len(one.sound) >= 40)
            return created, one, at.sessions[0]

    created, one, session = run(live())
    assert created["video"]["format"] == "h264"
    assert created["sound"]["format"] == "opus"
    bright = [int(picture.to_ndarray(format="rgb24").mean()) for picture in one.pictures[: 2 * FRAMES]]
    assert all(abs(seen - (4 * frame % 200 + 20)) <= 4 for frame, seen in enumerate(bright)), bright
    stamps = np.diff([float(picture.pts * picture.time_base) for picture in one.pictures])
    assert np.median(stamps) == pytest.approx(1 / FPS, abs=1e-3)
    loud = np.concatenate([frame.to_ndarray().ravel() for frame in one.sound]) / 32768
    assert np.sqrt(np.mean(loud[len(loud) // 2 :] ** 2)) > 0.2, "the session's tone is heard"
    frames = [frame for _, frame in session.acknowledged]
    assert frames == sorted(frames)
    assert frames[-1] >= 2 * FRAMES, "what has left paces the session"


def test_controls_take_hold_over_the_data_channel_and_a_cut_is_made_where_it_plays():
    async def live():
        async with served(services=SERVICES) as at, peer(at.url) as one:
            await one.answer("session.created")
            await one.until(lambda: len(one.pictures) >= 6)
            one.say("session.interaction", event_id="turn", controls={"yaw": 0.4})
            applied = await one.answer("control.applied", event_id="turn")
            one.say("output_audio_buffer.clear", event_id="hush", played_frame=-1)
            cut = await one.answer("output_audio_buffer.cleared")
            seen = len(one.pictures)
            await one.until(lambda: len(one.pictures) >= seen + FRAMES)
            one.say("session.interaction", event_id="wrong", controls={"yaw": 7})
            return applied, cut, await one.answer("error", event_id="wrong"), at.sessions[0]

    applied, cut, wrong, session = run(live())
    assert applied["frame"] % FRAMES == 0
    assert controls.SetControls({"yaw": 0.4}) in session.wishes
    cancel = next(wish for wish in session.wishes if isinstance(wish, controls.Cancel))
    assert cancel.played_frame >= 4, "the frame is the one that has left, whatever the client believes"
    assert cut["first_frame"] == cancel.played_frame + 1
    assert wrong["code"] == "bad_value"


def test_a_microphone_is_heard_as_speech_at_the_rate_that_was_announced():
    async def live():
        speech = {"speech": {"rate": 16_000, "mode": "mirror"}}
        async with served(services=SERVICES) as at, peer(at.url, microphone=Hum(), fields=speech) as one:
            await one.answer("session.created")
            heard = lambda: [wish for wish in at.sessions[0].wishes if isinstance(wish, controls.Speech)]  # noqa: E731
            await one.until(lambda: len(heard()) >= 40)
            return heard()

    heard = run(live())
    assert {(one.rate, one.mode) for one in heard} == {(16_000, "mirror")}
    sound = np.concatenate([one.samples for one in heard])[4000:].astype(float)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert np.argmax(spectrum) * 16_000 / len(sound) == pytest.approx(300, abs=10)


def test_a_session_that_ends_says_so_and_its_connection_ends():
    async def live():
        async with served(services=SERVICES) as at, peer(at.url) as one:
            await one.answer("session.created")
            await one.until(lambda: len(one.pictures) >= 4)
            one.say("session.finish")
            ended = await one.answer("session.ended")
            await asyncio.wait_for(one.ended.wait(), 10)
            return ended, at.hub.num_sessions

    ended, left = run(live())
    assert ended["reason"] == "finished"
    assert left == 0


def test_a_connection_that_is_deleted_leaves_its_session_which_is_resumed_by_another():
    async def live():
        async with served(services=SERVICES) as at:
            async with peer(at.url) as one:
                created = await one.answer("session.created")
                await one.until(lambda: len(one.pictures) >= FRAMES)
                async with aiohttp.ClientSession() as http, http.delete(at.url + one.location) as answer:
                    assert answer.status == 200
                await asyncio.wait_for(one.ended.wait(), 10)
                async with aiohttp.ClientSession() as http, http.delete(at.url + one.location) as answer:
                    assert answer.status == 404
            live = at.hub.sessions[created["session_id"]]
            assert live.driver is None
            secret = {name: created[name] for name in ("session_id", "resume_token")}
            async with peer(at.url, kind="session.resume", fields=secret) as again:
                await again.until(lambda: len(again.pictures) >= FRAMES)
                return [int(picture.to_ndarray(format="rgb24").mean()) for picture in again.pictures], live.acknowledged

    bright, acknowledged = run(live())
    first = round((np.median(bright[:3]) - 20) / 4)
    assert 0 < first <= acknowledged, "it goes on where it was left, from a key frame on"


def test_a_viewer_s_token_is_enough_for_a_plain_player():
    async def live():
        async with served(services=SERVICES, token=TOKEN) as at, peer(
            at.url, bearer=TOKEN, fields={"token": TOKEN}
        ) as driver:  # fmt: skip
            created = await driver.answer("session.created")
            async with peer(at.url, bearer=created["view_token"], channel=False) as viewer:
                await viewer.until(lambda: len(viewer.pictures) >= FRAMES)
                shown = len(viewer.pictures)
            return shown, at.hub.num_sessions

    assert run(live()) == (pytest.approx(FRAMES, abs=FRAMES), 1)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        ({"Authorization": "Bearer wrong-token-of-some-length"}, 401, "unauthorized"),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}, 403, "wrong_origin"),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "null"}, 403, "wrong_origin"),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}, 403, "wrong_origin"),
        ({"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}, 415, "bad_offer"),
    ],
)
def test_strangers_get_no_answer(headers, status, code):
    async def live():
        async with served(services=SERVICES, token=TOKEN) as at:
            one = Peer()
            offer = await one.offer()
            await one.peer.close()
            return await post(at.url, offer, **headers)

    found, location, body = run(live())
    assert (found, location, json.loads(body)["error"]["code"]) == (status, None, code)


@pytest.mark.parametrize("change", [
    lambda _: "", lambda _: "v=0", lambda offer: offer[:300], lambda offer: offer.replace("H264", "H265"),
    lambda offer: offer.replace("m=application", "m=text"), lambda offer: offer.replace("a=fingerprint", "a=footprint"),
    lambda offer: offer + "x" * 70_000, lambda offer: offer.replace("ice-pwd", "ice-cream"),
])  # fmt: skip
def test_a_bad_offer_is_refused_with_a_sentence_and_leaves_nothing_behind(change):
    async def live():
        async with served(services=SERVICES) as at:
            one = Peer()
            offer = change(await one.offer())
            await one.peer.close()
            status, _, body = await post(at.url, offer)
            async with aiohttp.ClientSession() as http, http.get(f"{at.url}/v1/info") as info:
                return status, json.loads(body)["error"], await info.json()

    status, error, info = run(live())
    assert status in (413, 422)
    assert error["message"]
    assert info["webrtc"]
    assert info["sessions"] == 0


def test_connections_that_never_come_end_and_are_counted():
    async def live():
        async with served(services=SERVICES, max_connections=2, opening_seconds=0.5) as at:
            one = Peer()
            offer = await one.offer()
            found = [(await post(at.url, offer))[0] for _ in range(3)]
            await asyncio.sleep(2)
            again = (await post(at.url, offer))[0]
            await one.peer.close()
            return found, again

    assert run(live()) == ([201, 201, 503], 201)


def test_a_server_without_it_says_so():
    async def live():
        async with served() as at:
            return await post(at.url, "v=0")

    status, _, body = run(live())
    assert status == 404
    assert json.loads(body)["error"]["code"] == "no_webrtc"


def test_the_answer_sends_nothing_to_addresses_that_an_offer_names():
    lines = ("v=0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=candidate:1 1 udp 9 10.9.8.7 53 typ host",
             "a=end-of-candidates", "")  # fmt: skip
    offer = "\r\n".join(lines)
    found = _without_candidates(offer, "192.0.2.7")
    assert "10.9.8.7" not in found
    assert "end-of-candidates" not in found
    assert "a=candidate:1 1 udp 1 192.0.2.7 9 typ host" in found
