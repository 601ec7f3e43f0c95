"""A stream that is changed between two chunks is, bit for bit, one saved there and gone on with under the new values;
one whose last chunks are taken back, or whose chunk under way is abandoned, is one that never drew them.
"""

import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from knot_core import SettingsError, pipelined
from knot_core import cache as cache_module
from knot_core.config import StreamSettings
from knot_core.geometry import first_pixel_frame, whole_chunks
from knot_core.stream import (
    change_anchor,
    change_settings,
    continue_stream,
    open_stream,
    resume_stream,
    state_of,
)

from .compared_chunks import same, take

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
KINDS = {
    "window": SETTINGS,
    "long knot, sinks": StreamSettings(
        steps=1, num_chunk_frames=4, num_knot_frames=2, num_window_frames=3, num_sink_frames=3
    ),
    "sinks that follow": StreamSettings(steps=1, num_window_frames=4, num_sink_frames=3, rope_positions="window"),
    "sinks that fade": StreamSettings(
        steps=1, num_window_frames=3, num_sink_frames=2, rope_positions="window", sink_decay=0.8
    ),
    "sinks that fade in place": StreamSettings(steps=1, num_window_frames=2, num_sink_frames=3, sink_decay=0.7),
    "no window": StreamSettings(steps=1, num_window_frames=0),
    "from the reference": StreamSettings(steps=2, start_from_reference=True, first_timesteps=(1000.0, 600.0)),
    "none": StreamSettings(steps=2, num_window_frames=4, commit="none"),
    "none, with sinks": StreamSettings(steps=2, num_window_frames=4, num_sink_frames=2, commit="none"),
    "recompute": StreamSettings(steps=1, num_window_frames=5, commit="recompute"),
    "guided": StreamSettings(steps=1, num_window_frames=4, text_guidance=2.0, sound_guidance=1.5),
}
IN_PLACE = StreamSettings(steps=3, num_window_frames=3, num_sink_frames=3, commit="in_place")
OTHERS = {
    "steps": {"steps": 3},
    "shift": {"shift": 2.0},
    "timesteps": {"timesteps": (1000.0, 500.0, 250.0)},
    "sigma table": {"timesteps": (1000.0, 500.0, 0.0), "sigma_table": True},
    "sampler": {"sampler": "euler", "steps": 3},
    "fusion": {"fusion": 0.9},
    "running ahead": {"run_ahead_stride": 7, "run_ahead_start": 2},
    "no running ahead": {"run_ahead_stride": 0},
}


def differ(mine, theirs):
    return not any(torch.equal(one.latents, other.latents) for one, other in zip(mine, theirs, strict=True))


def texts(count=2):
    return [torch.randn(1, 6, 20, generator=torch.Generator().manual_seed(number)) for number in range(count)]


def saved_and_gone_on(stream, model, driving, tmp_path):
    """The stream as a file goes on from here."""
    stream.save(tmp_path / "state")
    return resume_stream(model, tmp_path / "state", driving)


@pytest.fixture(params=KINDS)
def settings(request):
    return KINDS[request.param]


@pytest.fixture(params=[*KINDS, "in place"])
def any_settings(request):
    return IN_PLACE if request.param == "in place" else KINDS[request.param]


# --- settings


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("after", [0, 1, 4])
def test_other_settings_hold_from_the_next_chunk_on_and_in_a_file(model, anchor, waves, tmp_path, name, after):
    new = replace(SETTINGS, **OTHERS[name])
    stream = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    take(stream, after)
    before = state_of(stream)
    stream.set_settings(new)
    resumed = saved_and_gone_on(stream, model, waves(), tmp_path)
    assert resumed.settings == new
    by_value = continue_stream(model, change_settings(before, new), waves())
    assert stream.plan == resumed.plan == by_value.plan
    mine = take(stream, 3)
    assert same(mine, take(resumed, 3))
    assert same(mine, take(by_value, 3))
    assert not same_bits(mine[-1], take(continue_stream(model, before, waves()), 3)[-1])


def same_bits(one, other):
    return torch.equal(one.latents, other.latents)


