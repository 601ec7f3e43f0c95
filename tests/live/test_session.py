"""Sessions by a simulated clock: what is asked takes hold with the next chunk; drawing keeps in step with viewers."""

import gc
import random
import sys
from collections import deque
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest

from knot_live import controlled, controls, session_files
from knot_live import session as sessions
from knot_live.engine import StateError, StreamSettings, first_pixel_frame
from knot_live.events import Applied, Cut, Ended, Recorded, Refused, StateChanged
from knot_live.pacing import TRANSPORT

from .simulated import FPS, Scene, irregular


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
    assert [chunk.speech for chunk in here.chunks] == [int((chunk.sound > 0).sum()) for chunk in here.chunks]


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


def test_the_host_is_asked_before_every_chunk_and_what_it_changes_takes_hold(scene):
    asked = []
    scene = scene(before_chunk=lambda stream: (asked.append(stream.plan.chunk), stream.set_text(len(asked))))
    scene.run(4)
    assert asked == [chunk.chunk for chunk in scene.chunks]
    assert scene.stream.prompt == len(asked) > 3


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
    assert (here.stream.prompt, here.stream.recached) == ("<rain>", False)
    assert here.stream.person == ("picture of builtin:bo", True)


def test_a_prompt_may_ask_for_the_window_to_be_computed_again(scene):
    here = scene(encode_text=lambda text: f"<{text}>")
    here.session.apply(controls.Prompt("rain", recache=True))
    here.run(seconds=2)
    assert (here.stream.prompt, here.stream.recached) == ("<rain>", True)


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


def in_flight(here, control, after, late=0.01):
    """Ask for it while the first chunk is drawn that begins after so many seconds, `late` seconds later."""
    asked = []

    def begun(first):
        if not asked and here.clock.now() > after:
            asked.append(first)
            here.at(here.clock.now() + late, control)

    here.on_begin = begun
    return asked


def test_speech_that_begins_while_a_silent_chunk_is_drawn_is_in_that_chunk_where_time_allows(scene):
    here = scene(seconds=irregular(1, usual=0.1, rare=0.3))  # so that a usual one is begun early
    asked = in_flight(here, speech(50), after=30)
    here.run(seconds=40)
    spoken = np.concatenate([chunk.frames[:, 0, 0, 0] for chunk in here.chunks]) >= 100
    assert here.stream.given_up == 1
    assert np.flatnonzero(spoken)[0] == asked[0]
    assert spoken.sum() == 50
    shown_at = here.viewer.times[asked[0]][0]
    assert not [time for time in here.viewer.stalled_at if shown_at - 0.5 < time < shown_at + 0.3]


def test_a_chunk_is_not_given_up_where_its_replacement_would_come_late(scene):
    here = scene(seconds=0.2)
    asked = in_flight(here, speech(50), after=30, late=0.15)
    here.run(seconds=40)
    spoken = np.concatenate([chunk.frames[:, 0, 0, 0] for chunk in here.chunks]) >= 100
    assert here.stream.given_up == 0
    assert np.flatnonzero(spoken)[0] == asked[0] + 12
    assert here.viewer.stalls == 0


def test_speech_too_short_to_begin_gives_up_no_chunk_until_it_is_whole(scene):
    here = scene(seconds=irregular(1, usual=0.1, rare=0.3))
    in_flight(here, speech(4), after=30)
    assert here.run(seconds=40).stream.given_up == 0
    here = scene(seconds=irregular(1, usual=0.1, rare=0.3))
    asked = in_flight(here, speech(4), after=30)
    here.clock.every(0.001, lambda: not asked or here.session.apply(controls.CommitSpeech()) is None, first=30)
    assert here.run(seconds=40).stream.given_up == 1


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.3])
def test_barge_in_cuts_what_is_not_played_and_nobody_waits(scene, seconds):
    here = scene(seconds=seconds)
    asked = []

    def interrupt():
        asked.append(here.clock.now())
        here.session.apply(controls.Cancel(here.viewer.next - 1))

    for number in range(40):
        here.at(3.0 * number + 1.0, speech(300))
        here.clock.at(3.0 * number + 2.5 + 0.012 * number, interrupt)
    here.run(seconds=121)
    loud = [time for time, value in here.viewer.times if value >= 100]
    rest = [max([time for time in loud if time < at + 1], default=at) - at for at in asked]
    assert len(rest) == 40
    assert here.viewer.stalls == 0
    ahead = 12 / FPS + TRANSPORT  # that lies ready when a chunk has been drawn
    redrawn = 2 * seconds + TRANSPORT <= ahead
    assert max(rest) <= seconds + (seconds + TRANSPORT if redrawn else ahead) + 0.08
    epochs = [cut.epoch for cut in here.told(Cut)]
    assert epochs == [*range(1, len(epochs) + 1)]
    assert 40 <= len(epochs) <= 80, "for each that is interrupted, and for some of those that begin while all is silent"


