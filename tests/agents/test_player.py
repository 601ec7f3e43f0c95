"""What is said to a session, and what of it is forgotten, with a session that gives what the test puts into it."""

import asyncio
import queue

import numpy as np
import pytest

from knot_live import controls
from knot_live.agents.player import Player
from knot_live.events import MediaChunk

from .conftest import RATE, speech

PER_FRAME = RATE // 25


class Scripted:
    """A session in which `put` says what comes next; None ends it."""

    fps = 25

    def __init__(self):
        self.asked, self.acknowledged, self._given = [], [], queue.SimpleQueue()

    def apply(self, control):
        self.asked.append(control)
        return len(self.asked)

    def acknowledge(self, epoch, frame):
        self.acknowledged.append((epoch, frame))

    def put(self, first, count, *, epoch=0, sound=None):
        """Frames whose pictures are as bright as their number, which begin with that speech."""
        said = np.zeros(0, np.int16) if sound is None else sound
        samples = np.pad(said, (0, count * PER_FRAME - len(said))).astype(np.float32) / 32_768
        frames = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
        self._given.put(
            MediaChunk(epoch=epoch, chunk=0, first_frame=first, frames=frames, sound=samples, speech=len(said),
                       applied=(), seconds={}, buffer=0.0)
        )  # fmt: skip

    def end(self, problem=None):
        self._given.put(problem)

    def chunks(self, wait):
        while True:
            try:
                given = self._given.get(timeout=0.01)
            except queue.Empty:
                wait()
                continue
            if isinstance(given, Exception):
                raise given
            if given is None:
                return
            yield given

    def of(self, kind):
        return [control for control in self.asked if isinstance(control, kind)]

    @property
    def seconds(self):
        return sum(control.seconds for control in self.of(controls.Speech))


def playing(scene):
    """Run `scene(player, session)`, and end the session behind it."""

    async def run():
        session = Scripted()
        player = Player(session)
        player.start()
        try:
            await asyncio.wait_for(scene(player, session), 20)
        finally:
            await player.close()

    asyncio.run(run())


def test_utterances_are_told_apart_to_the_sample():
    first, second = speech(0.05), speech(0.07, seed=1)

    async def scene(player, session):
        player.say(first[None], RATE, "a")
        player.commit("end of a")
        player.say(second[None], RATE, "b")
        player.commit("end of b")
        player.commit("end of nothing")
        session.put(0, 2)
        session.put(2, 4, sound=np.concatenate([first, second]))
        frames = [await player.frame() for _ in range(6)]
        assert [frame.number for frame in frames] == list(range(6))
        assert [int(frame.picture[0, 0, 0]) for frame in frames] == list(range(6))
        assert [frame.spoken for frame in frames] == [0, 0, 960, 960, 960, 0]
        assert [frame.name for frame in frames[2:5]] == ["a", "a", "b"]
        assert [frame.ended for frame in frames] == [(), (), (), ("end of a",), ("end of b", "end of nothing"), ()]
        sound = np.concatenate([frame.sound[: frame.spoken] for frame in frames])
        assert np.array_equal(sound, np.concatenate([first, second]))
        assert session.acknowledged == [(0, number) for number in range(6)]
        await player.until_silent()

    playing(scene)


def test_the_session_is_given_no_more_than_it_takes():
    async def scene(player, session):
        for _ in range(60):
            player.say(speech(1.0)[None], RATE)
        player.commit()
        assert session.seconds == 20
        assert not session.of(controls.CommitSpeech)
        session.put(0, 25, sound=speech(1.0))
        for _ in range(24):
            await player.frame()
        assert session.seconds == 21  # the piece that brought it to the bound again
        player.silence()
        assert [control.played_frame for control in session.of(controls.Cancel)] == [23]
        await player.until_silent()
        assert session.seconds == 21

    playing(scene)


def test_after_an_interruption_nothing_of_the_old_is_heard_and_all_of_the_new():
    old, new = speech(3.0), speech(0.06, seed=1)

    async def scene(player, session):
        player.say(old[None], RATE, "old")
        player.commit("end of old")
        session.put(0, 12, sound=old[: 12 * PER_FRAME])
        assert [(await player.frame()).spoken for _ in range(3)] == [960] * 3
        player.silence()
        player.say(new[None], RATE, "new")
        player.commit("end of new")
        assert session.seconds == 3.0  # until the session has cut
        silent = [await player.frame() for _ in range(9)]
        assert np.abs(silent[0].sound[120:]).max() == 0
        assert np.abs(silent[0].sound[:120]).max() > 0  # it fades
        assert not any(frame.spoken or frame.ended for frame in silent)
        assert not any(frame.sound.any() for frame in silent[1:])
        session.put(12, 12, sound=old[12 * PER_FRAME : 24 * PER_FRAME])  # was on its way
        assert not (await player.frame()).sound.any()
        player.silence()  # what waits alone: nothing more is to be cut
        assert len(session.of(controls.Cancel)) == 1
        player.say(new[None], RATE, "new")
        player.commit("end of new")
        session.put(15, 4, epoch=1)
        while session.seconds < 3.05:  # until that has come
            await asyncio.sleep(0.01)
        frames = [await player.frame() for _ in range(6)]
        assert [frame.number for frame in frames] == [13, 14, 15, 16, 17, 18]
        session.put(19, 2, epoch=1, sound=new)
        said = [await player.frame(), await player.frame()]
        assert np.array_equal(np.concatenate([frame.sound[: frame.spoken] for frame in said]), new)
        assert (said[0].name, said[1].ended) == ("new", ("end of new",))

    playing(scene)


def test_an_interruption_of_nothing_is_none():
    async def scene(player, session):
        player.silence()
        session.put(0, 1)
        await player.frame()
        player.silence()
        assert session.asked == []

    playing(scene)


def test_an_end_and_a_break_are_told_behind_the_last_frame():
    async def ends(player, session):
        player.say(speech(1.0)[None], RATE)
        session.put(0, 2)
        session.end()
        assert [(await player.frame()).number for _ in range(2)] == [0, 1]
        assert await player.frame() is None
        player.say(speech(1.0)[None], RATE)
        await player.until_silent()  # for ever, else

    async def breaks(player, session):
        session.put(0, 1)
        session.end(RuntimeError("out of memory"))
        assert (await player.frame()).number == 0
        with pytest.raises(RuntimeError, match="out of memory"):
            await player.frame()

    playing(ends)
    playing(breaks)


def test_sound_of_any_rate_and_of_two_channels_is_spoken():
    async def scene(player, session):
        tone = (8000 * np.sin(np.arange(16_000) / 20)).astype(np.int16)
        for start in range(0, 16_000, 160):
            player.say(np.stack([tone, tone])[:, start : start + 160], 16_000)
        player.commit()
        assert session.seconds == pytest.approx(1.0, abs=0.002)
        assert {control.rate for control in session.of(controls.Speech)} == {RATE}
        sound = np.concatenate([control.samples for control in session.of(controls.Speech)])
        expected = 8000 / 32_768 * np.sin(np.arange(len(sound)) * 16 / 24 / 20)
        assert np.abs(sound - expected)[200:-200].max() < 0.01
        assert len(session.of(controls.CommitSpeech)) == 1

    playing(scene)
