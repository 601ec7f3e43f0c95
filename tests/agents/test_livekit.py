"""The avatar through LiveKit's own classes at both ends, in a room that needs no server, by the clock."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip(
    "livekit.agents", reason='needs the extra "livekit", in an environment of its own: see docs/live.md'
)

from livekit import api, rtc
from livekit.agents import AgentSession
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarRunner, QueueAudioOutput

from knot_live.agents.livekit import AvatarSession, KnotForcingVideo, show_in_room
from knot_live.agents.livekit import _Silence as Silence

from .conftest import RATE, speech
from .rooms import pair

PIECE = 480  # samples of a frame of speech
KEY, SECRET = "key", "a secret that is as long as secrets must be"


class Watched(KnotForcingVideo):
    """Notes what it gives, with when."""

    def __init__(self, session):
        super().__init__(session, width=64, height=64)
        self.given = []

    async def __aiter__(self):
        async for item in super().__aiter__():
            self.given.append((asyncio.get_running_loop().time(), item))
            yield item

    @property
    def spoken(self):
        return [item for _, item in self.given if isinstance(item, rtc.AudioFrame) and not isinstance(item, Silence)]

    @property
    def sound(self):
        return np.concatenate([np.frombuffer(item.data, np.int16) for item in self.spoken])

    def count(self, kind):
        return sum(isinstance(item, kind) for _, item in self.given)

    async def until_spoken(self, count):
        while len(self.spoken) < count:
            await asyncio.sleep(0.01)


class Finished(list):
    """What an output of sound says of its segments' ends, with when."""

    def __init__(self, output):
        super().__init__()
        output.on("playback_finished", lambda event: self.append((asyncio.get_running_loop().time(), event)))

    async def until(self, count):
        while len(self) < count:
            await asyncio.sleep(0.01)


async def say(output, samples, rate=RATE):
    for start in range(0, len(samples), PIECE):
        piece = samples[start : start + PIECE]
        await output.capture_frame(rtc.AudioFrame(piece.tobytes(), rate, 1, len(piece)))


def in_a_room(session, script):
    """Run `script` with an agent whose avatar shows that session in the same room; what there was to see."""

    async def scene():
        agents, avatars = pair()
        here = SimpleNamespace(rooms=(agents, avatars), video=Watched(session), tokens=[], agent=AgentSession())

        async def join(url, token):
            here.tokens.append((url, token))
            await show_in_room(avatars, here.video)

        avatar = AvatarSession(join)
        await avatar.start(here.agent, agents, livekit_url="ws://here", livekit_api_key=KEY, livekit_api_secret=SECRET)
        here.output = here.agent.output.audio
        here.finished = Finished(here.output)
        await script(here)
        await avatar.aclose()
        return here

    return asyncio.run(asyncio.wait_for(scene(), 120))