def test_what_is_said_right_behind_a_cut_begins_with_a_chunk_that_is_shown_whole(scene):
    here = scene(seconds=0.05)
    here.at(2.0, speech(300))

    def interrupt():  # once the last chunk that was made is just about to be shown
        if here.clock.now() > 5 and here.viewer.next == here.chunks[-1].first_frame:
            here.session.apply(controls.Cancel(here.viewer.next - 1))
            return False
        return True

    here.clock.every(0.004, interrupt)
    here.run(seconds=8)
    (_, start, heard_until) = next(call for call in here.driving.calls if call[0] == "take_back")
    assert heard_until == first_pixel_frame(start), "nothing of it was heard"


def test_only_frames_that_can_still_arrive_are_given_and_join_what_was_shown(scene):
    here = scene(seconds=0.1, cuts_short=False)
    here.at(2.0, speech(300))
    here.clock.at(5.0, lambda: here.session.apply(controls.Cancel(here.viewer.next - 1)))
    here.run(seconds=8)
    *_, cut = here.told(Cut)  # the one before it is of the speech that begins
    first = next(chunk for chunk in here.chunks if chunk.epoch == cut.epoch)
    assert cut.first_frame == first.first_frame
    before = [chunk for chunk in here.chunks if chunk.epoch < cut.epoch]
    whole = next(chunk for chunk in before if chunk.chunk == first.chunk)
    assert whole.first_frame < first.first_frame  # a part of the chunk
    assert (first.first_frame + len(first.frames) - whole.first_frame) % 4 == 0  # it may be shorter
    assert len(first.sound) == 960 * len(first.frames)
    (_, start, heard_until) = next(call for call in here.driving.calls if call[0] == "take_back")
    assert first_pixel_frame(start) == whole.first_frame
    assert 5 * FPS - 12 < heard_until <= 5 * FPS
    assert here.viewer.next == len(here.viewer.shown)  # none twice, none left out


def test_speech_that_begins_is_shown_in_place_of_silent_pictures_that_lie_ready(scene):
    """As many of them stay as are shown before a short chunk is drawn; sound and frames go on without a gap."""
    here, asked = scene(seconds=0.3), [5.0 + 3.11 * number for number in range(12)]
    for time in asked:
        here.at(time, speech(40))
        here.at(time, controls.CommitSpeech())
    here.run(seconds=45)
    begins = [time for (_, before), (time, value) in pairwise(here.viewer.times) if before < 100 <= value]
    waits = [begin - time for begin, time in zip(begins, asked, strict=True)]
    assert max(waits) < 0.43
    assert here.viewer.stalls == 0
    cuts = here.told(Cut)
    assert [cut.epoch for cut in cuts] == [*range(1, len(cuts) + 1)]
    assert len(cuts) >= 8
    assert here.stream.knots_dropped >= len(asked), "what was drawn before for the next chunk's beginning was silent"
    shown = {}
    for chunk in here.chunks:
        sound = chunk.sound.reshape(-1, 960).max(axis=1) > 0
        shown |= {chunk.first_frame + place: said for place, said in enumerate(sound)}
    assert [*shown] == [*range(len(shown))]
    assert sum(shown.values()) == 40 * len(asked), "no sound is lost or said twice"


def test_no_silent_picture_is_drawn_twice_for_speech_that_goes_on_or_is_too_short_to_begin(scene):
    here = scene(seconds=0.3)
    here.at(5.0, speech(100))
    for number in range(30):
        here.at(5.5 + 0.1 * number, speech(3))  # behind what is spoken
        here.at(20.0 + number, speech(1))  # each waits for more
    here.run(seconds=50)
    cuts = here.told(Cut)
    assert all(cut.first_frame < 6 * FPS or cut.first_frame > 19 * FPS for cut in cuts)
    assert len(cuts) <= 32


