"""Steps that this machine can afford: the rule, and that it is measured once for each chunk length."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from knot_core import SettingsError, load_model, open_image
from knot_core.config import StreamSettings
from knot_core.model_loading import ASSETS
from knot_live import speed
from knot_live.engine import num_processors
from knot_live.scheduling import Measured
from knot_live.speed import Speed, Steps, most_steps

SETTINGS = StreamSettings(steps=4)


@pytest.mark.parametrize(
    ("found", "processors", "steps"),
    [
        (Speed(length=0.48, step=0.01, commit=0.01, decode=0.01), 2, 4),  # all of them
        (Speed(length=0.48, step=0.097, commit=0.078, decode=0.28), 2, 1),  # a processor without bfloat16
        (Speed(length=0.48, step=0.035, commit=0.05, decode=0.1), 2, 2),
        (Speed(length=0.48, step=0.06, commit=0.05, decode=0.1), 1, 1),  # and half as many of them
        (Speed(length=0.16, step=0.055, commit=0.035, decode=0.1), 2, 1),  # chunks of one latent frame
        (Speed(length=0.48, step=0.05, commit=0.038, decode=0.6), 2, 1),  # decoding takes it all
        (Speed(length=0.48, step=5.0, commit=2.0, decode=1.0), 2, 1),  # too slow for any
    ],
)
def test_as_many_steps_as_leave_time_for_others(found, processors, steps):
    assert most_steps(found, 4, processors) == steps


def test_the_bounds_are_met_exactly():
    found = Speed(length=1.0, step=0.05, commit=0.05, decode=0.0)
    assert most_steps(found, 10, 8) == 4  # 4 * 0.05 + 0.05 = 0.25
    assert most_steps(replace(found, step=0.0501), 10, 8) == 3


@pytest.fixture
def steps(monkeypatch):
    """The steps for a model whose step takes 0.04 s for each latent frame of a chunk, which lasts a second."""

    def measure(model, anchor, settings):  # noqa: ARG001
        return Speed(length=1.0, step=0.04 * settings.num_chunk_frames, commit=0.0, decode=0.0)

    monkeypatch.setattr(speed, "measure", measure)
    return Steps(plain(SETTINGS), SimpleNamespace(latent_size=(8, 8)))


def plain(settings):
    """A model of which only what `Steps` asks for is there, one thread inside its operations."""
    return SimpleNamespace(settings=settings, fps=25, device=torch.device("cpu"), threads_for=lambda *_: 1)


def test_steps_suit_the_length_of_a_chunk(steps):
    found = {chunk: steps.suit(replace(SETTINGS, num_chunk_frames=chunk)).steps for chunk in (1, 2, 3)}
    assert found == {1: 4, 2: 2, 3: 2}  # two latent frames: as for the longer ones


def test_steps_follow_a_change_of_length_unless_they_are_named(steps):
    slow = steps.suit(SETTINGS)
    assert steps.change(slow, {"num_chunk_frames": 1}) == replace(SETTINGS, num_chunk_frames=1, steps=4)
    assert steps.change(slow, {"num_chunk_frames": 1, "steps": 1}).steps == 1
    assert steps.change(slow, {"shift": 3.0}) == replace(slow, shift=3.0)
    with pytest.raises(SettingsError, match="num_chunk_frames"):
        steps.change(slow, {"num_chunk_frames": 0})


def test_levels_that_a_model_was_trained_for_stay(monkeypatch):
    lengths = []

    def measure(model, anchor, settings):  # noqa: ARG001
        lengths.append(settings.num_chunk_frames)
        return Speed(length=1.0, step=3.0, commit=0.25, decode=0.5)

    monkeypatch.setattr(speed, "measure", measure)
    trained = replace(SETTINGS, timesteps=(1000.0, 500.0))
    found = Steps(plain(trained), SimpleNamespace(latent_size=(8, 8)))
    assert found.suit(trained) == trained
    assert lengths == [trained.num_chunk_frames]  # and no other length is known to be one that it was trained for
    assert found.costs.measured == (Measured(3, 1, 3.0, 0.75),)


def test_costs_are_those_that_were_measured(steps):
    assert steps.costs.measured == (Measured(1, 1, 0.04, 0.0), Measured(3, 1, pytest.approx(0.12), 0.0))
    assert steps.costs.lanes == num_processors()


def test_larger_groups_are_measured_as_long_as_they_gain():
    model = load_model("knot-tiny", device="cpu")
    anchor = model.encode_anchor(open_image(ASSETS / "portraits" / "ada.png"), size=(64, 64))
    settings = replace(model.settings, steps=1)
    dear, cheap = Measured(3, 1, 60.0, 30.0), Measured(3, 1, 2e-6, 1e-6)
    found = speed.measure_together(model, anchor, settings, dear, counts=(2,))  # one alone takes 90 s, they say
    assert [one.sessions for one in found] == [2]
    assert found[0].step == pytest.approx(2 * found[0].rest)
    assert 0 < found[0].step < 60
    assert speed.measure_together(model, anchor, settings, cheap) == []


def test_the_built_in_model_is_measured_by_its_stages():
    model = load_model("knot-tiny", device="cpu")
    anchor = model.encode_anchor(open_image(ASSETS / "portraits" / "ada.png"))
    found = speed.measure(model, anchor, replace(model.settings, steps=2))
    assert found.length == 0.48
    assert min(found.step, found.commit, found.decode) > 0
    assert found.step < 1.5 * found.commit * 4  # a step denoises a third more than commit passes over
