"""The service in real Pipecat pipelines, run by Pipecat's own workers and runner, by the clock."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pipecat", reason='needs the extra "pipecat", in an environment of its own: see docs/live.md')

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
)

from knot_live.agents.pipecat import KnotForcingVideoService

from .conftest import RATE, speech
from .pipelines import run

PIECE = 480  # samples of a frame of speech


class Said(TTSAudioRawFrame):
    """Speech that goes in: of a class of its own, so that it is told from what comes out."""


def pieces(samples, rate=RATE, context=None):
    return [
        Said(audio=samples[start : start + PIECE].tobytes(), sample_rate=rate, num_channels=1, context_id=context)
        for start in range(0, len(samples), PIECE)
    ]


def test_speech_comes_out_as_it_went_in_and_in_step_with_the_pictures(session):
    said = speech(2.01)

    async def script(here):
        await here.watcher.until(OutputImageRawFrame, 5)
        await here.worker.queue_frames([*pieces(said, context="a"), TTSStoppedFrame(), EndFrame()])

    here = run([KnotForcingVideoService(session)], script)
    assert session.state == "ended"
    assert not here.watcher.of(Said, ErrorFrame)
    assert np.array_equal(here.watcher.sound, said)
    sounds = here.watcher.of(TTSAudioRawFrame)
    assert {sound.context_id for sound in sounds} == {"a"}
    images = {image.pts: image for image in here.watcher.of(OutputImageRawFrame)}
    assert {(image.size, image.format, len(image.image)) for image in images.values()} == {
        ((64, 64), "RGB", 64 * 64 * 3)
    }
    # each piece of sound has its picture, and between the first and the last none is missing or too many
    spoken = [pts for pts in images if sounds[0].pts <= pts <= sounds[-1].pts]
    assert [sound.pts for sound in sounds] == spoken
    assert len(spoken) == -(-len(said) * 25 // RATE)
    assert len({images[pts].image for pts in spoken}) > 10
    kinds = [type(frame) for frame in here.watcher.of(TTSAudioRawFrame, TTSStoppedFrame)]
    assert kinds == [*[TTSAudioRawFrame] * len(sounds), TTSStoppedFrame]


def test_frames_are_paced_by_the_clock(session):
    async def script(here):
        await here.watcher.until(OutputImageRawFrame, 100)
        await here.worker.queue_frame(EndFrame())

    here = run([KnotForcingVideoService(session)], script)
    times = [(time, frame.pts / 1e9) for time, frame in here.watcher.seen if isinstance(frame, OutputImageRawFrame)]
    apart = np.diff([pts for _, pts in times])
    assert apart.min() > 0.0399
    assert times[-1][0] - times[0][0] > 0.039 * (len(times) - 1)
    assert all(later >= earlier for (earlier, _), (later, _) in pairwise(times))


@pytest.mark.parametrize("kind", [InterruptionFrame, UserStartedSpeakingFrame])
def test_an_interruption_silences_within_a_frame_and_what_is_said_next_is_whole(session, kind):
    first, second = speech(8.0), speech(0.5, seed=1)
    at = SimpleNamespace()

    async def script(here):
        await here.worker.queue_frames([*pieces(first, context="a"), TTSStoppedFrame()])
        await here.watcher.until(TTSAudioRawFrame, 20)
        at.asked = asyncio.get_running_loop().time()
        await here.worker.queue_frame(kind())
        await here.watcher.until(kind, 1)
        await here.worker.queue_frames([*pieces(second, context="b"), TTSStoppedFrame(), EndFrame()])

    here = run([KnotForcingVideoService(session)], script)
    assert session.state == "ended"
    sounds = [(time, frame) for time, frame in here.watcher.seen if isinstance(frame, TTSAudioRawFrame)]
    ones = [time for time, sound in sounds if sound.context_id == "a"]
    assert max(ones) - at.asked < 0.1
    assert np.array_equal(here.watcher.sound[: 960 * len(ones)], first[: 960 * len(ones)])
    assert np.array_equal(here.watcher.sound[960 * len(ones) :], second)
    assert len(here.watcher.of(TTSStoppedFrame)) == 1  # that of the second


def test_two_utterances_follow_without_a_gap_at_any_rate(session):
    first, second = speech(0.7), speech(0.9, seed=2)

    async def script(here):
        frames = [*pieces(first, context="a"), TTSStoppedFrame(), *pieces(second, 16_000, "b"), TTSStoppedFrame()]
        await here.worker.queue_frames([*frames, EndFrame()])

    here = run([KnotForcingVideoService(session)], script)
    sound = here.watcher.sound
    assert np.array_equal(sound[: len(first)], first)
    assert len(sound) == pytest.approx(len(first) + 1.5 * len(second), abs=50)
    pts = [frame.pts for frame in here.watcher.of(TTSAudioRawFrame)]
    assert len(pts) == -(-len(sound) // 960)
    kinds = here.watcher.of(TTSAudioRawFrame, TTSStoppedFrame)
    assert [frame.context_id for frame in kinds[:10] if isinstance(frame, TTSAudioRawFrame)] == ["a"] * 10
    assert kinds[-2].context_id == "b"
    assert isinstance(kinds[-1], TTSStoppedFrame)
    assert sum(isinstance(frame, TTSStoppedFrame) for frame in kinds) == 2


def test_a_pipeline_that_is_cancelled_ends_the_session(session):
    async def script(here):
        await here.worker.queue_frames(pieces(speech(5.0)))
        await here.watcher.until(TTSAudioRawFrame, 3)
        await here.worker.cancel()

    service = KnotForcingVideoService(session)
    here = run([service], script)
    assert session.state == "ended"
    assert here.watcher.of(CancelFrame)
    assert not any(thread.is_alive() for thread in service._player._threads)


def test_a_session_that_breaks_is_an_error_of_the_pipeline(session, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(session._drawing, "draw", broken)
    errors = []

    async def script(here):
        await here.watcher.until(StartFrame, 1)
        while not errors:
            await asyncio.sleep(0.02)
        await here.worker.queue_frames([*pieces(speech(0.1)), EndFrame()])

    service = KnotForcingVideoService(session)

    @service.event_handler("on_error")
    async def _note(_, error):
        errors.append(error.error)

    run([service], script)
    assert errors == ["the portrait stands still: out of memory"]
