"""The live server over real sockets on loopback: sessions, those who watch them, and what is refused."""

import asyncio
import contextlib
import io
import json
import shutil
import ssl
import struct
import subprocess
import time
import zlib
from dataclasses import replace

import aiohttp
import av
import numpy as np
import pytest
from PIL import Image

from knot_live import controls
from knot_live.access import AccessError, AccessRules
from knot_live.engine import MediaError
from knot_live.events import Recorded, Refused
from knot_live.fragmented_mp4 import nal_units
from knot_live.hub import Hub
from knot_live.limits import Limits
from knot_live.media_encoder import has_opus
from knot_live.messages import CAMERA, FMP4, H264, INITIALISATION, KEY_FRAME, OPUS, PCM16, SPEECH, Header
from knot_live.references import References
from knot_live.server import Address, LiveServer, Services, running
from knot_live.sources import Made

from .serving import FPS, FRAMES, SAMPLES, SIZE, WORDS, PlainSession, pictures, served, tone, wire

TOKEN = "a-token-of-some-length"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def decoded(data, kind):
    with av.open(io.BytesIO(data), format=kind) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


# a session


def test_a_session_is_created_and_its_chunks_come_as_they_were_made():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            created = await driver.until("session.created")
            chunks = await driver.chunks(3)
            while len(driver.media(H264)) < 3 * FRAMES:
                await driver.next()
            return created, chunks, driver

    created, chunks, driver = run(live())
    assert created["version"] == 1
    assert created["video"]["codec"].startswith("avc1.42")
    assert [chunk["first_frame"] for chunk in chunks] == [0, FRAMES, 2 * FRAMES]
    assert all(chunk["speech"] for chunk in chunks)
    units = driver.media(H264)[: 3 * FRAMES]
    assert [header.position for header, _ in units] == list(range(3 * FRAMES))
    assert [header.index for header, _ in units[::FRAMES]] == [0, 1, 2]
    for number, (header, unit) in enumerate(units):
        kinds = [one[0] & 31 for one in nal_units(unit)]
        assert bool(header.flags & KEY_FRAME) == (number % FRAMES == 0) == (5 in kinds)
        assert (7 in kinds and 8 in kinds) == (5 in kinds), "a key frame brings its parameter sets"
    shown = decoded(b"".join(unit for _, unit in units), "h264")
    assert len(shown) == 3 * FRAMES
    for frame, picture in enumerate(shown):
        assert abs(int(picture.mean()) - int(pictures(frame)[0].mean())) <= 3
    sound = np.concatenate([np.frombuffer(payload, "<i2") for _, payload in driver.media(PCM16)[:2]])
    assert [header.position for header, _ in driver.media(PCM16)[:2]] == [0, FRAMES * SAMPLES]
    np.testing.assert_allclose(sound / 32767, np.concatenate([tone(0), tone(FRAMES)]), atol=1e-4)


def test_mp4_fragments_play_with_their_sound_and_go_back_at_a_cut():
    async def live():
        async with served() as at, wire(at.url, "session.create", video="fmp4") as driver:
            await driver.chunks(3)
            await driver.say("output_audio_buffer.clear", played_frame=20)
            cut = await driver.until("output_audio_buffer.cleared")
            (after,) = await driver.chunks(1)
            await driver.say("session.finish")
            await driver.end()
            return cut, after, driver.media(FMP4)

    cut, after, segments = run(live())
    assert (cut["epoch"], cut["first_frame"]) == (1, 21) == (after["epoch"], after["first_frame"])
    header, fragments = segments[0], segments[1:]
    assert header[0].flags == INITIALISATION
    assert all(one.flags == KEY_FRAME for one, _ in fragments)
    with av.open(io.BytesIO(header[1] + b"".join(data for _, data in fragments[:3]))) as container:
        assert [frame.pts for frame in container.decode(video=0)] == list(range(3 * FRAMES))
    later = next(data for one, data in fragments if one.epoch == 1)
    with av.open(io.BytesIO(header[1] + later)) as container:
        assert [frame.pts for frame in container.decode(video=0)] == list(range(21, 21 + FRAMES))
    if has_opus():
        with av.open(io.BytesIO(header[1] + b"".join(data for _, data in fragments[:3]))) as container:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert abs(len(heard) - 3 * FRAMES * SAMPLES * 2) < 2000
        assert 0.2 < np.abs(heard[4000:]).mean() < 0.45, "a sine of half of full scale"


