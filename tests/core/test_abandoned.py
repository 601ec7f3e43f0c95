"""A chunk under way is abandoned by `should_stop`, and drawn again under what was set meanwhile: with its own noise, as
if that had been set before.
"""

import itertools
from dataclasses import replace

import pytest
import torch

from knot_core.config import StreamSettings
from knot_core.stream import continue_stream, open_stream, state_of

from .compared_chunks import same, take

KINDS = {
    "at first": StreamSettings(steps=2, start_from_reference=True),
    "window": StreamSettings(steps=2, num_window_frames=4),
    "sinks that fade": StreamSettings(
        steps=2, num_window_frames=3, num_sink_frames=2, rope_positions="window", sink_decay=0.8
    ),
    "from the reference": StreamSettings(steps=2, start_from_reference=True),
    "none": StreamSettings(steps=2, num_window_frames=4, commit="none"),
    "in place": StreamSettings(steps=2, num_window_frames=3, num_sink_frames=3, commit="in_place"),
    "recompute": StreamSettings(steps=2, num_window_frames=5, commit="recompute"),
    "guided": StreamSettings(steps=2, num_window_frames=4, text_guidance=2.0),
}


def text(seed):
    return torch.randn(1, 6, 20, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def changes(model, waves):
    """Each a change of a stream, by its name."""
    other = model.anchor(8, text(1))

    def set_settings(stream, **values):
        stream.set_settings(replace(stream.settings, **values))

    return {
        "nothing": lambda _stream: None,
        "driving": lambda stream: stream.set_driving(waves(phase=1.0)),
        "anchor": lambda stream: stream.set_anchor(other),
        "cut": lambda stream: stream.set_anchor(other, cut=True),
        "steps": lambda stream: set_settings(stream, steps=3, fusion=0.9),
        "shorter": lambda stream: set_settings(stream, num_chunk_frames=2),
        "longer": lambda stream: set_settings(stream, num_chunk_frames=5),
        "prompt": lambda stream: stream.set_text(text(2)),
        "prompt, window again": lambda stream: stream.set_text(text(2), recache=True),
        "prompt, sinks again": lambda stream: stream.set_text(text(2), recache=True, keep_sinks=False),
    }


def fit(kind, name):
    """Whether such a stream can be changed so."""
    return kind != "in place" or name not in ("shorter", "longer", "prompt, window again", "prompt, sinks again")


CASES = [
    (kind, name)
    for kind, name in itertools.product(
        KINDS,
        ("nothing", "driving", "anchor", "cut", "steps", "shorter", "longer", "prompt", "prompt, window again"),
    )
    if fit(kind, name)
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_at_every_stage_it_equals_a_stream_that_was_changed_before(model, waves, changes, kind, name):
    stages, before = [], open_stream(model, model.anchor(7, text(1)), KINDS[kind], waves(), seed=3)
    take(before, after := 0 if kind == "at first" else 3)
    reached = state_of(before)

    def should_stop():
        stages.append(1)
        if len(stages) == at:
            changes[name](stream)
            return True
        return False

    changes[name](before)
    wanted = take(before, 2)
    for stage in range(4):  # before either step, before decoding, before the commit
        stream = continue_stream(model, reached, waves(), should_stop=should_stop)
        at = len(stages) + stage + 1
        assert next(stream, None) is None
        assert stream.plan.chunk == after
        assert same(take(stream, 2), wanted)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", ["anchor", "cut", "steps", "shorter", "longer", "prompt, window again"])
def test_a_chunk_that_is_not_abandoned_goes_on_as_it_began(model, waves, changes, name, at):
    anchor, settings, begun = model.anchor(7, text(1)), KINDS["sinks that fade"], []

    def progress(done, _stages):
        if stream.plan.chunk == at and done == 2 and not begun:
            begun.append(at)
            changes[name](stream)

    stream = open_stream(model, anchor, settings, waves(), progress=progress)
    mine = take(stream, at + 3)
    other = open_stream(model, anchor, settings, waves())
    theirs = take(other, at + 1)
    changes[name](other)
    assert same(mine, theirs + take(other, 2))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_window_that_was_computed_again_in_vain_is_so_again_under_the_next_prompt(model, waves, first, second):
    """`keep_sinks` of both prompts; a chunk is abandoned after the first one's recache."""
    settings, stops = replace(KINDS["sinks that fade"], steps=1), {"now": False}
    streams = [
        open_stream(model, model.anchor(7, text(1)), settings, waves(), should_stop=lambda: stops["now"]),
        open_stream(model, model.anchor(7, text(1)), settings, waves()),
    ]
    for stream, abandons in zip(streams, (True, False), strict=True):
        take(stream, 5)
        stream.set_text(text(2), recache=True, keep_sinks=first)
        stops["now"] = abandons
        if abandons:
            assert next(stream, None) is None
        stops["now"] = False
        stream.set_text(text(3), recache=second)
    assert same(*(take(stream, 3) for stream in streams))


def test_a_driving_that_fails_leaves_what_was_asked_of_its_chunk(model, waves):
    """An error is as a stop: the window is computed again when the chunk is drawn after all."""

    class Loose:
        num_pixel_frames, broken = None, False

        def signal(self, first, count):
            if self.broken:
                raise RuntimeError("a cable came loose")
            return waves().signal(first, count)

    driving, settings = Loose(), replace(KINDS["window"], steps=1)
    stream = open_stream(model, model.anchor(7, text(1)), settings, driving)
    other = open_stream(model, model.anchor(7, text(1)), settings, waves())
    for one in (stream, other):
        take(one, 4)
        one.set_text(text(2), recache=True)
    driving.broken = True
    with pytest.raises(RuntimeError, match="cable"):
        next(stream)
    driving.broken = False
    assert same(take(stream, 2), take(other, 2))
