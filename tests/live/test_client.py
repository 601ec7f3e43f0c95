"""The Python client and the command `talk`, against sessions that draw nothing, and with the built-in model."""

import asyncio
import json
import wave
from dataclasses import replace

import av
import numpy as np
import pytest

from knot_live import commands, controls
from knot_live.access import TOKEN
from knot_live.client import ConnectionLost, LiveError, Media, connect, upload
from knot_live.messages import H264, PCM16
from knot_live.talk import Talk, talk

from .serving import FRAMES, PlainSession, served

SECRET = "a-token-of-some-length"


async def read(session):
    async for _ in session:
        pass


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_a_program_drives_a_session_from_its_beginning_to_its_end():
    async def live():
        async with served() as at, connect(at.url, speech={"rate": 16_000}) as session:
            await session.interact(controls={"yaw": 0.25})
            await session.speak(np.array([0.0, 0.5, -1.0, 2.0]))
            await session.speak(np.array([1, -2], dtype=np.int16))
            await session.say("Good morning.")
            seen, media = [], []
            async for message in session:
                if isinstance(message, Media):
                    media.append(message.header)
                    continue
                seen.append(message["type"])
                if message["type"] == "video.chunk_metadata":
                    await session.acknowledge(message["epoch"], message["first_frame"] + message["frames"] - 1)
                    if message["chunk"] == 5:
                        await session.send("session.finish")
            return session, seen, media, at.sessions[0]

    session, seen, media, made = run(live())
    assert session.created["fps"] == 25
    assert session.ended["reason"] == "finished"
    assert seen.count("control.received") == 5
    assert seen.count("control.applied") >= 4
    positions = [header.position for header in media if header.kind == H264]
    assert positions == list(range(len(positions)))
    assert len(positions) >= 6 * FRAMES
    assert len([header for header in media if header.kind == PCM16]) == len(positions) // FRAMES
    look, first, second, say, _ = made.wishes
    assert (look, say) == (controls.SetControls({"yaw": 0.25}), controls.Say("Good morning."))
    assert (first.rate, first.samples.tolist()) == (16_000, [0, 16_383, -32_767, 32_767])
    assert second.samples.tolist() == [1, -2]


def test_a_lost_connection_is_told_and_resumed():
    async def live():
        async with served() as at:
            async with connect(at.url) as session:
                next(iter(at.hub.sessions.values())).driver.cut_off()
                with pytest.raises(ConnectionLost):
                    await read(session)
            secrets = {name: session.created[name] for name in ("session_id", "resume_token")}
            async with connect(at.url, opening="session.resume", **secrets) as again:
                return session.created["session_id"], again.created["session_id"]

    before, after = run(live())
    assert before == after


def test_refusals_are_errors_with_their_code():
    async def live():
        found = []
        async with served(token=SECRET) as at:
            for fields in ({}, {"token": SECRET, "reference": ""}, {"token": SECRET, "path": "x"}):
                with pytest.raises(LiveError) as refusal:
                    async with connect(at.url, **fields):
                        pass
                found.append(refusal.value.code)
            with pytest.raises(LiveError) as refusal:
                await upload(at.url, b"picture")
            found.append(refusal.value.code)
            assert await upload(at.url, b"picture", SECRET) == "upload:1"
            url = at.url
        with pytest.raises(LiveError, match="is the server running") as refusal:
            async with connect(url):
                pass
        return [*found, refusal.value.code]

    assert run(live()) == ["unauthorized", "bad_value", "unknown_field", "unauthorized", "unreachable"]


def tone(path, seconds):
    samples = (8000 * np.sin(np.arange(int(16_000 * seconds)) / 7)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path


class Quiet(PlainSession):
    """It speaks for three chunks."""

    def chunks(self):
        for chunk in super().chunks():
            yield chunk if chunk.chunk < 3 else replace(chunk, sound=np.zeros_like(chunk.sound))


WHATS = [Talk(np.zeros(16_000, np.float32), 16_000, None), Talk(None, 24_000, "Good morning."),
         Talk(np.zeros(8_000, np.float32), 16_000, "Good morning.", "en-us")]  # fmt: skip


@pytest.mark.parametrize("what", WHATS, ids=["sound", "text", "both"])
def test_talk_sends_all_that_is_said_and_ends_behind_it(tmp_path, what):
    picture, out = tmp_path / "me.png", tmp_path / "talk.mp4"
    picture.write_bytes(b"picture")

    async def live():
        async with served(make=Quiet) as at:
            return await talk(at.url, str(picture), what, out), at.pictures, at.sessions[0].wishes

    seconds, sent, wishes = run(live())
    assert sent == [b"picture"]
    heard = sum(len(wish.samples) for wish in wishes if isinstance(wish, controls.Speech))
    assert heard == (0 if what.samples is None else len(what.samples))
    assert (controls.Say(what.text or "", what.voice) in wishes) == (what.text is not None)
    assert isinstance(wishes[-1], controls.Finish)
    wanted = 1.0 + 0.6 if what.text is None else 3 * FRAMES / 25 + 1.5
    assert wanted <= seconds < wanted + 3
    assert b"trainedAlgorithmicMedia" in out.read_bytes()
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == round(25 * seconds)


@pytest.mark.slow
def test_talk_writes_what_a_session_of_the_built_in_model_said(tmp_path, capsys):
    out = tmp_path / "deep" / "talk.mp4"
    audio = tone(tmp_path / "tone.wav", 1.5)
    assert (
        commands.main(["talk", "--model", "knot-tiny", "--reference", "cleo", "--audio", str(audio), "--out", str(out)])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    with av.open(str(out)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert said["seconds"] == pytest.approx(len(shown) / 25)
    assert len(shown) >= 2.1 * 25
    assert shown[0].shape == (128, 128, 3)
    assert np.abs(shown[-1].astype(int) - shown[0]).mean() > 0.5, "somebody moves"
    with av.open(str(out)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert (np.abs(heard) > 0.1).sum() > 0.5 * 1.5 * 48_000, "a second and a half of it"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["talk", "--out", "x.mp4"], "nothing is to be said"),
     (["talk", "--out", "x.mp4", "--text", "Hello.", "--server", "http://127.0.0.1:9"], "is the server running"),
     (["talk", "--out", "x.mp4", "--audio", "none.wav"], "none.wav"),
     (["serve", "--host", "0.0.0.0"], "needs a token"),
     (["serve", "--tls-cert", "cert.pem"], "go together"),
     (["serve", "--token-file", "none"], "cannot be read"),
     (["serve", "--max-sessions", "0"], "max-sessions is 0"),
     (["serve", "--model", "none"], "no model 'none'")],
    ids=["nothing", "server", "audio", "exposed", "tls", "token", "sessions", "model"],
)  # fmt: skip
def test_what_the_user_got_wrong_is_said_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TOKEN, raising=False)
    assert commands.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