@pytest.mark.skipif(not has_opus(), reason="NOT TESTED, Opus: this PyAV has no libopus")
def test_opus_packets_are_placed_to_the_sample():
    async def live():
        async with served() as at, wire(at.url, "session.create", sound="opus") as driver:
            created = await driver.until("session.created")
            await driver.chunks(3)
            return created, driver.media(OPUS)

    created, packets = run(live())
    assert created["sound"]["format"] == "opus"
    assert created["sound"]["head"].startswith("T3B1c0hlYWQ")  # OpusHead
    assert [header.position for header, _ in packets][:48] == list(range(0, 48 * 480, 480))


def test_each_control_has_two_receipts_and_reaches_the_session():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            await driver.chunks(1)
            await driver.say("session.interaction", event_id="look", controls={"yaw": 0.5})
            received = await driver.until("control.received", event_id="look")
            await driver.chunks(1)
            await driver.say("playback.ack", epoch=0, frame=99)
            applied = next((one for one in driver.texts() if one["type"] == "control.applied"), None)
            applied = applied or await driver.until("control.applied")
            await driver.say("session.update", event_id="no", settings={"steps": 3})
            refused = await driver.until("error", event_id="no")
            await driver.socket.send_bytes(Header(SPEECH).pack() + np.arange(10, dtype="<i2").tobytes())
            await driver.until("control.received")
            return received, applied, refused, at.sessions[0].wishes

    received, applied, refused, wishes = run(live())
    assert received["number"] == applied["number"]
    assert applied["event_id"] == "look"
    assert applied["frame"] % FRAMES == 0
    assert refused["code"] == "refused"
    assert wishes[0] == controls.SetControls({"yaw": 0.5})
    np.testing.assert_array_equal(wishes[1].samples, np.arange(10))


def test_acknowledgements_pace_and_only_the_driver_s():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            created = await driver.until("session.created")
            async with wire(at.url, "session.view", view_token=created["view_token"]) as viewer:
                await viewer.until("session.created")
                before = len([one for one in driver.texts() if one["type"] == "video.chunk_metadata"])
                await viewer.say("playback.ack", epoch=0, frame=500)
                refused = await viewer.until("error")
                await driver.say("ping", event_id="p")
                await driver.until("pong", event_id="p")
                made = len([one for one in driver.texts() if one["type"] == "video.chunk_metadata"])
                await driver.say("playback.ack", epoch=0, frame=FRAMES - 1)
                await driver.chunks(1, acknowledge=False)
                return refused, before, made, at.sessions[0].acknowledged

    refused, before, made, acknowledged = run(live())
    assert refused["code"] == "read_only"
    assert before <= made <= 3
    assert acknowledged == [(0, FRAMES - 1)]


def test_viewers_get_the_very_same_media_and_no_secrets():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            created = await driver.until("session.created")
            async with wire(at.url, "session.view", view_token=created["view_token"]) as viewer:
                seen = await viewer.until("session.created")
                await driver.chunks(6)
                await viewer.chunks(2, acknowledge=False)
                await viewer.say("session.pause")
                assert (await viewer.until("error"))["code"] == "read_only"
                await driver.say("ping")
                await driver.until("pong")
                return seen, dict(driver.media(H264)), dict(viewer.media(H264))

    seen, driven, viewed = run(live())
    assert not {"resume_token", "view_token"} & seen.keys()
    assert len(viewed) >= FRAMES
    assert next(iter(viewed)).flags & KEY_FRAME, "a viewer begins with a key frame"
    assert viewed.items() <= driven.items()


