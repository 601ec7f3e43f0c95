"""Driving as an artist directs it: timelines, combinations, speech options. Every one is a function of the frame."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knot_core.driving import Driving, LiveAudio
from knot_core.driving.audio import FPS, SILENCE
from knot_core.driving.combine import combine, layer
from knot_core.driving.driving_plot import draw_driving
from knot_core.driving.expression import EASES, read_expression
from knot_core.driving.expression_controls import CONTROLS, RANGES
from knot_core.driving.lengths import format_clock, parse_clock, without_end
from knot_core.driving.smoothing import smooth_poses
from knot_core.driving.speech import PACKED, SpeechDriving
from knot_core.driving.speech_options import SpeechOptions, speak, speaking_frames
from knot_core.driving.tracks import Still
from knot_core.errors import DrivingError, KnotError
from knot_core.media import Audio

COLUMN = {name: 64 + number for number, name in enumerate(CONTROLS)}
FLAGS = slice(72, 75)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def value(driving: Driving, name: str, frames) -> np.ndarray:
    return driving.pixel_signal(np.asarray(frames))[:, COLUMN[name]].numpy()


def spoken(*parts: tuple[float, float], rate: int = 16_000) -> Audio:
    """Noise of those (seconds, loudness)."""
    rng = np.random.default_rng(0)
    pieces = [loudness * rng.standard_normal(round(seconds * rate)) for seconds, loudness in parts]
    return Audio(samples=torch.from_numpy(np.concatenate(pieces)).float()[None], sample_rate=rate)


# the expression timeline


def test_a_timeline_passes_its_keys_and_rests_outside_them():
    driving = read_expression('{"yaw": [[1, 0.2, "linear"], [2, 0.6], [4, -0.4, "hold"], [5, 0]]}')
    assert value(driving, "yaw", [0, 25, 50, 100, 124, 125, 10**7]) == pytest.approx([0.2, 0.2, 0.6, -0.4, -0.4, 0, 0])
    assert value(driving, "yaw", [37]) == pytest.approx([0.2 + 0.4 * 12 / 25], abs=1e-6), "a straight line"
    assert driving.num_pixel_frames == 126
    assert not value(driving, "pitch", range(126)).any()
    assert driving.pixel_signal(np.array([0]))[0, FLAGS].tolist() == [0, 1, 0]


@pytest.mark.parametrize("ease", EASES)
def test_an_ease_goes_from_one_key_to_the_next_and_never_beyond(ease):
    u = np.linspace(0, 1, 101)
    shaped = EASES[ease](u)
    assert shaped[0] == 0
    assert shaped.min() >= 0
    assert shaped.max() <= 1
    assert (np.diff(shaped) >= 0).all()
    assert ease == "hold" or shaped[-1] == pytest.approx(1)


def test_eases_are_slow_where_they_say():
    start, end = (lambda f: f(np.array([0.1]))[0]), (lambda f: 1 - f(np.array([0.9]))[0])
    assert start(EASES["in"]) < 0.1 < start(EASES["out"])
    assert end(EASES["out"]) < 0.1 < end(EASES["in"])
    assert start(EASES["in-out"]) < 0.1
    assert end(EASES["in-out"]) < 0.1


def test_a_loop_repeats_exactly_however_far_it_has_come():
    driving = read_expression({"loop": True, "seconds": 2, "brow": [[0, 0], [1, 1], [2, 0]]})
    assert driving.num_pixel_frames is None
    far = 50 * 240_000
    assert np.array_equal(value(driving, "brow", range(50)), value(driving, "brow", range(far, far + 50)))


def test_latent_frame_3_000_000_costs_what_frame_0_does(monkeypatch):
    driving = combine(
        Driving.idle(1), read_expression({"loop": True, "yaw": [[0, 0], [3, 1]], "brow": [[0, 1], [2, 0]]}), head=0.5
    )
    whole = driving.signal(3_000_000, 8)
    assert torch.equal(whole, torch.cat([driving.signal(3_000_000 + first, 2) for first in range(0, 8, 2)]))
    asked = []
    original = type(driving.pose).at
    monkeypatch.setattr(
        type(driving.pose), "at", lambda track, frames: (asked.append(len(frames)), original(track, frames))[1]
    )
    driving.signal(3_000_000, 4)
    assert asked == [16], "four frames of each latent frame, no matter how far"


@pytest.mark.parametrize(
    ("timeline", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "is a list; it must be an object"),
        ("{}", "moves nothing"),
        ('{"loop": true}', "moves nothing"),
        ('{"yaw": []}', "yaw is .*list of keys"),
        ('{"yaw": 3}', "list of keys"),
        ('{"yaw": [[0]]}', r"key 0 of yaw is \[0\]"),
        ('{"yaw": ["ab"]}', "key 0 of yaw"),
        ('{"yaw": [[0, 2]]}', "value of key 0 of yaw is 2; it must be a number from -1 to 1"),
        ('{"yaw": [[0, NaN]]}', "is nan"),
        ('{"yaw": [[-1, 0]]}', "time of key 0 of yaw is -1"),
        ('{"yaw": [[Infinity, 0]]}', "is inf"),
        ('{"yaw": [[1' + "0" * 400 + ", 0]]}", "is a huge number"),
        ('{"yaw": [[true, 0]]}', "is True"),
        ('{"yaw": [[1, 0], [1, 1]]}', "key at 1 s after one at 1 s"),
        ('{"yaw": [[0, 0, "bounce"]]}', "ease of key 0 of yaw is 'bounce'; choose one of in-out"),
        ('{"yaw": [[0, 0, ["in"]]]}', "choose one of"),
        ('{"yaww": [[0, 0]]}', "names yaww; these exist: yaw"),
        ('{"yaw": [[0, 0]], "yaw": [[1, 0]]}', "has yaw twice"),
        ('{"yaw": [[0, 0]], "loop": 1}', "loop is 1"),
        ('{"yaw": [[0, 0]], "loop": true}', "shorter than a frame"),
        ('{"yaw": [[0, 0]], "seconds": "8"}', "seconds is '8'"),
    ],
)
def test_a_bad_timeline_gets_one_sentence(timeline, says):
    with pytest.raises(DrivingError, match=says):
        read_expression(timeline)


def test_a_timeline_comes_from_a_file_too(tmp_path):
    text = '{"yaw": [[0, 0], [2, 1]]}'
    (tmp_path / "a.json").write_text(text)
    assert read_expression(tmp_path / "a.json") == read_expression(text) == read_expression(json.loads(text))
    with pytest.raises(DrivingError, match="cannot be read"):
        read_expression(tmp_path / "none.json")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*CONTROLS, *EASES]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*CONTROLS, "seconds", "loop", "fps", "keyframes", "time"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@QUICK
@given(json_values | st.text(max_size=40))
def test_anything_is_a_timeline_or_a_clear_error(found):
    try:
        driving = read_expression(found if isinstance(found, str) else json.dumps(found))
    except KnotError:
        return
    assert driving.signal(0, 2).isfinite().all()


@QUICK
@given(json_values)
def test_anything_is_controls_or_a_clear_error(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("controls") / "c.json"
    path.write_text(json.dumps(found))
    try:
        driving = Driving.from_controls(path)
    except KnotError:
        return
    assert driving.signal(0, 2).isfinite().all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"yaw": [1' + "0" * 400 + "]}", "yaw must be numbers"),
        ('{"fps": 1' + "0" * 400 + ', "yaw": [0]}', "fps is a huge number"),
        ('{"fps": 1e-12, "yaw": [0, 0]}', "controls last"),
        ('{"keyframes": [{"time": 0, "yaw": 0}], "seconds": 1e14}', "controls last"),
        ('{"keyframes": [{"time": 1e14, "yaw": 0}]}', "controls last"),
        ('{"keyframes": [{"time": [0], "yaw": 0}]}', "keyframe times"),
        ('{"keyframes": [{"time": 0, "yaw": [0, 1]}]}', "yaw has a list"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_controls_that_once_ended_in_a_crash(tmp_path, text, says):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DrivingError, match=says):
        Driving.from_controls(tmp_path / "c.json")


keys = st.lists(
    st.tuples(st.floats(0, 60), st.floats(-1, 1), st.sampled_from(list(EASES))), min_size=1, max_size=6,
    unique_by=lambda key: key[0],
).map(sorted)  # fmt: skip


@QUICK
@given(st.dictionaries(st.sampled_from(["yaw", "gaze", "brow", "mouth_wide"]), keys, min_size=1), st.booleans())
def test_a_valid_timeline_stays_between_its_keys(curves, loop):
    driving = read_expression(json.dumps({"loop": loop, "seconds": 61, **curves}))
    assert curves
    for name, track in curves.items():
        values = value(driving, name, range(0, 3000, 7))
        assert values.min() >= min(key[1] for key in track) - 1e-6
        assert values.max() <= max(key[1] for key in track) + 1e-6


# two drivings as one

TIMELINE = '{"yaw": [[0, 0.5], [4, 0.5]], "mouth_open": [[0, 1]]}'


def test_weights_of_nothing_and_of_all():
    first, second = Driving.from_controls({"yaw": [0.1] * 50, "brow": [0.3] * 50}), read_expression(TIMELINE)
    frames = np.arange(50)
    nothing = combine(first, second)
    assert torch.equal(nothing.pixel_signal(frames), first.pixel_signal(frames))
    everything = combine(first, second, head=1, eyes=1, brow=1, mouth=1)
    assert value(everything, "yaw", frames) == pytest.approx(0.5)
    assert value(everything, "brow", frames) == pytest.approx(0.3), "the timeline does not name it"
    assert value(everything, "mouth_open", frames) == pytest.approx(1)


@pytest.mark.parametrize("weight", [0.25, 0.5])
def test_a_blend_lies_between_and_a_layer_on_top(weight):
    first, second = Driving.from_controls({"yaw": [0.9] * 50}), read_expression(TIMELINE)
    assert value(combine(first, second, head=weight), "yaw", [7]) == pytest.approx(0.9 - 0.4 * weight)
    assert value(layer(first, second, head=weight), "yaw", [7]) == pytest.approx(min(1, 0.9 + 0.5 * weight))


def test_flags_follow_what_is_given():
    speech, timeline = Driving.from_audio(spoken((1, 0.1)), pose=None), read_expression(TIMELINE)
    cases = {(): (1, 0, 0), ("head",): (1, 1, 0), ("eyes",): (1, 0, 0), ("mouth",): (1, 0, 1)}
    for parts, flags in cases.items():
        signal = combine(speech, timeline, **dict.fromkeys(parts, 1.0)).signal(0, 2)
        assert signal[..., FLAGS].reshape(-1, 3).unique(dim=0).tolist() == [list(flags)]
        assert torch.equal(signal[..., :64], speech.signal(0, 2)[..., :64])


def test_a_combination_is_as_long_as_the_first_or_else_the_second():
    short, long = Driving.from_controls({"yaw": [0.1] * 10}), read_expression(TIMELINE)
    assert combine(short, long, head=1).num_pixel_frames == 10
    assert combine(long, short, head=1).num_pixel_frames == 101
    assert combine(Driving.idle(), short, head=1).num_pixel_frames == 10
    assert combine(Driving.idle(1), Driving.idle(2), head=1).num_pixel_frames is None


@pytest.mark.parametrize("beside", ["pose", "combined", "layered"])
def test_speech_that_still_arrives_has_no_end_and_decides_it_when_it_has(beside):
    live, short = LiveAudio(), read_expression({"yaw": [[0, 0.2], [0.8, 0.4]], "mouth_open": [[0, 1], [0.8, 0]]})
    if beside == "pose":
        driving = Driving.from_audio(live, pose=short)
    else:
        driving = {"combined": combine, "layered": layer}[beside](Driving.from_audio(live), short, head=1, mouth=1)
    live.push(torch.zeros(16_000))
    assert driving.num_pixel_frames is None
    assert driving.num_ready_latents == 6
    live.push(torch.zeros(16_000))
    live.close()
    assert driving.num_pixel_frames == 50
    below = value(Driving.idle(), "yaw", [49]) if beside == "layered" else 0
    assert value(driving, "yaw", [49]) == pytest.approx(0.4 + below)


def test_controls_that_the_second_does_not_give_stay_the_firsts_however_it_is_wrapped():
    first, second = (read_expression({name: [[0, 0.5]]}) for name in ("pitch", "yaw"))
    for wrapped in (second, without_end(second), smooth_poses(second, 0.1), combine(second, second, head=1)):
        made = combine(first, wrapped, head=1)
        assert (value(made, "yaw", [3]), value(made, "pitch", [3])) == (pytest.approx(0.5), pytest.approx(0.5))


def test_combinations_tell_their_parts_apart():
    one, other = Driving.idle(1), read_expression(TIMELINE)
    made = [
        combine(one, other, head=1), combine(one, other, head=0.5), layer(one, other, head=1),
        combine(one, other, mouth=1), combine(other, one, head=1),
    ]  # fmt: skip
    assert len({driving.digest for driving in made}) == len(made)
    assert combine(one, other, head=1) == combine(Driving.idle(1), read_expression(TIMELINE), head=1)


def test_values_stay_in_range_in_any_combination():
    drivings = [Driving.idle(3), read_expression(TIMELINE), Driving.from_controls({"gaze": [-1], "blink": [1]})]
    for first, second in itertools.product(drivings, drivings):
        made = layer(combine(first, second, head=0.5, eyes=1), second, head=1, eyes=1, brow=1, mouth=1)
        signal = made.pixel_signal(np.arange(0, 4000, 3))
        for name, (low, high) in RANGES.items():
            assert signal[:, COLUMN[name]].min() >= low
            assert signal[:, COLUMN[name]].max() <= high


@pytest.mark.parametrize(("weights", "says"), [({"head": 1.5}, "weight of head is 1.5"), ({"ears": 1}, "ears has")])
def test_bad_weights_get_one_sentence(weights, says):
    with pytest.raises(DrivingError, match=says):
        combine(Driving.idle(), Driving.idle(), **weights)


# speech


def test_the_default_options_change_nothing():
    audio = spoken((0.5, 0.1), (1, 0.0), (0.5, 0.1))
    assert speak(audio, options=SpeechOptions(), seed=3) == Driving.from_audio(audio, seed=3)


def test_gain_is_loudness():
    quiet, loud = spoken((1, 0.01)), spoken((1, 0.1))
    made = speak(quiet, options=SpeechOptions(gain=20))
    torch.testing.assert_close(made.signal(0, 5), Driving.from_audio(loud).signal(0, 5), atol=1e-4, rtol=0)


def test_smoothing_calms_the_mouth_and_nothing_comes_late():
    audio = spoken((1, 0.0), (0.04, 0.5), (1, 0.0))
    plain, calm = (
        speak(audio, options=SpeechOptions(smoothing=s)).pixel_signal(np.arange(51))[:, :64] for s in (0, 0.4)
    )
    energy = [(signal - SILENCE).sum(1).clamp(min=0) for signal in (plain, calm)]
    centres = [float((e * torch.arange(51)).sum() / e.sum()) for e in energy]
    assert centres[1] == pytest.approx(centres[0], abs=0.1)
    assert energy[1].max() < 0.5 * energy[0].max()
    assert energy[1].sum() == pytest.approx(float(energy[0].sum()), rel=0.02)


def test_smoothing_leaves_what_does_not_move():
    still = Driving.from_controls({"yaw": [0.3] * 40})
    torch.testing.assert_close(smooth_poses(still, 1).signal(0, 9), still.signal(0, 9))


def test_pauses_are_found_with_a_little_room_around_speech():
    mask = speaking_frames(spoken((1, 0.1), (2, 0.001), (1, 0.1), (0.2, 0.001), (0.5, 0.1)), -40)
    assert mask[:28].all()
    assert not mask[29:71].any()
    assert mask[72:].all(), "0.2 s is no pause"


def test_noise_in_pauses_does_not_reach_the_mouth():
    audio = spoken((1, 0.1), (2, 0.003), (1, 0.1))
    plain, rested = (
        speak(audio, options=SpeechOptions(silence=s)).pixel_signal(np.arange(100)) for s in ("same", "rest")
    )
    assert (plain[40:60, :64] > SILENCE + 0.1).any()
    torch.testing.assert_close(rested[40:60, :64], torch.full((20, 64), SILENCE))
    torch.testing.assert_close(rested[:24, :64], plain[:24, :64])


@pytest.mark.parametrize("silence", ["same", "rest", "listen"])
def test_a_sound_of_no_samples_is_refused(silence):
    nothing = Audio(samples=torch.zeros(1, 0), sample_rate=16_000)
    with pytest.raises(DrivingError, match="no samples"):
        speak(nothing, options=SpeechOptions(silence=silence))


@pytest.mark.parametrize(("silence", "control", "less_in"), [("rest", "yaw", "pause"), ("listen", "gaze", "speech")])
def test_what_idle_motion_does_in_pauses(silence, control, less_in):
    audio = spoken((20, 0.1), (20, 0.0))
    plain, made = (speak(audio, options=SpeechOptions(silence=s), seed=5) for s in ("same", silence))
    pause, speech = np.arange(520, 990), np.arange(10, 480)
    less, same = (pause, speech) if less_in == "pause" else (speech, pause)
    assert np.abs(value(made, control, less)).mean() < 0.3 * np.abs(value(plain, control, less)).mean()
    assert value(made, control, same) == pytest.approx(value(plain, control, same), abs=1e-5)
    assert np.array_equal(value(made, "blink", np.arange(1000)), value(plain, "blink", np.arange(1000)))


def test_far_beyond_the_speech_it_is_a_pause():
    made = speak(spoken((1, 0.1)), options=SpeechOptions(silence="rest"))
    assert np.abs(value(made, "gaze", np.arange(3_000_000, 3_001_000))).max() == 0
    assert made.num_pixel_frames == FPS


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gain": 90}, "gain is 90; it must be a number from -40 to 40 dB"),
        ({"gain": float("nan")}, "gain is nan"),
        ({"smoothing": -1}, "smoothing is -1"),
        ({"silence": "sing"}, "silence is 'sing'; choose one of same, listen, rest"),
        ({"silence_level": 3}, "silence_level is 3"),
    ],
)
def test_bad_options_get_one_sentence(options, says):
    with pytest.raises(DrivingError, match=says):
        SpeechOptions(**options)


def test_models_that_hear_through_wav2vec2_are_left_alone():
    heard = SpeechDriving(speech=Still((0.0,)), form=PACKED)
    for act in (
        lambda: combine(heard, Driving.idle(), head=1),
        lambda: combine(Driving.idle(), heard, head=1),
        lambda: without_end(heard),
        lambda: draw_driving(heard),
    ):
        with pytest.raises(DrivingError, match="wav2vec2"):
            act()


# lengths and times


def test_without_end_goes_on_as_it_was():
    speech = Driving.from_audio(spoken((1, 0.1)))
    endless = without_end(speech.lasting(10))
    assert endless.num_pixel_frames is None
    assert torch.equal(endless.signal(0, 400), speech.signal(0, 400))
    assert endless != speech


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12", 12), ("0:12", 12), ("1:02.5", 62.5), ("1:02:03", 3723), ("90:00", 5400), ("12.25", 12.25)],
)
def test_clock_times_are_read(text, seconds):
    assert parse_clock(text) == seconds
    assert parse_clock(format_clock(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "a", "1:60", "1:2:3:4", "-1", "1:", ":5", "9" * 40, "1e3", "\uff11:00"])
def test_bad_times_get_one_sentence(text):
    with pytest.raises(DrivingError, match="the time is"):
        parse_clock(text)
