"""Sessions of the built-in model through the server: what drives them reaches the picture and the sound."""

import asyncio
import io

import av
import numpy as np
import pytest

from knot_live import face_pose, speaking
from knot_live.client import Media, connect
from knot_live.commands import live_server
from knot_live.limits import Limits
from knot_live.messages import H264, PCM16, Create
from knot_live.protocol import ProtocolError
from knot_live.scheduling import Costs, Measured
from knot_live.server import Address
from knot_live.sources import Audience
from knot_live.studio import Studio
from knot_live.ticker import Ticker


@pytest.fixture
def studio(model):
    made = Studio(model, Limits())
    yield made
    made.close()


def test_a_studio_tells_what_it_has_and_what_it_lacks(studio):
    about = studio.about()
    assert (about["fps"], about["size"], about["chunk_seconds"]) == (25, [128, 128], 0.48)
    assert about["references"][0] == "builtin:ada"
    assert about["controls"]["blink"] == [0.0, 1.0]
    assert (about["speech_problem"] is None) == bool(about["voices"]) == (speaking.missing() is None)
    assert about["camera_problem"] == face_pose.missing()
    assert set(about["voices"]) == set(about["voice_titles"])


@pytest.mark.parametrize(
    "wish",
    [Create(reference="builtin:nobody"), Create(reference="/etc/passwd"), Create(settings={"sampler": "none"}),
     Create(settings={"timesteps": (1.0, 2.0)})],
    ids=["name", "path", "sampler", "timesteps"],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_engine_s_sentence(studio, wish):
    with pytest.raises(ProtocolError) as refusal:
        studio.make(wish)
    assert refusal.value.code == "bad_value"
    assert len(str(refusal.value)) > 20


def test_a_session_has_the_settings_that_were_asked_for(studio):
    session = studio.make(Create(settings={"num_chunk_frames": 1, "steps": 2})).session
    assert session.state == "ready"
    assert np.asarray(next(iter(session.chunks())).frames).shape == (1, 128, 128, 3)


class AllPictures(Studio):
    """Leaves none out, however busy the machine is."""

    def options(self):
        return super().options() | {"degrades": False}


@pytest.mark.slow
def test_a_driver_s_wishes_reach_picture_and_sound_and_are_recorded(model):
    """Sound that is sent is heard again; a head that was told to turns; the recording has what was shown."""
    noise = np.random.default_rng(0).normal(0, 0.2, 16_000).astype(np.float32)

    async def live():
        async with live_server(AllPictures(model, Limits()), Address(port=0)) as at:
            async with connect(at.url, speech={"rate": 16_000}, reference="builtin:ben") as session:
                await session.send("recording.start")
                await session.interact(controls={"yaw": 1.0})
                await session.speak(noise)
                await session.send("input_audio_buffer.commit")
                seen, units, sound = [], [], []
                async for message in session:
                    if isinstance(message, Media):
                        units += [message.payload] if message.header.kind == H264 else []
                        sound += [message.payload] if message.header.kind == PCM16 else []
                        continue
                    seen.append(message)
                    if message["type"] == "video.chunk_metadata":
                        last = message["first_frame"] + message["frames"] - 1
                        await session.acknowledge(message["epoch"], last)
                        if message["chunk"] == 4 and message["first_frame"] == 45:  # of its pieces the first
                            await session.send("session.finish")
            return seen, units, sound

    seen, units, sound = asyncio.run(asyncio.wait_for(live(), 120))
    kinds = [message["type"] for message in seen]
    assert kinds.count("control.received") == kinds.count("control.applied") == 5
    assert kinds.index("recording.ready") < kinds.index("session.ended")
    heard = np.frombuffer(b"".join(sound), "<i2")
    spoken = np.abs(heard) > 1000
    assert 0.8 * 24_000 * 0.5 < spoken.sum() < 1.1 * 24_000, "a second of noise"
    with av.open(io.BytesIO(b"".join(units)), format="h264") as container:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(shown) == len(heard) / 960
    assert np.abs(shown[-1] - shown[0])[32:96, 32:96].mean() > 4, "the head has turned"


def test_where_it_measures_a_second_session_is_refused_that_cannot_be_drawn_beside_the_first(model):
    studio = Studio(model, Limits(), measures=True)
    studio.ticker = Ticker(Costs((Measured(3, 1, 0.05, 0.25),), fps=25))  # 0.3 s of 0.48 at one step
    try:
        first = studio.make(Create()).source()
        first.listen(Audience(**dict.fromkeys(("show", "tell", "fail", "ended", "moved"), lambda *_: None)))
        first.start()
        with pytest.raises(ProtocolError, match=r"1 session is running.*come back in") as refusal:
            studio.make(Create())
        assert refusal.value.code == "server_full"
        studio.ticker.costs = Costs((Measured(3, 1, 0.01, 0.1),), fps=25)
        assert studio.make(Create()).ticker is studio.ticker
    finally:
        studio.close()
    asyncio.run(first.wait())