def test_a_session_outlives_its_connection_and_goes_on_where_it_was_left():
    async def live():
        async with served() as at:
            async with wire(at.url, "session.create") as driver:
                created = await driver.until("session.created")
                await driver.chunks(2)
            secrets = {"session_id": created["session_id"], "resume_token": created["resume_token"]}
            while not at.sessions[0].paused:
                await asyncio.sleep(0.01)
            async with wire(at.url, "session.resume", **secrets | {"resume_token": "x" * 32}) as stranger:
                refused = await stranger.end()
            async with wire(at.url, "session.resume", last_frame=FRAMES + 3, **secrets) as again:
                resumed = await again.until("session.created")
                first, second = await again.chunks(2)
                still = at.sessions[0].paused
                async with wire(at.url, "session.resume", last_frame=-1, **secrets) as third:
                    await third.chunks(1)
                    last = await again.end()
                return created, refused, resumed, first, second, still, last

    created, refused, resumed, first, second, still, last = run(live())
    assert refused["code"] == "unknown_session"
    assert resumed["session_id"] == created["session_id"]
    assert first["first_frame"] == FRAMES, "the chunk in which the last frame lies that was seen"
    assert second["first_frame"] == 2 * FRAMES
    assert not still
    assert last["code"] == "driven_elsewhere"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"idle_seconds": 0.5}, "idle"), ({"session_seconds": 0.5}, "time")], ids=["idle", "time"],
)  # fmt: skip
def test_a_session_that_lasts_too_long_is_ended_with_a_sentence(limits, reason):
    async def live():
        async with served(**limits) as at, wire(at.url, "session.create") as driver:
            last = await driver.end()
            return last, at.hub.num_sessions

    last, left = run(live())
    assert (last["type"], last["reason"], left) == ("session.ended", reason, 0)
    assert last["message"]


def test_a_session_that_nobody_drives_is_ended():
    async def live():
        async with served(resume_seconds=0.3) as at:
            async with wire(at.url, "session.create") as driver:
                await driver.until("session.created")
                created = driver.texts()[0]
            while at.hub.sessions:
                await asyncio.sleep(0.05)
            secret = {name: created[name] for name in ("session_id", "resume_token")}
            async with wire(at.url, "session.resume", **secret) as late:
                return at.sessions[0].wishes, await late.end()

    wishes, last = run(live())
    assert controls.Finish() in wishes
    assert last["code"] == "unknown_session"
    assert "has ended" in last["message"]


def test_finish_ends_the_session_and_its_connection():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            await driver.chunks(1)
            await driver.say("session.finish")
            return await driver.end(), at.hub.num_sessions

    last, left = run(live())
    assert (last["reason"], left) == ("finished", 0)


def test_a_server_that_stops_says_so_and_waits_for_nobody():
    async def live():
        async with contextlib.AsyncExitStack() as server, contextlib.AsyncExitStack() as clients:
            at = await server.enter_async_context(served())
            driver = await clients.enter_async_context(wire(at.url, "session.create"))
            await driver.chunks(1)
            reading = asyncio.create_task(driver.end())
            since = time.monotonic()
            await server.aclose()
            return await reading, time.monotonic() - since

    last, seconds = run(live())
    assert (last["type"], last["reason"]) == ("session.ended", "server")
    assert seconds < 4, "aiohttp itself would wait for 5"


def test_a_session_that_fails_says_so_and_the_server_goes_on():
    async def live():
        async with served(make=lambda: PlainSession(fails=1), max_sessions=1) as at:
            async with wire(at.url, "session.create") as driver:
                last = await driver.end()
            async with wire(at.url, "session.create") as driver:
                await driver.until("session.created")
            return last

    last = run(live())
    assert last["reason"] == "error"
    assert "the device is gone" in last["message"]