def test_what_the_agent_says_is_seen_and_heard_in_step(session):
    said = speech(2.01)

    async def script(here):
        await say(here.output, said)
        here.output.flush()
        await here.output.wait_for_playout()

    here = in_a_room(session, script)
    assert session.state == "ended"
    assert np.array_equal(here.video.sound, said)
    [(_, event)] = here.finished
    assert not event.interrupted
    assert event.playback_position == pytest.approx(2.01, abs=1e-6)
    items = [item for _, item in here.video.given]
    first, last = (items.index(here.video.spoken[place]) for place in (0, -1))
    between = items[first : last + 1]
    pictures = [bytes(item.data) for item in between if isinstance(item, rtc.VideoFrame)]
    assert len(pictures) + 1 == len(here.video.spoken) == -(-len(said) * 25 // RATE)
    assert len(set(pictures)) > 10
    kinds = [isinstance(item, rtc.VideoFrame) for item in between]
    assert all(earlier != later for earlier, later in pairwise(kinds))  # picture and sound by turns
    ends = [place for place, item in enumerate(items) if isinstance(item, AudioSegmentEnd)]
    assert len(ends) == 1
    assert ends[0] > last
    assert [method for method, _ in here.rooms[1].calls] == ["lk.playback_started", "lk.playback_finished"]
    # as much silence as keeps sound and pictures together
    samples = sum(item.samples_per_channel for item in items if isinstance(item, rtc.AudioFrame))
    assert samples == pytest.approx(960 * here.video.count(rtc.VideoFrame), abs=960)


def test_a_clear_is_answered_with_what_was_heard_and_the_next_reply_is_whole(session):
    first, second = speech(8.0), speech(0.5, seed=1)
    at = SimpleNamespace()

    async def script(here):
        await say(here.output, first)
        here.output.flush()
        await here.video.until_spoken(20)
        at.asked = asyncio.get_running_loop().time()
        here.output.clear_buffer()
        await here.finished.until(1)
        at.spoken = len(here.video.spoken)
        await say(here.output, second)
        here.output.flush()
        await here.finished.until(2)

    here = in_a_room(session, script)
    (answered, event), (_, after) = here.finished
    assert answered - at.asked < 2.0
    assert event.interrupted
    assert event.playback_position == pytest.approx(at.spoken / 25, abs=1e-6)
    assert at.spoken <= 22
    assert np.array_equal(here.video.sound, np.concatenate([first[: 960 * at.spoken], second]))
    assert not after.interrupted
    assert after.playback_position == pytest.approx(0.5, abs=1e-6)
    assert here.video.count(AudioSegmentEnd) == 1
    methods = [method for method, _ in here.rooms[1].calls]
    assert methods == ["lk.playback_started", "lk.playback_finished"] * 2


def test_the_end_of_a_segment_that_is_cleared_with_its_last_sound_is_not_given(session):
    """It would be taken for that of the next one."""

    def pushed(video, samples):
        return video.push_audio(rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples)))

    async def scene():
        video = KnotForcingVideo(session, width=64, height=64)
        await pushed(video, speech(0.05))
        ended = asyncio.create_task(video.push_audio(AudioSegmentEnd()))
        items = aiter(video)
        while (item := await anext(items)) is not None:
            if isinstance(item, rtc.AudioFrame) and not isinstance(item, Silence) and item.samples_per_channel == 240:
                break
        cleared = asyncio.create_task(video.clear_buffer())
        await asyncio.sleep(0)
        assert not cleared.done()  # the runner has not counted what it was given
        await pushed(video, speech(0.5, seed=1))
        after = [await anext(items) for _ in range(10)]
        await asyncio.wait_for(asyncio.gather(cleared, ended), 0.5)
        await items.aclose()
        return after

    assert not any(isinstance(item, AudioSegmentEnd) for item in asyncio.run(scene()))


def test_segments_that_wait_are_told_apart(session):
    lengths = (0.3, 0.02, 0.5)

    async def scene():
        output, video = QueueAudioOutput(sample_rate=RATE), Watched(session)
        finished = Finished(output)
        runner = AvatarRunner(pair()[1], audio_recv=output, video_gen=video, options=video.options)
        await runner.start()
        for number, seconds in enumerate(lengths):
            await say(output, speech(seconds, seed=number))
            output.flush()
        await asyncio.wait_for(finished.until(len(lengths)), 60)
        await video.aclose()
        await runner.aclose()
        return video, [event for _, event in finished]

    video, finished = asyncio.run(scene())
    assert np.array_equal(
        video.sound, np.concatenate([speech(*given) for given in zip(lengths, range(3), strict=True)])
    )
    assert [event.playback_position for event in finished] == [pytest.approx(seconds, abs=1e-6) for seconds in lengths]
    assert not any(event.interrupted for event in finished)


def test_the_avatar_joins_on_behalf_of_the_agent(session):
    async def script(here):
        while not here.tokens:
            await asyncio.sleep(0.01)

    here = in_a_room(session, script)
    [(url, token)] = here.tokens
    claims = api.TokenVerifier(KEY, SECRET).verify(token)
    assert url == "ws://here"
    assert (claims.identity, claims.kind) == ("knot-forcing", "agent")
    assert claims.attributes == {"lk.publish_on_behalf": "agent"}
    assert claims.video.room_join
    assert claims.video.room == "here"
    assert session.state in ("ready", "ended")


@pytest.mark.parametrize("event", ["disconnected", "participant_disconnected"])
def test_the_avatar_leaves_when_the_room_or_the_agent_is_gone(session, event):
    async def scene():
        agents, avatars = pair()
        video = Watched(session)
        shown = asyncio.create_task(show_in_room(avatars, video))
        while not video.given:
            await asyncio.sleep(0.01)
        stranger = SimpleNamespace(identity="somebody")
        avatars.emit("participant_disconnected", stranger)
        await asyncio.sleep(0.05)
        assert not shown.done()
        avatars.emit(event, agents.local_participant)
        await asyncio.wait_for(shown, 20)

    asyncio.run(scene())
    assert session.state == "ended"


def test_without_an_address_the_avatar_cannot_join(monkeypatch):
    monkeypatch.delenv("LIVEKIT_URL", raising=False)

    async def start():
        await AvatarSession(None).start(None, pair()[0])

    with pytest.raises(ValueError, match="LIVEKIT_URL"):
        asyncio.run(start())
