"""A driving that is changed while it plays: the newest wins, nothing jumps, and what was drawn stays as it was."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from knot_core import open_image, open_stream
from knot_core.config import UNITS_DIM, AdapterConfig
from knot_core.driving import Driving
from knot_core.driving.expression_controls import CONTROLS, RANGES
from knot_core.driving.face_units import UNITS
from knot_core.driving.spoken_units import AHEAD, SpokenUnitsNet
from knot_core.errors import DrivingError, KnotError
from knot_core.model_loading import ASSETS
from knot_live import signals
from knot_live.eased_values import EasedValue
from knot_live.gestures import GESTURES
from knot_live.live_driving import HISTORY, LiveDriving

from .playing import Plan, Playing, Portrait

COLUMN = {name: 64 + number for number, name in enumerate(CONTROLS)}
SPEECH, POSE, MOUTH = 72, 73, 74
EASED = np.array([7 / 27, 20 / 27, 1])  # 3 u^2 - 2 u^3 after a third, two thirds, and all of 120 ms


def voice(seconds: float, rate: int = 24_000, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, as syllables do."""
    count = round(seconds * rate)
    noise = np.random.default_rng(seed).standard_normal(count)
    return (0.1 * noise * (1.1 + np.sin(np.arange(count) * 4 * math.pi / rate))).astype(np.float32)


def test_nobody_does_anything_and_the_portrait_idles_with_its_mouth_closed():
    playing, idle = Playing(seed=5), Driving.idle(5)
    assert playing.driving.num_pixel_frames is None
    first, second = playing.chunk(), playing.chunk()
    assert torch.equal(torch.cat([first, second]), idle.signal(0, 6))


def test_a_control_is_eased_over_three_frames_from_where_it_stands_and_held():
    playing, idle = Playing(), Driving.idle()
    before = playing.frames(2)[-1, COLUMN["yaw"]]
    playing.driving.set_controls({"yaw": 0.8})
    yaw = playing.frames(3)[:, COLUMN["yaw"]]
    assert yaw[:3] == pytest.approx(before + (0.8 - before) * EASED, abs=1e-6)
    assert (yaw[3:] == np.float32(0.8)).all()
    playing.driving.set_controls({"yaw": None})
    frames = np.arange(57, 69)
    free, expected = playing.frames(1)[:, COLUMN["yaw"]], idle.pixel_signal(frames).numpy()[:, COLUMN["yaw"]]
    assert free[:3] == pytest.approx(0.8 + (expected[:3] - 0.8) * EASED, abs=1e-6)
    assert (free[3:] == expected[3:]).all()


def test_the_newest_of_two_values_wins():
    playing = Playing(num_frames=1)
    playing.chunk()
    for value in (-1.0, 1.0, 0.25):
        playing.driving.set_controls({"roll": value})
    assert playing.frames(1)[-1, COLUMN["roll"]] == 0.25


def test_a_value_that_comes_in_the_middle_of_easing_is_eased_from_where_that_stands():
    held, frames, beneath = EasedValue(), np.arange(9, 17), np.zeros(8)
    held.change(10, 3, 1.0, lambda: 0.0)
    before = held.at(frames, beneath)
    assert before[:4] == pytest.approx([0, *EASED])
    held.change(12, 3, -1.0, lambda: before[2])
    after = held.at(frames, beneath)
    assert (after[:3] == before[:3]).all()
    assert after[3:6] == pytest.approx(before[2] + (-1 - before[2]) * EASED)
    assert (after[6:] == -1).all()
    held.cut(12)  # it was not to be
    assert (held.at(frames, beneath) == before).all()