@pytest.mark.parametrize("shown", [1000, -1])
def test_a_picture_that_cannot_be_encoded_ends_its_session_with_a_sentence(shown):
    """Also where the session waits for the viewer, who never gets that picture."""

    class Damaged(PlainSession):
        def chunks(self):
            for chunk in super().chunks():
                yield replace(chunk, frames=chunk.frames.astype(float) if chunk.chunk else chunk.frames)

    async def live():
        async with served(make=Damaged) as at, wire(at.url, "session.create") as driver:
            await driver.say("playback.ack", epoch=0, frame=shown)
            return await driver.end(), at.hub.num_sessions

    last, left = run(live())
    assert (last["type"], last["reason"], left) == ("session.ended", "error", 0)


def test_a_session_that_cannot_be_made_says_so():
    def make():
        raise RuntimeError("of our own making")

    async def live():
        async with served(make=make) as at, wire(at.url, "session.create") as driver:
            return await driver.end(), at.hub.num_sessions

    last, left = run(live())
    assert (last["code"], left) == ("internal", 0)
    assert "of our own making" not in last["message"]


def test_a_recording_is_fetched_with_the_session_s_own_secret_and_outlives_the_session(tmp_path):
    async def fetch(http, at, session_id, bearer):
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        async with http.get(f"{at.url}/v1/sessions/{session_id}/recording", headers=headers) as answer:
            return answer.status, await answer.read()

    async def live():
        async with contextlib.AsyncExitStack() as stack:
            at = await stack.enter_async_context(served(recording_seconds=1.0))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            async with wire(at.url, "session.create") as driver, wire(at.url, "session.create") as other:
                created, stranger = await driver.until("session.created"), await other.until("session.created")
                session_id, secret = created["session_id"], created["resume_token"]
                found = [await fetch(http, at, session_id, secret)]
                (tmp_path / "broken.mp4").write_bytes(b"half")
                at.sessions[0].listener(Recorded(tmp_path / "broken.mp4", "the recording broke off"))
                said = [await driver.until("error"), await driver.until("recording.ready")]
                (tmp_path / "whole.mp4").write_bytes(b"whole")
                at.sessions[0].listener(Recorded(tmp_path / "whole.mp4"))
                said.append(await driver.until("recording.ready"))
                for bearer in (secret, None, "x" * 32, created["view_token"], stranger["resume_token"]):
                    found.append(await fetch(http, at, session_id, bearer))
                found.append(await fetch(http, at, "../whole", secret))
                await driver.say("session.finish")
                await driver.end()
                found.append(await fetch(http, at, session_id, secret))
                while (tmp_path / "whole.mp4").exists():
                    await asyncio.sleep(0.05)
                found.append(await fetch(http, at, session_id, secret))
        return said, found, session_id

    said, found, session_id = run(live())
    assert said[0]["message"] == "the recording broke off"
    assert said[1]["url"] == said[2]["url"] == f"/v1/sessions/{session_id}/recording"
    assert [status for status, _ in found] == [404, 200, 404, 404, 404, 404, 404, 200, 404]
    assert found[1][1] == found[7][1] == b"whole"


def test_a_host_may_compute_in_a_thread_of_its_own_and_be_attached_to():
    async def live():
        async with served() as at:
            session = PlainSession()
            made = Made(session=session, width=SIZE, height=SIZE, fps=FPS, words=WORDS, listen=session.listen)
            hosted = at.hub.add(made)
            seen = []

            def compute():
                with hosted.source.showing() as show:
                    for chunk in session.chunks():
                        show(chunk)
                        seen.append(chunk.chunk)

            host = asyncio.create_task(asyncio.to_thread(compute))
            fields = {"session": hosted.session_id, "token": hosted.resume_token}
            async with wire(at.url, "session.attach", **fields | {"token": "x" * 32}) as stranger:
                refused = await stranger.end()
            while len(seen) < 2:  # what was made before anybody saw it is shown to the first who attaches
                await asyncio.sleep(0.01)
            async with wire(at.url, "session.attach", **fields) as driver:
                chunks = await driver.chunks(3)
                await driver.say("session.finish")
                last = await driver.end()
            await host
            return refused, chunks, last, seen, at.hub.num_sessions

    refused, chunks, last, seen, left = run(live())
    assert refused["code"] == "unknown_session"
    assert [chunk["chunk"] for chunk in chunks] == [0, 1, 2] == seen[:3]
    assert (last["type"], last["reason"], left) == ("session.ended", "finished", 0)


