"""The network that reads mouths in speech: its data, what it is spared and what it learns."""

import json

import numpy as np
import pytest
import torch

from knot_core.driving.audio import MEL_DIM, SILENCE
from knot_core.driving.spoken_units import AHEAD, MOUTH_UNITS, PAST, SpokenUnitsNet, load_spoken_units
from knot_lab.training import spoken_units_training as training
from knot_lab.training.spoken_units_training import (
    Speeches,
    agreement,
    loss_of,
    prepare_speech,
    recorded,
    train_spoken_units,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("units")
    prepare_speech(made / "speech", 3)
    prepare_speech(made / "speech", 1, "eval")
    return made


@pytest.fixture(scope="module")
def speeches(folder):
    return Speeches(prepare_speech(folder / "speech", 3))


def test_recordings_are_made_once_and_go_with_their_units(folder, speeches):
    (path,) = prepare_speech(folder / "speech", 3)
    before = path.stat().st_mtime_ns
    prepare_speech(folder / "speech", 3)
    assert path.stat().st_mtime_ns == before
    assert speeches.mel.shape == (3, 300, MEL_DIM)
    assert speeches.units.shape == (3, 300, len(MOUTH_UNITS))
    quiet = (speeches.mel.float().mean(dim=-1) < speeches.mel.float().mean() - 0.5).flatten()
    opening = speeches.units[..., training._JAW].float().flatten()
    assert opening[quiet].mean() < 0.3 * opening[~quiet].mean(), "who is silent keeps the mouth shut"


def test_pieces_are_heard_with_what_is_around_them_and_sometimes_without_what_comes(speeches):
    mel, heard, units = speeches.draw(np.random.default_rng(0), 200)
    assert mel.shape[1] - PAST - AHEAD == units.shape[1]
    cut = (heard[:, -AHEAD:] == 0).all(dim=1)
    assert 0.25 < cut.float().mean() < 0.55
    assert (heard[~cut] == 1).all()
    assert (heard[cut, :-AHEAD] == 1).all()


def test_another_room_changes_the_tone_and_leaves_silence_silent():
    mel = torch.full((40, 5, MEL_DIM), 0.5)
    mel[:, 0] = SILENCE
    other = recorded(np.random.default_rng(0), mel)
    assert torch.allclose(other[:, 0], mel[:, 0], atol=1e-4)
    assert torch.allclose(other[:, 1], other[:, 4]), "a room is the same all the time"
    assert torch.allclose(other[..., :32], other[..., 32:]), "and in both halves of a frame"
    assert other[:, 1].mean(dim=1).std() > 0.2


def test_training_learns_and_writes_weights_that_load(folder):
    torch.manual_seed(0)
    before = agreement(SpokenUnitsNet(), Speeches(prepare_speech(folder / "speech", 1, "eval")))[0]
    path = train_spoken_units(folder, steps=60, recordings=3)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 60
    assert lines[-1]["jaw"] > max(0.3, before + 0.1)
    load_spoken_units.cache_clear()
    assert load_spoken_units(path) is not None
    load_spoken_units.cache_clear()


def test_the_loss_is_none_for_the_truth(speeches):
    mel, heard, units = speeches.draw(np.random.default_rng(1), 4)
    told = lambda mel, heard: units  # noqa: ARG005, E731
    assert loss_of(told, (mel, heard, units), speeches.deviation) == 0
    assert loss_of(told, (mel, heard, units + 0.1), speeches.deviation) > 0
