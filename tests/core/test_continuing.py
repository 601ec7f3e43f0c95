"""States as values: what goes on from one is what would have come, as often as wanted."""

import dataclasses
import itertools
import json
import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knot_core.config import StreamSettings
from knot_core.errors import SettingsError, StateError
from knot_core.geometry import first_pixel_frame
from knot_core.stream import (
    begin_stream,
    continue_stream,
    driving_played,
    in_whole_chunks,
    leave_state,
    load_stream,
    open_stream,
    restart_driving,
    resume_stream,
    save_stream,
    state_of,
)

from .compared_chunks import same, take

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
SINKING = StreamSettings(steps=2, num_window_frames=4, num_sink_frames=2, sink_decay=0.9, rope_positions="window")


def tensors_of(saved):
    state = saved.state
    return [*saved.window, *saved.sinks, *(state.decoder_memory or ()), state.rng_state, *saved.anchor.keys]


@pytest.mark.parametrize("settings", [SETTINGS, SINKING], ids=["window", "sinks"])
def test_chunk_by_chunk_through_states_is_the_stream(model, anchor, waves, settings):
    whole = take(open_stream(model, anchor, settings, waves(), seed=5), 5)
    state, chunks = begin_stream(model, anchor, settings, seed=5), []
    for _ in whole:
        stream = continue_stream(model, state, waves())
        chunks += take(stream, 1)
        state = state_of(stream)
    assert same(chunks, whole)


def test_a_state_is_not_changed_by_what_goes_on_from_it_or_by_its_own_stream(model, anchor, waves):
    stream = open_stream(model, anchor, SINKING, waves())
    take(stream, 3)
    state = state_of(stream)
    before = [tensor.clone() for tensor in tensors_of(state)]
    first = take(continue_stream(model, state, waves()), 3)
    take(stream, 3)
    assert all(map(torch.equal, tensors_of(state), before))
    assert same(take(continue_stream(model, state, waves()), 3), first)


def test_a_saved_value_is_a_saved_stream(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    state = state_of(stream)
    save_stream(tmp_path / "s", state)
    expected = take(stream, 2)
    assert same(take(resume_stream(model, tmp_path / "s", waves()), 2), expected)
    assert same(take(continue_stream(model, load_stream(tmp_path / "s", model), waves()), 2), expected)


def test_a_stopped_stream_leaves_the_state_after_its_last_whole_chunk(model, anchor, waves, tmp_path):
    class Stop(Exception):  # noqa: N818 - as a host's, it is no error
        pass

    stages = itertools.count()

    def should_stop():
        if next(stages) == 2 * (SETTINGS.steps + 2) + 1:  # in the middle of the third chunk
            raise Stop
        return False

    whole = take(open_stream(model, anchor, SETTINGS, waves()), 4)
    stream = open_stream(model, anchor, SETTINGS, waves(), should_stop=should_stop)
    with pytest.raises(Stop):
        list(stream)
    assert leave_state(stream, tmp_path / "s")
    assert same(take(resume_stream(model, tmp_path / "s", waves()), 2), whole[2:])


def test_a_state_that_cannot_be_left_is_said_and_nothing_more(model, anchor, waves, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert not leave_state(open_stream(model, anchor, SETTINGS, waves()), tmp_path / ("long" * 100))
    assert "no state to go on from" in caplog.text


def test_a_new_driving_begins_with_the_next_chunk(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    state = restart_driving(state_of(stream))
    stream.set_driving(waves(40, phase=1.0))
    assert driving_played(state) == -3
    assert same(list(continue_stream(model, state, waves(40, phase=1.0))), list(stream))


@pytest.mark.parametrize("num_before", [0, 1, 3])
def test_lengths_in_whole_chunks(model, anchor, waves, num_before):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, num_before)
    state = state_of(stream)
    for wanted in (1, 8, 9, 10, 12, 13, 57):
        length = in_whole_chunks(state, wanted)
        assert wanted <= length < wanted + 12
        begun = first_pixel_frame(state.state.clock.start)
        assert (length + begun - 9) % 12 == 0, "9 pixel frames, then 12, 12 ..."


def test_a_state_of_another_model_is_refused(make_model, model, anchor, waves):
    state = begin_stream(model, anchor, SETTINGS)
    with pytest.raises(StateError, match="another model"):
        continue_stream(make_model(seed=1), state, waves())
    with pytest.raises(SettingsError, match="seed is -1"):
        begin_stream(model, anchor, SETTINGS, seed=-1)


@pytest.fixture
def saved(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    stream.save(tmp_path / "s")
    return tmp_path / "s"


def rewrite(path, change_header=None, **tensors):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    header = json.loads(metadata["header"])
    metadata["header"] = json.dumps({**header, **(change_header or {})})
    save_file({**load_file(path), **tensors}, path, metadata=metadata)


DAMAGE = {
    "short window": ({}, {"window.1": torch.zeros(2, 1, 3, 2, 24)}),
    "other layer": ({}, {"window.3": torch.zeros(2, 1, 24, 2, 24)}),
    "keys": ({}, {"anchor.keys.0": torch.zeros(1, 6, 3, 24)}),
    "random state": ({}, {"rng": torch.zeros(7, dtype=torch.uint8)}),
    "reference": ({}, {"anchor.reference": torch.zeros(4, 6)}),
    "knot": ({}, {"knot": torch.zeros(1, 1, 16, 8, 8)}),
    "time runs back": ({"clock": {"chunk": 2, "start": -6, "anchor_position": 4}}, {}),
    "a word for a number": ({"clock": {"chunk": "2", "start": 6, "anchor_position": 4}}, {}),
    "clock": ({"clock": {"chunk": 7, "start": 6, "anchor_position": 4}}, {}),
    "another window": ({"window": {"capacity": 9, "num_sinks": 0, "num_committed": 6}}, {}),
    "a list": ({"clock": [1, 2]}, {}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_cannot_be_a_streams_is_refused(model, saved, name):
    header, tensors = DAMAGE[name]
    rewrite(saved, header, **tensors)
    with pytest.raises(StateError, match="damaged"):
        load_stream(saved, model)


def test_settings_of_a_state_are_its_own(model, saved):
    assert load_stream(saved, model).settings == SETTINGS
    assert dataclasses.replace(SETTINGS, steps=3) != SETTINGS