# what is refused


def test_only_so_many_sessions_and_viewers():
    async def live():
        async with served(max_sessions=1, max_viewers=1) as at, wire(at.url, "session.create") as driver:
            created = await driver.until("session.created")
            async with wire(at.url, "session.create") as other:
                full = await other.end()
            async with wire(at.url, "session.view", view_token=created["view_token"]) as viewer:
                await viewer.until("session.created")
                async with wire(at.url, "session.view", view_token=created["view_token"]) as other:
                    viewers = await other.end()
            await driver.say("session.finish")
            await driver.end()
            async with wire(at.url, "session.create") as other:
                await other.until("session.created")
            return full, viewers

    full, viewers = run(live())
    assert full["code"] == "server_full"
    assert full["message"]
    assert viewers["code"] == "full"


def test_only_so_many_connections():
    async def live():
        async with served(max_connections=2) as at, wire(at.url), wire(at.url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                async with wire(at.url):
                    pass
            return refusal.value.status

    assert run(live()) == 503


@pytest.mark.parametrize("given", [None, "", "x" * 22, TOKEN[:-1]])
def test_a_token_is_asked_for(given):
    async def live():
        async with served(token=TOKEN) as at:
            async with wire(at.url, "session.create", **({} if given is None else {"token": given})) as stranger:
                refused = await stranger.end()
            async with wire(at.url, "session.create", token=TOKEN) as friend:
                await friend.until("session.created")
            return refused, len(at.sessions)

    refused, made = run(live())
    assert refused["code"] == ("bad_value" if given == "" else "unauthorized")
    assert made == 1


def test_other_addresses_need_a_token_before_anything_listens():
    async def live(token):
        services = Services(about=dict, add_reference=len, picture_of=lambda _: None)
        server = LiveServer(Hub(lambda _: None, Limits()), services, AccessRules(listens=("0.0.0.0",)), token)
        async with running(server, Address(host="0.0.0.0", port=0), token):
            pass

    with pytest.raises(AccessError, match="needs a token"):
        run(live(None))
    run(live(TOKEN))


SENDERS = [
    ({}, 200), ({"Host": "localhost"}, 200), ({"Host": "evil.example"}, 403), ({"Origin": "null"}, 403),
    ({"Origin": "https://evil.example"}, 403), ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "status"), SENDERS, ids=range(len(SENDERS)))
def test_host_and_origin_are_checked_on_every_address(headers, status):
    async def live():
        found = []
        async with served() as at, aiohttp.ClientSession() as http:
            for path in ("/v1/info", "/v1/session", "/v1/references", "/"):
                kwargs = {"data": b"picture"} if path == "/v1/references" else {}
                method = "POST" if kwargs else "GET"
                async with http.request(method, at.url + path, headers=headers, **kwargs) as answer:
                    found.append(answer.status)
            if status == 403:
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    async with wire(at.url, headers=headers):
                        pass
        return found, at.pictures

    found, sent = run(live())
    assert (found[0] == 200) == (status == 200)
    assert all((one == 403) == (status == 403) for one in found)
    assert bool(sent) == (status == 200)


def test_a_secret_in_a_query_is_refused():
    async def live():
        async with (
            served() as at,
            aiohttp.ClientSession() as http,
            http.get(f"{at.url}/v1/info?token={TOKEN}") as answer,
        ):
            return answer.status, await answer.json()

    status, error = run(live())
    assert (status, error["error"]["code"]) == (400, "query")


