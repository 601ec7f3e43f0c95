"""Driving signals: what is fed to the network, frame by frame, wherever the stream has come to."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from knot_core.config import AdapterConfig, takes_controls
from knot_core.driving import Driving, idle
from knot_core.driving.audio import SILENCE, log_mel
from knot_core.driving.expression_controls import CONTROLS, POSE_CONTROLS
from knot_core.driving.face_units import UNITS, pose_from_controls, units_from_controls
from knot_core.driving.signal_form import SIGNAL_DIM
from knot_core.driving.timeline import FLAGS
from knot_core.errors import DrivingError
from knot_lab.evaluation.metrics import strongest_repeat

FLAG = {name: 64 + 8 + i for i, name in enumerate(FLAGS)}
COLUMN = {name: 64 + i for i, name in enumerate(CONTROLS)}


def sound(num_samples: int = 16_000, channels: int = 1, seed: int = 0) -> SimpleNamespace:
    samples = torch.randn(channels, num_samples, generator=torch.Generator().manual_seed(seed)) * 0.1
    return SimpleNamespace(samples=samples, sample_rate=16_000)


def idle_values(frames: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(zip(POSE_CONTROLS, idle.IdleMotion(seed).at(frames).T, strict=True))


@pytest.fixture
def ramp() -> np.ndarray:
    """[20, 8]: a different straight line in every control."""
    return np.linspace(0, 1, 20)[:, None] * np.linspace(0.1, 0.8, 8)


@pytest.mark.parametrize(
    "driving",
    [Driving.none(), Driving.idle(3), Driving.from_audio(sound()), Driving.from_audio(sound(), pose=Driving.idle(1))],
)
@pytest.mark.parametrize("first", [0, 1, 7, 3_000_000])
def test_any_part_equals_the_whole(driving, first):
    whole = driving.signal(first, 12)
    assert whole.shape == (12, 4, SIGNAL_DIM)
    assert whole.dtype == torch.float32
    assert whole.isfinite().all()
    parts = torch.cat([driving.signal(first, 5), driving.signal(first + 5, 0), driving.signal(first + 5, 7)])
    assert torch.equal(whole, parts)


def test_latent_frames_take_their_own_pixel_frames(ramp):
    driving = Driving.from_controls(ramp)
    signal = driving.signal(0, 6)
    assert (driving.num_pixel_frames, driving.num_latent_frames) == (20, 6)
    controls = torch.from_numpy(ramp).float()
    torch.testing.assert_close(signal[0, :, 64:72], controls[:1].expand(4, 8))
    torch.testing.assert_close(signal[1:5, :, 64:72].reshape(16, 8), controls[1:17])


def test_past_the_end_poses_hold_and_speech_falls_silent(ramp):
    driving = Driving.from_audio(sound(6400), pose=Driving.from_controls(ramp))
    late = driving.signal(1000, 2)
    assert (late[..., :64] == np.float32(SILENCE)).all()
    torch.testing.assert_close(late[..., 64:72], torch.from_numpy(ramp[-1]).float().expand(2, 4, 8))
    assert (late[..., 72:] == 1).all()


@pytest.mark.parametrize(
    ("driving", "flags"),
    [
        (Driving.none(), (0, 0, 0)),
        (Driving.idle(), (0, 1, 1)),
        (Driving.from_audio(sound()), (1, 1, 0)),
        (Driving.from_audio(sound(), pose=None), (1, 0, 0)),
        (Driving.from_audio(sound(), pose=Driving.idle()), (1, 1, 1)),
        (Driving.from_controls({"yaw": [0.5]}), (0, 1, 0)),
        (Driving.from_controls({"mouth_open": [0.5]}), (0, 0, 1)),
    ],
)
def test_what_is_not_given_is_zero_and_flagged(driving, flags):
    signal = driving.signal(0, 3)
    for given, (name, columns) in zip(
        flags,
        {
            "speech": slice(64),
            "pose": [COLUMN[n] for n in POSE_CONTROLS],
            "mouth": [COLUMN["mouth_open"], COLUMN["mouth_wide"]],
        }.items(),
        strict=True,
    ):
        assert (signal[..., FLAG[name]] == given).all()
        assert given or not signal[..., columns].any()


def test_speech_features_are_those_of_training():
    audio = sound(16_000, channels=2)
    signal = Driving.from_audio(audio).pixel_signal(np.arange(25))
    torch.testing.assert_close(signal[:, :64], log_mel(audio.samples.mean(0)))


@pytest.mark.parametrize("start", [0, 12_000_000])
def test_blinks_are_short_and_2_to_6_seconds_apart(start):
    blink = idle_values(np.arange(start, start + 25 * 600), seed=5)["blink"]
    closing = np.flatnonzero((blink[1:] > 0) & (blink[:-1] == 0)) + 1
    gaps = np.diff(closing) / 25
    assert gaps.min() >= 2
    assert gaps.max() <= 6
    assert len(np.unique(gaps)) > 20, "irregular"
    assert all(blink[start : start + 5].max() == 1 and blink[start + 5] == 0 for start in closing[:-1])


def test_idle_motion_moves_within_range_smoothly_and_without_a_loop():
    values = idle_values(np.arange(25 * 1200))
    assert values
    for name, track in values.items():
        assert track.min() >= (0 if name == "blink" else -1)
        assert track.max() <= 1
        assert track.std() > 0.02, f"{name} moves"
    for name in ("yaw", "pitch", "roll", "brow"):
        assert np.abs(np.diff(values[name])).max() < 0.04, f"{name} does not jump"
    sway = values["yaw"] - values["yaw"].mean()
    spectrum = np.abs(np.fft.rfft(sway, n=2 * len(sway))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(sway) // 2] / (sway**2).sum()
    assert np.abs(correlation[25 * 20 :]).max() < 0.5, "no lag beyond 20 s at which the motion repeats"
    head = np.stack([values[name] for name in ("yaw", "pitch", "roll")], axis=1)
    assert strongest_repeat(head, 25 * 2, 25 * 60) < 0.5
    for name in ("yaw", "pitch", "roll"):
        assert strongest_repeat(values[name][:, None], 25 * 20, 25 * 600) < 0.5, f"{name} repeats"


def test_idle_motion_breathes_at_a_quarter_hertz():
    values = np.mean([idle_values(np.arange(25 * 400), seed)["pitch"] for seed in range(40)], axis=0)
    spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values))))
    hertz = np.fft.rfftfreq(len(values), 1 / 25)
    band = (hertz > 0.15) & (hertz < 2)
    assert hertz[band][spectrum[band].argmax()] == pytest.approx(0.25, abs=0.05)


def test_seeds_are_lives():
    frames = np.arange(500)
    for one, other in itertools.combinations([0, 1, 2, 2**64 - 1], 2):
        assert not np.array_equal(idle_values(frames, one)["yaw"], idle_values(frames, other)["yaw"])
    assert Driving.idle(1) == Driving.idle(1) != Driving.idle(2)


def test_equal_content_is_equal_and_hashes_alike(ramp):
    assert Driving.from_controls(ramp) == Driving.from_controls(ramp.copy())
    assert len({Driving.from_controls(ramp), Driving.from_controls(ramp), Driving.from_controls(ramp[:-1])}) == 2
    assert Driving.from_audio(sound(seed=0)) != Driving.from_audio(sound(seed=1))
    assert Driving.none().digest != Driving.idle().digest


def test_a_driving_keeps_its_values_when_the_caller_changes_theirs(ramp):
    driving = Driving.from_controls(ramp)
    before = driving.signal(0, 5)
    ramp += 0.1
    driving.signal(0, 5).zero_()
    assert torch.equal(before, driving.signal(0, 5))


def test_all_forms_of_controls_agree(tmp_path, ramp):
    wanted = Driving.from_controls(ramp)
    by_name = {name: ramp[:, i].tolist() for i, name in enumerate(CONTROLS)}
    keys = {
        "keyframes": [
            {"time": frame / 25, **{name: ramp[frame, i] for i, name in enumerate(CONTROLS)}} for frame in (0, 19)
        ]
    }
    (tmp_path / "lists.json").write_text(json.dumps({"fps": 25, **by_name}))
    for controls in (torch.from_numpy(ramp), by_name, str(tmp_path / "lists.json"), tmp_path / "lists.json", keys):
        signal = Driving.from_controls(controls).signal(0, 6)
        torch.testing.assert_close(signal, wanted.signal(0, 6))


def test_other_frame_rates_are_resampled():
    driving = Driving.from_controls({"fps": 50, "yaw": np.linspace(0, 1, 100).tolist()})
    assert driving.num_pixel_frames == 50
    yaw = driving.pixel_signal(np.arange(50))[:, COLUMN["yaw"]].numpy()
    np.testing.assert_allclose(yaw, np.linspace(0, 1, 100)[::2], atol=1e-6)


def test_keyframes_join_by_straight_lines_and_hold_outside():
    driving = Driving.from_controls(
        {"seconds": 3, "keyframes": [{"time": 0.0, "yaw": 0.2}, {"time": 1.0, "blink": 1.0}, {"time": 2.0, "yaw": 0.4}]}
    )
    signal = driving.pixel_signal(np.arange(75))
    assert driving.num_pixel_frames == 75
    assert signal[25, COLUMN["yaw"]].item() == pytest.approx(0.3)
    assert signal[60, COLUMN["yaw"]].item() == pytest.approx(0.4)
    assert (signal[:, COLUMN["blink"]] == 1).all()


def test_keyframes_shorter_than_a_frame_make_one():
    driving = Driving.from_controls({"keyframes": [{"time": 0, "yaw": 0.3}], "seconds": 0.01})
    assert driving.num_pixel_frames == 1
    assert driving.pixel_signal(np.array([5]))[0, COLUMN["yaw"]].item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("controls", "says"),
    [
        (np.zeros((5, 7)), r"shape \[5, 7\].*yaw, pitch"),
        (np.zeros((0, 8)), "shape"),
        (np.full((5, 8), np.nan), "yaw is nan at entry 0"),
        ({"yaw": [0, 0, 1.5]}, r"yaw is 1\.5 at entry 2; it must lie in -1 \.\. 1"),
        ({"blink": [-0.5]}, r"0 \.\. 1"),
        ({"yaww": [0]}, "yaww.*these exist: yaw"),
        ({"yaw": [0, 1], "pitch": [0]}, "equally long"),
        ({"yaw": []}, "lists of numbers"),
        ({}, "lists of numbers"),
        ({"yaw": ["left"]}, "must be numbers"),
        ({"fps": 0, "yaw": [0]}, "fps is 0"),
        ({"keyframes": []}, "keyframes must be"),
        ({"keyframes": [{"yaw": 1}]}, "time"),
        ({"keyframes": [{"time": 1, "yaw": 0}, {"time": 1, "yaw": 1}]}, "ascend"),
        ({"keyframes": [{"time": 0}]}, "set no control"),
        ({"keyframes": [{"time": 0, "yaw": 0}], "yaw": [0]}, "one form or the other"),
        ("nowhere.json", "cannot be read"),
    ],
)
def test_bad_controls_get_one_sentence(controls, says):
    with pytest.raises(DrivingError, match=says):
        Driving.from_controls(controls)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]"])
def test_bad_json_gets_one_sentence(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DrivingError, match=r"bad\.json"):
        Driving.from_controls(tmp_path / "bad.json")


def test_any_driving_can_be_given_a_length(ramp):
    assert Driving.idle(1).lasting(50).num_pixel_frames == 50
    assert Driving.idle(1).lasting(50) != Driving.idle(1)
    longer = Driving.from_controls(ramp).lasting(40)
    assert longer.num_latent_frames == 11
    assert torch.equal(longer.signal(0, 30), Driving.from_controls(ramp).signal(0, 30))
    with pytest.raises(DrivingError, match="cannot last 0"):
        Driving.none().lasting(0)


def test_speech_needs_samples_a_known_pose_and_a_model_that_hears():
    with pytest.raises(DrivingError, match="no samples"):
        Driving.from_audio(sound(0))
    with pytest.raises(DrivingError, match="pose is 'dance'"):
        Driving.from_audio(sound(), pose="dance")
    deaf = SimpleNamespace(adapter=None, fps=25, timing="own")
    with pytest.raises(DrivingError, match="no driving adapter"):
        Driving.from_audio(sound(), deaf)
    with pytest.raises(DrivingError, match="seed is -1"):
        Driving.idle(-1)


UNITS_ADAPTER = AdapterConfig(name="units", signal_dim=122)


def test_controls_become_face_units_and_a_pose_where_an_adapter_takes_those(ramp):
    plain = Driving.from_audio(sound(), pose=Driving.from_controls(ramp))
    fitted = plain.for_adapter(UNITS_ADAPTER)
    assert takes_controls(UNITS_ADAPTER)
    whole, signal = plain.signal(0, 9).numpy(), fitted.signal(0, 9).numpy()
    assert signal.shape == (9, 4, 64 + len(UNITS) + 3 + len(FLAGS))
    controls = whole[..., 64:72]
    np.testing.assert_array_equal(signal[..., :64], whole[..., :64])
    np.testing.assert_allclose(signal[..., 64:116], units_from_controls(controls), atol=1e-6)
    np.testing.assert_allclose(signal[..., 116:119], pose_from_controls(controls), atol=1e-6)
    np.testing.assert_array_equal(signal[..., 119:], whole[..., 72:])
    assert signal[4, 0, 116] == pytest.approx(np.deg2rad(30) * ramp[13, 0], abs=1e-5), "yaw 1 is 30 degrees"


def test_a_driving_is_the_same_whatever_adapter_it_was_fitted_to(ramp):
    driving = Driving.from_controls(ramp)
    fitted = driving.for_adapter(UNITS_ADAPTER)
    assert fitted == driving
    assert torch.equal(fitted.for_adapter(AdapterConfig()).signal(0, 6), driving.signal(0, 6))
    wider = driving.for_adapter(AdapterConfig(name="controls", signal_dim=80)).signal(0, 6)
    assert torch.equal(wider[..., :SIGNAL_DIM], driving.signal(0, 6))
    assert wider[..., SIGNAL_DIM:].abs().max() == 0