def test_a_barge_in_gives_up_the_chunk_under_way_where_time_allows(scene):
    here = scene(seconds=irregular(1, usual=0.1, rare=0.3))
    here.at(25.0, speech(300))
    asked = in_flight(here, controls.Cancel(0), after=30)
    here.run(seconds=35)
    assert here.stream.given_up == 1
    chunk = next(chunk for chunk in here.chunks if chunk.first_frame >= asked[0])
    assert chunk.frames.max() < 100


def test_an_error_ends_it_with_a_sentence_and_keeps_recording_and_state(scene, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("knot_live.controlled.save_session", lambda path, _, notes: saved.append((path, notes)))
    here = scene(state_path=tmp_path / "left.safetensors", record_to=lambda: tmp_path / "left.mp4")
    here.session.apply(controls.StartRecording())

    def fail(first):
        if first > 100:
            raise RuntimeError("the device is gone")

    here.on_begin = fail
    with pytest.raises(RuntimeError, match="device"):
        here.run(seconds=60)
    assert here.events[-1] == Ended("error", "the session cannot go on: the device is gone")
    assert here.told(Recorded) == [Recorded(tmp_path / "left.mp4")]
    with av.open(str(tmp_path / "left.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == sum(len(chunk.frames) for chunk in here.chunks)
    ((path, notes),) = saved
    assert path == tmp_path / "left.safetensors"
    assert notes["number"] == 1


def test_a_state_that_cannot_be_left_does_not_hide_what_ended_it(scene, tmp_path, monkeypatch):
    def full(*_):
        raise StateError("the disc is full")

    monkeypatch.setattr("knot_live.controlled.save_session", full)
    here = scene(state_path=tmp_path / "left.safetensors")
    here.on_begin = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        here.run(seconds=60)
    assert "division" in here.events[-1].message
    assert "the disc is full" in here.events[-1].message


@pytest.mark.parametrize("hours", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_hours_of_random_controls_leave_memory_flat(scene, hours, monkeypatch):
    monkeypatch.setattr("knot_live.control_log.MOST_ENTRIES", 100)  # full soon, so that it is full when it counts
    here = scene(seconds=irregular(5, usual=0.05, rare=0.1), speak=lambda *_: (np.zeros(8_000, dtype=np.int16), 16_000))
    here.events, here.chunks, rng, held = deque(maxlen=100), deque(maxlen=100), random.Random(3), []

    def anything():
        here.session.apply(
            rng.choice([
                lambda: controls.SetControls({"yaw": rng.randrange(90)}), lambda: controls.Gesture("nod"),
                lambda: speech(rng.randrange(1, 100)), controls.CommitSpeech, controls.ClearSpeech,
                lambda: controls.Say("Yes."), lambda: controls.Prompt("rain"), controls.Pause, controls.GoOn,
                lambda: controls.Settings({"num_chunk_frames": rng.randrange(1, 4)}),
                lambda: controls.Cancel(here.viewer.next - 1), lambda: controls.SetControls({"nose": 1}),
            ])()
        )  # fmt: skip
        here.session.apply(controls.GoOn())

    def count():
        here.driving.calls.clear()
        gc.collect()
        held.append(sys.getallocatedblocks())

    here.clock.every(1.7, anything)
    here.clock.every(600 * hours, count, first=1200)
    here.run(seconds=3600 * hours)
    assert len(held) >= 4
    assert max(held) < 1.02 * held[0]
    assert len(here.session.log) == 100
    assert here.session.play_ratio > 0.98


def test_a_session_that_goes_on_hears_through_the_encoder_it_is_given(scene, monkeypatch):
    here, told = scene(), {}

    def from_state(state, _, **others):
        told.update(others, state=state)
        return here.driving

    at = SimpleNamespace(anchor=None, settings=StreamSettings())
    monkeypatch.setattr(session_files, "LiveDriving", SimpleNamespace(from_state=from_state))
    monkeypatch.setattr(sessions, "load_session", lambda *_: (at, {"driving": "kept", "number": 7, "epoch": 2}))
    monkeypatch.setattr(controlled, "open_at", lambda _, at, *others: here.stream)  # noqa: ARG005
    model = SimpleNamespace(fps=25, settings=StreamSettings())
    sessions.Session.resume("path", model, encoder="encoder", window="window", clock=here.clock, decode_beside=False)
    assert {name: told[name] for name in ("state", "encoder", "window", "beneath")} == {
        "state": "kept", "encoder": "encoder", "window": "window", "beneath": None,
    }  # fmt: skip