@pytest.mark.parametrize("first", ["ping", "nonsense", '{"type": "session.create", "reference": 3}', b"\1\2", None])
def test_a_connection_that_does_not_open_a_session_ends(first):
    async def live():
        async with served(opening_seconds=0.3) as at, wire(at.url) as client:
            if isinstance(first, bytes):
                await client.socket.send_bytes(first)
            elif first is not None:
                await client.socket.send_str(json.dumps({"type": first}) if first == "ping" else first)
            await client.end()
            return client.texts(), len(at.sessions)

    said, made = run(live())
    assert made == 0
    assert all(one["type"] == "error" for one in said)
    assert bool(said) == (not isinstance(first, bytes))


def test_a_message_that_is_too_large_ends_its_own_connection():
    async def live():
        async with served() as at, wire(at.url, "session.create") as one, wire(at.url, "session.create") as other:
            await one.until("session.created")
            await one.socket.send_bytes(bytes(2**20 + 1))
            await one.end()
            return one.socket.close_code, await other.chunks(4)

    code, chunks = run(live())
    assert code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert len(chunks) == 4


def test_a_camera_is_refused_where_nothing_reads_faces():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            await driver.until("session.created")
            await driver.socket.send_bytes(Header(CAMERA).pack() + b"\xff\xd8\xff\xe0")
            return await driver.until("error")

    assert run(live())["code"] == "no_camera"


def test_a_camera_s_pictures_and_its_middle_go_to_what_follows_faces():
    class Cameras:
        def __init__(self):
            self.asked = []

        def see(self, session, jpeg):
            self.asked.append((session, jpeg))

        def recentre(self, session):
            self.asked.append((session, "recentre"))

    cameras = Cameras()
    services = Services(about=dict, add_reference=str, picture_of=lambda _: None, cameras=cameras)

    async def live():
        async with served(services=services) as at, wire(at.url, "session.create") as driver:
            await driver.until("session.created")
            await driver.socket.send_bytes(Header(CAMERA).pack() + b"\xff\xd8\xff\xe0")
            await driver.say("camera.recentre")
            await driver.say("ping")
            await driver.until("pong")
            return [one.source for one in at.hub.sessions.values()]

    (source,) = run(live())
    assert cameras.asked == [(source, b"\xff\xd8\xff\xe0"), (source, "recentre")]


def test_a_prompt_where_none_is_read_is_refused_with_a_sentence():
    async def live():
        async with served() as at, wire(at.url, "session.create") as driver:
            await driver.until("session.created")
            session, apply = at.sessions[0], at.sessions[0].apply

            def refuse(control):
                if not isinstance(control, controls.Prompt):
                    return apply(control)
                session.listener(Refused(7, "this model reads no prompt"))
                return 7

            session.apply = refuse
            await driver.say("session.interaction", event_id="words", prompt="she smiles")
            return await driver.until("error")

    told = run(live())
    assert (told["code"], told["message"], told["number"]) == ("refused", "this model reads no prompt", 7)


# over HTTP


def test_pictures_are_taken_from_those_who_may():
    async def live():
        async with served(token=TOKEN, picture_bytes=1000) as at, aiohttp.ClientSession() as http:
            async with wire(at.url, "session.create", token=TOKEN) as driver:
                created = await driver.until("session.created")
                found = []
                for bearer in (None, "x" * 22, TOKEN, created["resume_token"], created["view_token"]):
                    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
                    async with http.post(f"{at.url}/v1/references", data=b"picture", headers=headers) as answer:
                        found.append((answer.status, await answer.json()))
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with http.post(f"{at.url}/v1/references", data=bytes(1001), headers=headers) as answer:
                    found.append((answer.status, await answer.json()))
            return found, at.pictures

    found, sent = run(live())
    assert [status for status, _ in found] == [401, 401, 200, 200, 401, 413]
    assert found[2][1] == {"reference": "upload:1"}
    assert sent == [b"picture", b"picture"]