def test_settings_before_the_first_chunk_are_those_of_the_whole_stream(model, anchor, waves):
    new = replace(SETTINGS, run_ahead_start=2, num_chunk_frames=2, first_timesteps=(900.0, 300.0))
    stream = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    stream.set_settings(new)
    assert same(take(stream, 4), take(open_stream(model, anchor, new, waves(), seed=3), 4))


def test_chunks_of_another_length_are_those_of_a_stream_saved_there(make_model, waves, tmp_path, settings):
    model = make_model()
    stream, frames = open_stream(model, model.anchor(text=texts()[0]), settings, waves(), seed=3), 0
    frames += sum(len(chunk.latents) for chunk in take(stream, 3))
    for length in (2, 5):
        before = state_of(stream)
        stream.set_settings(replace(settings, num_chunk_frames=length))
        resumed = saved_and_gone_on(stream, model, waves(), tmp_path)
        by_value = continue_stream(model, change_settings(before, stream.settings), waves())
        mine = take(stream, 3)
        assert [chunk.start_frame for chunk in mine] == [frames + length * number for number in range(3)]
        assert [chunk.first_pixel_frame for chunk in mine] == [first_pixel_frame(chunk.start_frame) for chunk in mine]
        assert all(len(chunk.pixel_frames) == 4 * length for chunk in mine)
        frames += 3 * length
        assert same(mine, take(resumed, 3))
        assert same(mine, take(by_value, 3))


def test_one_latent_frame_at_a_time_sees_the_same_window(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 3)
    stream.set_settings(replace(SETTINGS, num_chunk_frames=1))
    assert (stream.plan.start, list(stream.plan.window), list(stream.plan.positions)) == (9, [5, 6, 7, 8], [9, 10])
    chunk = next(stream)
    assert (chunk.index, chunk.start_frame, len(chunk.latents), len(chunk.pixel_frames)) == (3, 9, 1, 4)
    assert list(stream.plan.window) == [6, 7, 8, 9]


def test_a_window_computed_anew_is_so_after_chunks_of_another_length(make_model, waves):
    """A recache needs the latents of sinks and window, which longer chunks kept and shorter ones keep."""
    model, (first, second) = make_model("t2v16", adapter=None), texts()
    for lengths in ((3, 1), (1, 3)):
        stream = open_stream(model, model.anchor(text=first), replace(SETTINGS, num_chunk_frames=lengths[0]), waves())
        take(stream, 6)
        stream.set_settings(replace(SETTINGS, num_chunk_frames=lengths[1]))
        twin = stream.fork()
        stream.set_text(second, recache=True)
        twin.set_text(second)
        assert not same_bits(take(stream, 2)[1], take(twin, 2)[1])


def test_longer_chunks_make_room_and_shorter_ones_leave_it(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    sizes = []
    for length in (3, 1, 5, 2, 5):
        stream.set_settings(replace(SETTINGS, num_chunk_frames=length))
        take(stream, 2)
        sizes.append(stream.num_cache_bytes)
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3] == sizes[4]


def test_without_memory_for_longer_chunks_the_stream_stands_and_goes_on_with_shorter_ones(
    model, anchor, waves, monkeypatch
):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 4)
    stream = open_stream(model, anchor, SETTINGS, waves())
    given = take(stream, 2)
    stream.set_settings(replace(SETTINGS, num_chunk_frames=9))
    monkeypatch.setattr(cache_module, "free_memory", lambda _device: 1000)
    with pytest.raises(SettingsError, match="the cache needs"):
        next(stream)
    stream.set_settings(SETTINGS)
    assert same(given + take(stream, 2), whole)


