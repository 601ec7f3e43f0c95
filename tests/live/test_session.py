"""Sessions by a simulated clock: what is asked takes hold with the next chunk; drawing keeps in step with viewers."""

import numpy as np
import pytest

from knot_live import controls
from knot_live.events import Applied, Cut, Ended, Refused, StateChanged

from .simulated import FPS, Scene


@pytest.fixture
def scene(monkeypatch):
    return lambda **options: Scene(monkeypatch, **options)


def speech(frames):
    return controls.Speech(np.zeros(frames * 640, dtype=np.int16), 16_000)


def test_frames_are_given_without_gap_and_with_their_sound(scene):
    given = scene().run(seconds=10).chunks
    assert [chunk.chunk for chunk in given] == list(range(len(given)))
    assert len(given) >= 10 * FPS // 12
    ends = [chunk.first_frame + len(chunk.frames) for chunk in given]
    assert [chunk.first_frame for chunk in given] == [0, *ends[:-1]]
    assert [len(chunk.frames) for chunk in given[:3]] == [9, 12, 12]
    assert all(len(chunk.sound) == 960 * len(chunk.frames) for chunk in given)


def test_a_control_takes_hold_with_the_next_chunk_and_says_with_which(scene):
    here = scene()
    here.at(3.0, controls.SetControls({"yaw": 7}))
    here.run(seconds=6)
    (applied,) = [event for event in here.told(Applied) if event.number == 1]
    chunk = here.chunks[applied.chunk]
    assert (chunk.first_frame, chunk.applied) == (applied.frame, (1,))
    assert here.chunks[applied.chunk - 1].frames.max() == 0
    assert chunk.frames.min() == 7
    entry = next(entry for entry in here.session.log if entry.number == 1)
    assert (entry.chunk, entry.frame, entry.control.values) == (applied.chunk, applied.frame, {"yaw": 7})


def test_the_sound_is_that_which_moved_the_frames(scene):
    here = scene()
    here.at(2.0, speech(20))
    here.run(seconds=5)
    spoken = np.concatenate([chunk.frames[:, 0, 0, 0] for chunk in here.chunks]) >= 100
    sound = np.concatenate([chunk.sound for chunk in here.chunks]).reshape(-1, 960)
    assert spoken.sum() == 20
    assert np.array_equal(spoken, (sound > 0).all(axis=1))
    assert not sound[~spoken].any()


def test_pause_go_on_and_finish(scene):
    here = scene()
    here.at(2.0, controls.Pause())
    here.at(7.0, controls.GoOn())
    here.run(seconds=9)
    assert [event.state for event in here.told(StateChanged)] == ["running", "paused", "running", "finishing", "ended"]
    assert isinstance(here.events[-1], Ended)
    assert here.events[-1].reason == "finished"
    seconds = sum(len(chunk.frames) for chunk in here.chunks) / FPS
    assert 3.5 <= seconds <= 5  # of the nine, five were a pause
    assert here.session.play_ratio > 0.99


def test_a_paused_session_can_be_finished(scene):
    here = scene()
    here.at(1.0, controls.Pause())
    assert here.run(seconds=3).events[-1].reason == "finished"
    assert here.clock.now() < 3.1


def test_a_control_that_cannot_be_is_refused_with_a_sentence_and_the_session_goes_on(scene):
    here = scene()
    here.at(1.0, controls.SetControls({"nose": 1}))
    here.at(1.0, controls.Prompt("a sunny day"))
    here.at(1.0, controls.Settings({"steps": 0}))
    here.at(1.0, controls.Settings({"speed": 3}))
    here.at(1.1, controls.SetControls({"yaw": 3}))
    here.run(seconds=4)
    told = {event.number: event.message for event in here.told(Refused)}
    assert set(told) == {1, 2, 3, 4}
    for number, word in enumerate(("nose", "prompt", "steps", "speed"), start=1):
        assert word in told[number]
    assert here.told(Applied)[0].number == 5
    assert here.chunks[-1].frames.max() == 3


def test_an_ended_session_refuses(scene):
    here = scene().run(seconds=1)
    number = here.session.apply(controls.SetControls({"yaw": 1}))
    assert here.events[-1] == Refused(number, "the session has ended; begin another")


def test_what_floods_is_refused(scene, monkeypatch):
    here = scene()
    monkeypatch.setattr("knot_live.wishes._MOST_WAITING", 10)
    numbers = [here.session.apply(controls.SetControls({"yaw": 1})) for _ in range(12)]
    assert [event.number for event in here.told(Refused)] == numbers[10:]


def test_the_longest_time_ends_it(scene):
    here = scene(longest=4).run(seconds=60)
    assert here.events[-1].reason == "longest"
    assert 4 <= sum(len(chunk.frames) for chunk in here.chunks) / FPS < 4.5


def test_what_the_host_raises_while_it_waits_ends_it(scene):
    here, calls = scene(), []

    def wait():
        calls.append(0)
        if len(calls) > 30:
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        here.run(seconds=60, wait=wait)
    assert here.events[-1] == Ended("stopped", "the host has stopped the session")


def test_settings_change_at_the_next_boundary(scene):
    here = scene()
    here.at(2.0, controls.Settings({"num_chunk_frames": 1}))
    here.run(seconds=4)
    applied = here.told(Applied)[0]
    assert [len(chunk.frames) for chunk in here.chunks[applied.chunk - 1 : applied.chunk + 2]] == [12, 4, 4]
    ends = [chunk.first_frame + len(chunk.frames) for chunk in here.chunks]
    assert [chunk.first_frame for chunk in here.chunks] == [0, *ends[:-1]]


def test_a_prompt_and_a_picture_are_prepared_aside(scene):
    here = scene(encode_text=lambda text: f"<{text}>", anchor_of=lambda name: f"picture of {name}")
    here.session.apply(controls.Prompt("rain"))
    here.session.apply(controls.Reference("builtin:bo", cut=True))
    here.run(seconds=2)
    assert here.stream.prompt == "<rain>"
    assert here.stream.person == ("picture of builtin:bo", True)


def test_a_sentence_is_spoken(scene):
    here = scene(speak=lambda *_: (np.zeros(16 * 640, dtype=np.float32), 16_000))
    here.session.apply(controls.Say("Good morning."))
    here.run(seconds=3)
    spoken = np.concatenate([chunk.frames[:, 0, 0, 0] for chunk in here.chunks]) >= 100
    assert spoken.sum() == 16
    assert here.driving.calls == ["commit"]
    assert [event.number for event in here.told(Applied)].count(1) == 1


def test_what_cannot_be_prepared_is_refused(scene):
    def nothing(name):
        raise ValueError(f"there is no picture {name!r}")

    here = scene(anchor_of=nothing)
    number = here.session.apply(controls.Reference("builtin:nobody"))
    here.run(seconds=1)
    assert here.told(Refused) == [Refused(number, "there is no picture 'builtin:nobody'")]


def test_barge_in_cuts_what_is_not_played(scene):
    here = scene()
    here.at(2.0, speech(200))
    here.clock.at(5.0, lambda: here.session.apply(controls.Cancel(here.viewer.next - 1)))
    here.run(seconds=8)
    (cut,) = here.told(Cut)
    assert cut.epoch == 1
    shown = np.array(here.viewer.shown)
    first_silent = np.flatnonzero((shown[:-1] >= 100) & (shown[1:] < 100))[-1] + 1
    assert first_silent <= (5.0 + 0.2 + 0.08 + 0.12) * FPS
    assert (shown[first_silent:] == 0).all()
    assert here.viewer.stalls == 0
