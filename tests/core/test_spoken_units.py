"""The mouth's units in speech: what a frame hears, that it is the same whoever asks, and where it goes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knot_core.config import UNITS_DIM, AdapterConfig
from knot_core.driving import Driving, LiveAudio, spoken_units, timeline
from knot_core.driving.audio import MEL_DIM, SILENCE
from knot_core.driving.expression_controls import CONTROLS
from knot_core.driving.face_units import UNITS, units_from_controls
from knot_core.driving.spoken_units import (
    AHEAD,
    MOUTH_UNITS,
    PAST,
    SpokenUnits,
    SpokenUnitsNet,
    load_spoken_units,
)
from knot_core.driving.tracks import Samples
from knot_core.errors import CheckpointError, DrivingError

FACE = AdapterConfig(signal_dim=UNITS_DIM)
OF_UNITS = slice(MEL_DIM, MEL_DIM + len(UNITS))
EYES = [number for number in range(len(UNITS)) if number not in MOUTH_UNITS]
JAW = MEL_DIM + UNITS.index("jawOpen")
SPEECH, MOUTH = UNITS_DIM - 3, UNITS_DIM - 1


@pytest.fixture
def network(monkeypatch) -> SpokenUnitsNet:
    """Random weights that move units within 0 .. 1, in place of those that ship."""
    torch.manual_seed(0)
    found = SpokenUnitsNet(hidden=16).requires_grad_(False)
    found.output.bias += 0.5
    monkeypatch.setattr(timeline, "load_spoken_units", lambda: found)
    return found


def mel(num_frames: int = 150, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(SILENCE, 1, (num_frames, MEL_DIM)).astype(np.float32)


def sound(seconds: float = 3.0) -> SimpleNamespace:
    count = round(16_000 * seconds)
    noise = 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(samples=noise * torch.linspace(0, 30, count).sin(), sample_rate=16_000)


def test_a_frame_hears_twelve_frames_back_and_four_ahead(network):
    values, frame = mel(), np.array([60])
    before = SpokenUnits(Samples(values), network).at(frame)
    for other, heard in ((60 - PAST, True), (60 - PAST - 1, False), (60 + AHEAD, True), (60 + AHEAD + 1, False)):
        changed = values.copy()
        changed[other] += 1
        after = SpokenUnits(Samples(changed), network).at(frame)
        assert (np.abs(after - before).max() > 1e-6) == heard, other


def test_what_has_not_arrived_is_not_heard(network):
    values = mel()
    known = spoken_units.spoken_units(network, Samples(values), 50, 60, end=60)
    values[60:] = 1
    assert np.array_equal(known, spoken_units.spoken_units(network, Samples(values), 50, 60, end=60))
    whole = spoken_units.spoken_units(network, Samples(values), 50, 60)
    np.testing.assert_allclose(known[:-AHEAD], whole[:-AHEAD], atol=1e-6)
    assert np.abs(known - whole).max() > 1e-3, "the last frames hear what comes, where it is there"


@pytest.mark.parametrize("first", [0, 5, 47, 1_000_000])
def test_any_part_equals_the_whole(network, first):
    track = SpokenUnits(Samples(mel(), beyond=SILENCE), network)
    whole = track.at(np.arange(first, first + 60))
    others = [SpokenUnits(track.mel, network).at(np.array([frame])) for frame in range(first, first + 60)]
    assert np.array_equal(whole, np.concatenate(others))
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert not whole[:, EYES].any()


def test_speech_gives_a_model_of_units_the_mouth_that_nobody_gives(network):
    driving = Driving.from_audio(sound(), pose=Driving.from_controls({"yaw": [0.5] * 75, "blink": [0.25] * 75}))
    signal = driving.for_adapter(FACE).pixel_signal(np.arange(75)).numpy()
    assert (signal[:, [SPEECH, MOUTH]] == 1).all()
    assert np.array_equal(signal[:, JAW], SpokenUnits(driving.speech, network).at(np.arange(75))[:, JAW - MEL_DIM])
    assert signal[:, JAW].std() > 1e-3
    assert (signal[:, MEL_DIM + UNITS.index("eyeBlinkLeft")] == 0.25).all(), "other units are the controls'"
    plain = driving.for_adapter(AdapterConfig()).pixel_signal(np.arange(75)).numpy()
    assert (plain[:, -1] == 0).all(), "models of controls hear the speech alone, as before"


@pytest.mark.usefixtures("network")
def test_a_mouth_that_somebody_gives_stays_theirs():
    controls = {"mouth_open": np.linspace(0, 1, 75), "mouth_wide": np.zeros(75)}
    driving = Driving.from_audio(sound(), pose=Driving.from_controls(controls)).for_adapter(FACE)
    wanted = np.zeros((75, 8), np.float32)
    wanted[:, CONTROLS.index("mouth_open")] = controls["mouth_open"]
    signal = driving.pixel_signal(np.arange(75)).numpy()
    np.testing.assert_allclose(signal[:, OF_UNITS], units_from_controls(wanted), atol=1e-6)


@pytest.mark.usefixtures("network")
def test_measured_units_of_head_and_eyes_stay_beside_the_speech():
    measured = np.full((75, len(UNITS)), 0.4, np.float32)
    pose = Driving.from_controls({"yaw": np.zeros(75)})
    driving = Driving(speech=Driving.from_audio(sound()).speech, pose=pose.pose, units=Samples(measured), form=FACE)
    signal = driving.pixel_signal(np.arange(75)).numpy()
    assert (signal[:, MEL_DIM + UNITS.index("eyeBlinkLeft")] == np.float32(0.4)).all()
    assert signal[:, JAW].std() > 1e-3


@pytest.mark.usefixtures("network")
def test_sound_that_arrives_is_waited_for_and_moves_the_mouth_as_the_recording_does():
    recording, live = sound(), LiveAudio()
    driving = Driving.from_audio(live, pose=None).for_adapter(FACE)
    live.push(recording.samples[:, :32_000])
    ready = driving.num_ready_latents
    assert ready == Driving.from_audio(live, pose=None).num_ready_latents - 1, "a latent frame is four pixel frames"
    whole = Driving.from_audio(recording, pose=None).for_adapter(FACE)
    torch.testing.assert_close(driving.signal(0, ready), whole.signal(0, ready), atol=1e-5, rtol=0)
    with pytest.raises(DrivingError):
        driving.signal(0, ready + 2)
    live.push(recording.samples[:, 32_000:])
    live.close()
    torch.testing.assert_close(driving.signal(0, 19), whole.signal(0, 19), atol=1e-5, rtol=0)


def test_without_the_weights_speech_moves_the_mouth_alone(monkeypatch):
    monkeypatch.setattr(timeline, "load_spoken_units", lambda: None)
    signal = Driving.from_audio(sound(), pose=None).for_adapter(FACE).pixel_signal(np.arange(75)).numpy()
    assert (signal[:, MOUTH] == 0).all()
    assert not signal[:, OF_UNITS].any()


def test_other_weights_are_refused(tmp_path):
    assert load_spoken_units(tmp_path / "none.safetensors") is None
    save_file(SpokenUnitsNet(hidden=8).state_dict(), path := tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="put back the file that ships"):
        load_spoken_units(path)
    path.write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="put back the file that ships"):
        load_spoken_units(path)