def test_what_was_set_before_the_stream_begins_stands_in_its_first_frame():
    playing = Playing()
    playing.driving.set_controls({"yaw": 0.7})
    assert (playing.frames(1)[:, COLUMN["yaw"]] == np.float32(0.7)).all()


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_nothing_jumps_whatever_is_asked_for(num_frames):
    playing, rng = Playing(num_frames=num_frames), np.random.default_rng(num_frames)
    rows = [playing.frames(1)]
    for _ in range(80):
        name = CONTROLS[rng.integers(8)]
        low, high = RANGES[name]
        playing.driving.set_controls({name: None if rng.random() < 0.3 else float(rng.uniform(low, high))})
        playing.driving.set_liveliness(float(rng.random()))
        rows.append(playing.frames(1))
    values = np.concatenate(rows)[:, 64:72]
    widths = np.array([high - low for low, high in (RANGES[name] for name in CONTROLS)])
    # the steepest step of easing is 13/27 of the way; idle lids and eyes add their own beneath
    assert (np.abs(np.diff(values, axis=0)) <= widths * 13 / 27 + 0.1).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"yaw": math.nan}, "yaw is nan"),
        ({"yaw": 1.2}, "yaw is 1.2; it must be a number from -1 to 1"),
        ({"blink": -0.5}, "from 0 to 1"),
        ({"yaw": "left"}, "yaw is left"),
        ({"yaw": True}, "yaw is True"),
        ({"yaw": [0.1]}, "yaw is"),
        ({"nose": 0.1}, "there is no control 'nose'; these exist: yaw"),
        ([0.1], "must be an object"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_and_changes_nothing(wrong, says):
    playing, other = Playing(), Playing()
    with pytest.raises(DrivingError, match=says.replace("[", r"\[")):
        playing.driving.set_controls({"pitch": 0.5} | wrong if isinstance(wrong, dict) else wrong)
    with pytest.raises(DrivingError):
        playing.driving.set_pose({"pitch": 0.5} | wrong | {"roll": math.inf} if isinstance(wrong, dict) else wrong)
    assert torch.equal(playing.chunk(), other.chunk())


def test_rounding_is_clipped():
    playing = Playing()
    playing.driving.set_controls({"yaw": 1.0005, "mouth_open": -1e-6})
    assert playing.frames(2)[-1, COLUMN["yaw"]] == 1


def test_gestures_looks_and_liveliness_are_checked():
    driving = Playing().driving
    for call, says in [
        (lambda: driving.gesture("dance"), "there is no gesture 'dance'; choose one of nod"),
        (lambda: driving.gesture("nod", 3.0), "strength is 3.0; it must be a number from 0 to 2"),
        (lambda: driving.gesture("nod", math.nan), "strength is nan"),
        (lambda: driving.look(0.0, 1.5), "y of the look is 1.5"),
        (lambda: driving.set_liveliness(-1), "liveliness is -1"),
    ]:
        with pytest.raises(DrivingError, match=says):
            call()


def test_a_gesture_lies_over_what_is_held_and_leaves_it_as_it_was():
    playing = Playing()
    playing.driving.set_controls({"pitch": -0.2})
    playing.chunk()
    playing.driving.gesture("nod")
    pitch = playing.frames(4)[:, COLUMN["pitch"]]
    added = GESTURES["nod"].at((np.arange(48) + 1) / 25)["pitch"]
    assert pitch == pytest.approx(np.clip(-0.2 + added, -1, 1), abs=1e-6)
    assert pitch.max() > 0.35
    assert (pitch[38:] == np.float32(-0.2)).all()


def test_a_camera_moves_what_nobody_holds_until_it_falls_silent():
    playing, idle = Playing(), Driving.idle()
    playing.driving.set_controls({"yaw": -0.4})
    playing.driving.set_pose({"yaw": 0.9, "roll": 7.0})
    values = playing.frames(1)
    assert values[-1, COLUMN["yaw"]] == np.float32(-0.4)
    assert values[-1, COLUMN["roll"]] == 1  # clipped
    playing.seconds += 0.6
    values = playing.frames(1)
    assert values[-1, COLUMN["roll"]] == idle.pixel_signal(np.arange(9, 21)).numpy()[-1, COLUMN["roll"]]


def test_a_camera_s_motion_is_shown_a_chunk_later_in_all_its_detail():
    """25 pictures a second, so that each is a frame: a turn, and a blink between two chunks."""
    playing, turn = Playing(), np.sin(np.arange(60) / 9)
    blink = np.zeros(60)
    blink[28:32] = [0.5, 1, 1, 0.5]
    playing.chunk()
    begun, shown = playing.seconds, []
    for number in range(60):
        playing.seconds = begun + number / 25
        playing.driving.set_pose({"yaw": turn[number], "blink": blink[number]})
        if number % 12 == 11:
            playing.begin()
            shown.append(playing.driving.signal(playing.start, 3).numpy().reshape(12, -1))
            playing.end()
    rows = np.concatenate(shown)
    assert rows[3:, COLUMN["yaw"]] == pytest.approx(turn[3:], abs=1e-5)
    assert rows[3:, COLUMN["blink"]] == pytest.approx(blink[3:], abs=1e-5)


def test_liveliness_scales_idle_motion_but_lids_close_wholly():
    still, half, full = Playing(), Playing(), Playing()
    still.driving.set_liveliness(0)
    half.driving.set_liveliness(0.5)
    none, some, all_of_it = (playing.frames(20)[3:] for playing in (still, half, full))
    assert (none[:, 64:72] == 0).all()
    assert some[:, COLUMN["yaw"]] == pytest.approx(all_of_it[:, COLUMN["yaw"]] / 2, abs=1e-6)
    assert (some[:, COLUMN["blink"]] == all_of_it[:, COLUMN["blink"]]).all()
    assert some[:, COLUMN["blink"]].max() == 1


def test_a_driving_beneath_takes_the_place_of_idle_motion():
    beneath = Driving.from_controls({"keyframes": [{"time": 0, "yaw": 0.0}, {"time": 4, "yaw": 1.0}]})
    playing = Playing(beneath=beneath)
    playing.driving.set_controls({"pitch": 0.5})
    values = playing.frames(4)
    assert values[:, COLUMN["yaw"]] == pytest.approx(np.arange(len(values)) / 100, abs=1e-6)
    playing.driving.set_controls({"yaw": -1.0})
    playing.chunk()
    playing.driving.set_controls({"yaw": None})
    first = 4 * playing.start - 3
    assert playing.frames(1)[3:, COLUMN["yaw"]] == pytest.approx((first + np.arange(3, 12)) / 100, abs=1e-6)


def test_another_driving_takes_the_place_of_what_lies_beneath_without_a_jump():
    held, playing = Driving.from_controls({"keyframes": [{"time": 0, "yaw": 0.6}]}), Playing(seed=3)
    before = playing.frames(2)[-1, COLUMN["yaw"]]
    playing.driving.set_beneath(held)
    yaw = playing.frames(3)[:, COLUMN["yaw"]]
    idle = Driving.idle(3).pixel_signal(np.arange(21, 57)).numpy()[:, COLUMN["yaw"]]
    assert yaw[:3] == pytest.approx(idle[:3] + (0.6 - idle[:3]) * EASED, abs=1e-6)
    assert abs(yaw[0] - before) < 0.3
    assert (yaw[3:] == np.float32(0.6)).all()
    playing.driving.set_beneath(None)
    free = playing.frames(1)[:, COLUMN["yaw"]]
    expected = Driving.idle(3).pixel_signal(np.arange(57, 69)).numpy()[:, COLUMN["yaw"]]
    assert free[3:] == pytest.approx(expected[3:], abs=1e-6)


def test_what_was_put_beneath_a_chunk_that_is_taken_back_lies_beneath_it_again():
    playing = Playing()
    playing.frames(2)
    playing.driving.set_beneath(Driving.from_controls({"keyframes": [{"time": 0, "roll": -0.4}]}))
    first = playing.chunk()
    playing.driving.take_back(6)
    playing.start = 6
    assert torch.equal(playing.chunk(), first)


def test_a_driving_that_speaks_cannot_lie_beneath():
    sound = type("Sound", (), {"samples": torch.zeros(1, 16_000), "sample_rate": 16_000})
    with pytest.raises(DrivingError, match="the driving beneath speaks"):
        Playing(beneath=Driving.from_audio(sound))
    with pytest.raises(DrivingError, match="the driving beneath speaks"):
        Playing().driving.set_beneath(Driving.from_audio(sound))


def change_at_random(playing, rng):
    driving = playing.driving
    driving.set_controls({CONTROLS[rng.integers(8)]: None if rng.random() < 0.5 else float(rng.random())})
    match rng.integers(5):
        case 0:
            driving.gesture(list(GESTURES)[rng.integers(len(GESTURES))])
        case 1:
            driving.append_speech(voice(0.3, seed=int(rng.integers(9))), 24_000)
        case 2:
            driving.commit_speech()
        case 3:
            driving.set_pose({"yaw": float(rng.uniform(-1, 1))})


def test_frames_that_were_drawn_have_the_same_signal_whenever_it_is_asked_for():
    playing, rng, drawn = Playing(), np.random.default_rng(1), {}
    for _ in range(60):
        change_at_random(playing, rng)
        start, signal = playing.start, playing.chunk()
        drawn |= {start + number: row for number, row in enumerate(signal)}
    kept = range(playing.start - HISTORY, playing.start)
    assert torch.equal(playing.driving.signal(kept.start, HISTORY), torch.stack([drawn[latent] for latent in kept]))
    for first, count in [(kept.start - 1, 1), (playing.start + 1, 1), (0, 1)]:
        with pytest.raises(DrivingError, match="is not there: begin_chunk freezes"):
            playing.driving.signal(first, count)


def test_told_the_same_it_gives_the_same_bit_for_bit():
    def played():
        playing, rng = Playing(seed=4), np.random.default_rng(2)
        rows = []
        for _ in range(40):
            change_at_random(playing, rng)
            rows.append(playing.chunk(int(rng.integers(1, 4))))
        return torch.cat(rows), np.concatenate(playing.sound)

    (signal, sound), (again, sound_again) = played(), played()
    assert torch.equal(signal, again)
    assert np.array_equal(sound, sound_again)
    assert np.abs(sound).max() > 0.1


def test_a_chunk_that_was_given_up_leaves_no_trace():
    """As if it had begun under the new driving at once."""
    given_up, at_once, rng = Playing(), Playing(), np.random.default_rng(3)
    for number in range(40):
        seed = int(rng.integers(10**6))
        if number % 3 == 0:
            given_up.driving.set_controls({"brow": 0.7})
            given_up.begin()
            for playing in (given_up, at_once):
                playing.driving.set_controls({"brow": None})
            assert given_up.driving.speech_waiting == at_once.driving.speech_waiting
        for playing in (given_up, at_once):
            change_at_random(playing, np.random.default_rng(seed))
        if number % 3 == 1:
            given_up.begin()
        assert torch.equal(given_up.chunk(), at_once.chunk())
    assert np.array_equal(np.concatenate(given_up.sound), np.concatenate(at_once.sound))


def test_taken_back_controls_stay_and_take_hold_from_there_on():
    playing = Playing()
    early = playing.frames(2)
    playing.driving.set_controls({"yaw": 0.9})
    playing.driving.gesture("brows")
    playing.frames(2)
    playing.driving.take_back(3)
    playing.start = 3
    values = playing.frames(2)
    before = early[8, COLUMN["yaw"]]
    assert values[:3, COLUMN["yaw"]] == pytest.approx(before + (0.9 - before) * EASED, abs=1e-6)
    assert values[5, COLUMN["brow"]] > 0.5
    with pytest.raises(DrivingError, match="cannot be taken back"):
        playing.driving.take_back(100)


def test_a_chunk_that_leaves_a_gap_is_refused():
    playing = Playing()
    playing.chunk()
    with pytest.raises(DrivingError, match="begins at latent frame 5, and the last one ended at 3"):
        playing.driving.begin_chunk(Plan(5, 3, 1))


def test_a_stream_that_computes_its_window_anew_is_that_of_plain_idle_motion(model):
    """It asks for signals of frames that were drawn."""
    anchor = model.encode_anchor(open_image(ASSETS / "portraits" / "ada.png"))
    settings = replace(model.settings, commit="recompute", steps=1)
    live = LiveDriving(model, seed=3)
    streams = [open_stream(model, anchor, settings, driving) for driving in (live, Driving.idle(3))]
    for number in range(3):
        count = settings.num_chunk_frames
        live.begin_chunk(Plan(number * count, count, settings.num_knot_frames))
        got, expected = (next(stream) for stream in streams)
        live.end_chunk()
        assert torch.equal(got.pixel_frames, expected.pixel_frames)


def test_a_saved_driving_goes_on():
    playing, rng = Playing(seed=9), np.random.default_rng(5)
    for _ in range(12):
        change_at_random(playing, rng)
        playing.chunk()
    playing.driving.gesture("shake")
    playing.driving.append_speech(voice(2.0), 24_000)
    playing.driving.commit_speech()
    restored = Playing(state=json.loads(json.dumps(playing.driving.to_state())))
    restored.start, restored.seconds = playing.start, playing.seconds
    for _ in range(6):
        assert torch.equal(restored.chunk(), playing.chunk())
        assert np.array_equal(restored.sound[-1], playing.sound[-1])
    assert torch.equal(restored.driving.signal(playing.start - 40, 40), playing.driving.signal(playing.start - 40, 40))


def test_a_model_without_an_adapter_takes_nothing_but_prompts():
    playing = Playing(Portrait(adapter=None))
    assert not playing.chunk().any()
    assert not playing.sound[0].any()
    for call in (
        lambda: playing.driving.set_controls({"yaw": 0.1}),
        lambda: playing.driving.gesture("nod"),
        lambda: playing.driving.append_speech(voice(1.0), 24_000),
    ):
        with pytest.raises(DrivingError, match="nothing but its prompt does"):
            call()


def test_it_belongs_to_its_model():
    driving = Playing().driving
    assert driving.for_adapter(AdapterConfig()) is driving
    with pytest.raises(DrivingError, match="made for another model"):
        driving.for_adapter(None)


@pytest.mark.parametrize("hours", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_memory_is_flat_over_hours_of_changes(hours):
    """In chunks of two minutes, so that hours take seconds, each followed by one of a usual length."""
    playing, rng, sizes = Playing(seed=1), np.random.default_rng(8), []
    while playing.start < hours * 3600 * 25 / 4:
        for num_frames in (750, int(rng.integers(1, 4))):
            change_at_random(playing, rng)
            playing.chunk(num_frames)
            playing.sound.clear()
        playing.driving.clear_speech()
        sizes.append(len(json.dumps(playing.driving.to_state())))
    assert len(sizes) > 28 * hours
    assert max(sizes[15:]) < 1.02 * max(sizes[:15])


def test_errors_are_the_users():
    with pytest.raises(KnotError, match="not divide 24000"):
        Playing(Portrait(fps=7))


def speaking_with(**controls):
    """Rows of a chunk in which somebody speaks and those controls are set."""
    playing = Playing()
    playing.chunk()
    playing.driving.set_controls(controls)
    playing.driving.append_speech(voice(2.0), 24_000)
    playing.chunk()
    return playing.frames(1)


def test_speech_moves_the_mouth_and_when_nobody_speaks_it_is_closed():
    rows = speaking_with()
    assert (rows[:, [SPEECH, POSE, MOUTH]] == [1, 1, 0]).all()
    assert (rows[:, [COLUMN["mouth_open"], COLUMN["mouth_wide"]]] == 0).all()
    silent = Playing().frames(1)
    assert (silent[:, [SPEECH, POSE, MOUTH]] == [0, 1, 1]).all()
    assert (silent[:, COLUMN["mouth_open"]] == 0).all()


def test_a_mouth_control_counts_beside_the_speech():
    rows = speaking_with(mouth_open=0.4)
    assert (rows[:, [SPEECH, MOUTH]] == 1).all()
    assert (rows[:, COLUMN["mouth_open"]] == np.float32(0.4)).all()


def test_with_the_width_alone_set_the_mouth_opens_as_loud_as_the_speech():
    rows = speaking_with(mouth_wide=0.9)
    assert (rows[:, [SPEECH, MOUTH]] == 1).all()
    assert (rows[:, COLUMN["mouth_wide"]] == np.float32(0.9)).all()
    opening = rows[:, COLUMN["mouth_open"]]
    loudness = rows[:, :64].mean(axis=1)
    assert 0.1 < opening.min() < opening.max() <= 0.7
    assert np.corrcoef(opening, loudness)[0, 1] > 0.9


def test_the_mouth_is_the_speech_s_a_little_longer_and_through_short_pauses():
    playing = Playing()
    playing.chunk()
    pause = np.zeros(4800, dtype=np.float32)  # 200 ms
    playing.driving.append_speech(np.concatenate([voice(0.4), pause, voice(0.4)]), 24_000)
    playing.driving.commit_speech()
    spoken = playing.frames(4)[:, SPEECH]
    assert (spoken[: 25 + 8] == 1).all()
    assert (spoken[25 + 8 :] == 0).all()


@pytest.fixture
def face(monkeypatch):
    """A model of face units, and a network that reads mouths in speech."""
    torch.manual_seed(0)
    network = SpokenUnitsNet(hidden=16).requires_grad_(False)
    network.output.bias += 0.5
    monkeypatch.setattr(signals, "load_spoken_units", lambda: network)
    return Portrait(adapter=AdapterConfig(signal_dim=UNITS_DIM)), network


def test_who_speaks_moves_a_model_of_units_by_units_of_the_mouth(face):
    model, network = face
    playing = Playing(model)
    playing.driving.append_speech(voice(3.0), 24_000)
    playing.driving.commit_speech()
    signal = torch.cat([playing.chunk() for _ in range(5)])
    spoken = signal[..., UNITS_DIM - 3].bool()
    assert spoken[1:].all()
    assert (signal[..., UNITS_DIM - 1] == 1).all(), "the mouth is the speech's, else the controls'"
    units = signal[..., 64 : 64 + len(UNITS)]
    mel = playing.driving._signals._mel
    known = signals.spoken_units(network, mel, 1, 41).reshape(10, 4, -1)
    moved = torch.from_numpy(known[..., UNITS.index("jawOpen")])
    assert moved.std() > 1e-3
    torch.testing.assert_close(units[1:11, :, UNITS.index("jawOpen")], moved, atol=1e-5, rtol=0)
    assert AHEAD == 4, "a knot of one latent frame is all that a chunk's own frames hear ahead"


def test_a_mouth_that_somebody_holds_stays_held_while_they_speak(face):
    model, _ = face
    playing = Playing(model)
    playing.driving.set_controls({"mouth_open": 1.0})
    playing.driving.append_speech(voice(2.0), 24_000)
    playing.driving.commit_speech()
    playing.chunk()
    jaw = playing.chunk()[..., 64 + UNITS.index("jawOpen")]
    assert (jaw == jaw[0, 0]).all()
    assert jaw[0, 0] == pytest.approx(0.7, abs=1e-6)