def png(width, height):
    """One that is small as a file, whatever its size."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def noisy_png():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_references_are_decoded_under_limits_and_never_opened_by_name(tmp_path, monkeypatch):
    references = References(32, 48, most_pixels=10_000, most_pictures=2)
    name = references.add(png(100, 100)).name
    assert tuple(references.get(name).shape) == (32, 48, 3)
    (tmp_path / "mine.png").write_bytes(png(8, 8))
    monkeypatch.chdir(tmp_path)
    mine = str(tmp_path / "mine")
    for wrong in ("mine.png", f"{mine}.png", f"builtin:{mine}", "builtin:../../etc/passwd", "https://example.com/a.png",
                  "upload:1", "", "builtin:"):  # fmt: skip
        with pytest.raises(MediaError, match="there is no reference"):
            references.get(wrong)
    claims = bytearray(png(101, 100))
    claims[16:24] = struct.pack(">2I", 60_000, 60_000)  # of its header, whose checksum is put right
    claims[29:33] = struct.pack(">I", zlib.crc32(claims[12:29]))
    for bomb in (png(101, 100), bytes(claims)):
        with pytest.raises(MediaError, match="10000 pixels at most"):
            references.add(bomb)
    noise = noisy_png()
    assert references.add(noise).name
    for damaged in (b"", b"nonsense", noise[: len(noise) // 2], b"GIF89a" + bytes(50), b"<svg/>"):
        with pytest.raises(MediaError):
            references.add(damaged)
    later = [references.add(png(9, 9)).name for _ in range(2)]
    assert len({name, *later}) == 3
    assert references.get(later[0]) is not None
    with pytest.raises(MediaError, match="there is no reference"):
        references.get(name)  # the oldest makes room


def test_the_page_is_served_and_nothing_beside_it(tmp_path, monkeypatch):
    page = tmp_path / "page"
    (page / "deep").mkdir(parents=True)
    for name in ("index.html", "view.html", "deep/app.js", "style.css", "secret.txt"):
        (page / name).write_text(name, encoding="utf-8")
    (tmp_path / "outside.js").write_text("outside", encoding="utf-8")
    monkeypatch.setattr("knot_live.page_files.PAGE", page)

    async def live():
        found = {}
        async with served() as at, aiohttp.ClientSession() as http:
            for path in ("/", "/view", "/static/deep/app.js", "/static/style.css", "/static/secret.txt", "/nowhere",
                         "/static/../outside.js", "/static/%2e%2e/outside.js", "/static/..%5coutside.js",
                         "/static//etc/passwd"):  # fmt: skip
                async with http.get(aiohttp.client.URL(at.url + path, encoded=True)) as answer:
                    found[path] = answer.status, answer.headers, await answer.text()
        return found

    found = run(live())
    assert {path: found[path][2] for path in found if found[path][0] == 200} == {
        "/": "index.html", "/view": "view.html", "/static/deep/app.js": "deep/app.js", "/static/style.css": "style.css",
    }  # fmt: skip
    assert all(status == 404 for status, _, _ in found.values() if status != 200)
    _, headers, _ = found["/static/deep/app.js"]
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="NOT TESTED, TLS: no openssl to make a certificate")
def test_it_speaks_tls(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)  # fmt: skip

    async def live():
        services = Services(about=dict, add_reference=len, picture_of=lambda _: None)
        server = LiveServer(Hub(lambda _: None, Limits()), services, AccessRules(listens=("127.0.0.1",)))
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with (
            running(server, Address(port=0, tls=(certificate, key))) as at,
            aiohttp.ClientSession() as http,
            http.get(f"{at.url}/v1/info", ssl=trusted) as answer,
        ):
            return at.url, answer.status

    url, status = run(live())
    assert url.startswith("https://127.0.0.1:")
    assert status == 200