@pytest.mark.parametrize(
    ("base", "change", "wanted"),
    [
        (SETTINGS, {"num_window_frames": 5}, "^num_window_frames cannot change while a stream runs, num_chunk"),
        (SETTINGS, {"num_sink_frames": 1, "steps": 3}, "^num_sink_frames cannot change"),
        (SETTINGS, {"commit": "none", "use_anchor": False}, "^use_anchor, commit cannot change"),
        (SETTINGS, {"num_knot_frames": 2}, "^num_knot_frames cannot change"),
        (SETTINGS, {"text_guidance": 2.0}, "^text_guidance cannot change"),
        (
            replace(IN_PLACE, num_window_frames=6, num_sink_frames=6), {"num_chunk_frames": 6},
            "^num_chunk_frames cannot change from 3 to 6 while a stream runs whose commit is in_place",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_change_is_refused_by_name_and_nothing_has_changed(model, anchor, waves, base, change, wanted):
    stream, plain = (open_stream(model, anchor, base, waves()) for _ in range(2))
    take(stream, 2)
    with pytest.raises(SettingsError, match=wanted):
        stream.set_settings(replace(base, **change))
    with pytest.raises(SettingsError, match=wanted):
        change_settings(state_of(stream), replace(base, **change))
    assert same(take(stream, 2), take(plain, 4)[2:])


def test_in_place_the_steps_may_change(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, IN_PLACE, waves())
    take(stream, 4)
    stream.set_settings(replace(IN_PLACE, steps=2))
    resumed = saved_and_gone_on(stream, model, waves(), tmp_path)
    assert same(take(stream, 4), take(resumed, 4))


# --- chunks that are taken back


@pytest.mark.parametrize("after", [3, 7])
def test_chunks_taken_back_are_drawn_again_bit_for_bit(model, anchor, waves, any_settings, after):
    whole = take(open_stream(model, anchor, any_settings, waves(), seed=3), after + 3)
    stream = open_stream(model, anchor, any_settings, waves(), seed=3)
    stream.keep(3)
    assert same(take(stream, after), whole[:after])
    stream.take_back(3)
    assert stream.plan.chunk == after - 3
    assert same(take(stream, 4), whole[after - 3 : after + 1])
    stream.take_back(1)
    stream.take_back()
    assert same(take(stream, 4), whole[after - 1 :])


@pytest.mark.parametrize("after", [2, 6])
def test_they_are_drawn_under_what_is_set_now(make_model, waves, tmp_path, any_settings, after):
    """As a stream saved before them and gone on with under it."""
    model, (first, second) = make_model(), texts()
    anchors = [model.anchor(seed, first) for seed in (7, 8)]
    stream = open_stream(model, anchors[0], any_settings, waves(), seed=3)
    stream.keep(2)
    take(stream, after - 2)
    stood = state_of(stream)
    take(stream, 1)
    new = replace(any_settings, steps=2, fusion=0.75)
    if any_settings.commit != "in_place":
        new = replace(new, num_chunk_frames=2)
    stream.set_settings(new)
    take(stream, 1)
    stream.set_anchor(anchors[1])
    stream.set_text(second)
    stream.set_driving(waves(phase=1.0), origin=0)
    stream.take_back(2)
    other = continue_stream(model, change_settings(change_anchor(stood, anchors[1]), new), waves())
    other.set_text(second)
    other.set_driving(waves(phase=1.0), origin=0)
    assert stream.plan == other.plan
    resumed = saved_and_gone_on(stream, model, waves(phase=1.0), tmp_path)
    mine = take(stream, 4)
    assert same(mine, take(other, 4))
    assert same(mine, take(resumed, 4))


def test_a_driving_that_began_with_a_chunk_taken_back_begins_where_the_stream_stands(model, anchor, waves):
    stream, other = (open_stream(model, anchor, SETTINGS, waves()) for _ in range(2))
    stream.keep(2)
    take(stream, 4)
    stream.set_driving(waves(phase=1.0))
    take(stream, 1)
    stream.take_back(2)
    take(other, 3)
    other.set_driving(waves(phase=1.0))
    assert same(take(stream, 3), take(other, 3))


@pytest.mark.parametrize("keep_sinks", [True, False])
def test_a_recache_that_is_taken_back_is_made_again(make_model, waves, keep_sinks):
    model, (first, second) = make_model("t2v16", adapter=None), texts()
    settings = StreamSettings(steps=1, num_window_frames=3, num_sink_frames=2, rope_positions="window")
    stream, other = (open_stream(model, model.anchor(text=first), settings, waves()) for _ in range(2))
    stream.keep(3)
    for one in (stream, other):
        take(one, 5)
        one.set_text(second, recache=True, keep_sinks=keep_sinks)
    take(stream, 2)
    stream.take_back(2)
    assert same(take(stream, 3), take(other, 3))


def test_more_than_is_kept_is_refused_and_the_stream_stands(model, anchor, waves):
    stream, plain = (open_stream(model, anchor, SETTINGS, waves()) for _ in range(2))
    take(stream, 2)
    with pytest.raises(SettingsError, match=r"1 chunks are to be taken back, and 0 are kept; call keep"):
        stream.take_back()
    stream.keep(2)
    take(stream, 1)
    with pytest.raises(SettingsError, match=r"2 chunks are to be taken back, and 1 are kept"):
        stream.take_back(2)
    take(stream, 3)
    stream.keep(1)
    with pytest.raises(SettingsError, match=r"2 chunks are to be taken back, and 1 are kept"):
        stream.take_back(2)
    with pytest.raises(SettingsError, match="-1 chunks are to be kept"):
        stream.keep(-1)
    assert same(take(stream, 2), take(plain, 8)[6:])


def test_what_is_kept_takes_no_more_memory_as_the_stream_goes_on(model, anchor, waves, any_settings):
    def held(value, seen):
        if isinstance(value, torch.Tensor):
            return {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()}
        parts = value if isinstance(value, list | tuple) else vars(value).values() if hasattr(value, "__dict__") else ()
        found = {}
        for part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                found |= held(part, seen)
        return found

    stream = open_stream(model, anchor, any_settings, waves())
    stream.keep(2)
    sizes = []
    for _ in range(12):
        next(stream)
        sizes.append(sum(held(list(stream.undo_log._chunks), set()).values()))
    assert sizes[6] > 0
    assert max(sizes[6:]) == max(sizes[6:9])


def test_chunks_that_were_drawn_ahead_can_be_taken_back_afterwards(model, anchor, waves, any_settings):
    whole = take(open_stream(model, anchor, any_settings, waves(), seed=3), 9)
    stream = open_stream(model, anchor, any_settings, waves(), seed=3)
    stream.keep(3)
    with closing(pipelined(stream)) as chunks:
        assert same(take(chunks, 5), whole[:5])
        time.sleep(0.02)
        with pytest.raises(SettingsError, match="drawn ahead"):
            stream.take_back()
    stream.take_back(2)
    assert same(take(stream, 1), whole[3:4])
    stream.take_back(2)
    assert same(take(pipelined(stream), 4), whole[2:6])


def test_while_a_chunk_is_under_way_nothing_is_taken_back(model, anchor, waves):
    whole, found = take(open_stream(model, anchor, SETTINGS, waves()), 3), []

    def progress(_done, _stages):
        if stream.plan.chunk == 2:
            with pytest.raises(SettingsError, match="a chunk is under way") as raised:
                stream.take_back()
            found.append(raised)

    stream = open_stream(model, anchor, SETTINGS, waves(), progress=progress)
    stream.keep(2)
    assert same(take(stream, 3), whole)
    assert len(found) == 4


class Ending:
    """A driving of some pixel frames that ends where a chunk does."""

    def __init__(self, waves, length, chunks) -> None:
        self._waves, self._length, self.chunks = waves, length, chunks
        self.signal = waves.signal

    @property
    def num_pixel_frames(self):
        return whole_chunks(*self.chunks, self._length)

    def in_whole_chunks(self, start, num_chunk_frames):
        return Ending(self._waves, self._length, (start, num_chunk_frames))


@pytest.mark.parametrize(("longer", "frames"), [(1, 41), (2, 45), (5, 41)])
def test_a_driving_of_whole_chunks_ends_with_a_chunk_of_the_length_they_have_now(model, anchor, waves, longer, frames):
    settings = replace(SETTINGS, num_chunk_frames=3)
    stream = open_stream(model, anchor, settings, Ending(waves(), 38, (0, 3)))
    made = len(next(stream).pixel_frames) + len(next(stream).pixel_frames)
    stream.set_settings(replace(settings, num_chunk_frames=longer))
    lengths = [len(chunk.pixel_frames) for chunk in stream]
    assert set(lengths) == {4 * longer}, "none is cut short"
    assert made + sum(lengths) == frames
