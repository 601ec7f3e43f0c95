"""A stream whose last chunk is cut short stands behind the frames that stay, and goes on without a knot."""

from dataclasses import replace

import pytest
import torch

from knot_core import SettingsError
from knot_core.config import StreamSettings
from knot_core.geometry import first_pixel_frame
from knot_core.stream import open_stream, resume_stream, state_of
from knot_core.stream.late_decoding import LateDecoder, LateMemory

from .compared_chunks import same, take

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
KINDS = {
    "window": SETTINGS,
    "sinks": replace(SETTINGS, num_sink_frames=2),
    "from the reference": replace(SETTINGS, start_from_reference=True),
    "no anchor": replace(SETTINGS, use_anchor=False),
}
ROUNDING = 1  # of 255 levels, between frames that were decoded one by one and at once


@pytest.fixture(params=KINDS)
def settings(request):
    return KINDS[request.param]


def cut(model, anchor, waves, settings, after, stay):
    """A stream that has drawn so many chunks and is cut short; with those chunks."""
    stream = open_stream(model, anchor, settings, waves(), seed=3)
    stream.keep(2)
    drawn = take(stream, after)
    stream.cut_short(stay)
    return stream, drawn


def by_frame(saved):
    """Keys and values of each committed frame that is held, layer by layer."""
    frames = saved.window_index.frames()
    layers = [layer.chunk(len(frames), dim=2) for layer in saved.window]
    return {frame: torch.stack([layer[place] for layer in layers]) for place, frame in enumerate(frames)}


@pytest.mark.parametrize("after", [1, 2, 4])
@pytest.mark.parametrize("stay", [1, 2])
def test_the_window_holds_the_frames_that_stay_and_what_the_others_had_driven_out(
    model, anchor, waves, settings, after, stay
):
    whole = open_stream(model, anchor, settings, waves(), seed=3)
    take(whole, after - 1)
    held = {frame: keys.clone() for frame, keys in by_frame(state_of(whole)).items()} if after > 1 else {}
    last = take(whole, 1)[0]
    held |= {frame: keys for frame, keys in by_frame(state_of(whole)).items() if frame >= last.start_frame}
    stream, drawn = cut(model, anchor, waves, settings, after, stay)
    saved, stop = state_of(stream), last.start_frame + stay
    mine = by_frame(saved)
    sinks = range(min(settings.num_sink_frames, stop))
    assert set(mine) == {*sinks, *range(max(len(sinks), stop - settings.num_window_frames), stop)}
    assert all(torch.equal(keys, held[frame]) for frame, keys in mine.items())
    assert (stream.plan.chunk, stream.plan.start) == (after, stop)
    latents = torch.cat([chunk.latents for chunk in drawn])[:stop]
    recent = saved.state.recent_BFCHW[0]
    assert torch.equal(recent, latents[-len(recent) :])


def test_what_follows_begins_where_the_frames_that_stay_end_and_is_saved_with_the_stream(
    model, anchor, waves, settings, tmp_path
):
    stream, drawn = cut(model, anchor, waves, settings, 3, 1)
    assert state_of(stream).state.knot_BMCHW is None  # it lay behind the frames that went
    stream.save(tmp_path / "state.safetensors")
    resumed = resume_stream(model, tmp_path / "state.safetensors", waves())
    mine = take(stream, 3)
    assert same(mine, take(resumed, 3))
    assert mine[0].start_frame == drawn[-1].start_frame + 1
    assert mine[0].index == 3
    assert mine[0].first_pixel_frame == first_pixel_frame(mine[0].start_frame)


def test_the_decoder_stands_behind_the_frames_that_stay(model, anchor, waves):
    """Decoded from there, the frames that went are those that they were."""
    stream, drawn = cut(model, anchor, waves, SETTINGS, 3, 1)
    memory = state_of(stream).state.decoder_memory
    pixels, _ = model.codec.decode(drawn[-1].latents[None, 1:], memory)
    again = pixels[0].clamp(0, 1).mul(255).round().movedim(1, -1)
    assert (again - drawn[-1].pixel_frames[4:].float()).abs().max() <= ROUNDING


def test_what_decoded_them_one_by_one_knows_its_memory_behind_each(model, anchor, waves):
    with LateDecoder(stream := open_stream(model, anchor, SETTINGS, waves(), seed=3)) as decoder:
        stream.keep(1)
        chunk = [decoder.next_chunk() for _ in range(3)][-1]
        chunk.frames.cancel(2)  # of the first latent frame's four
        stream.cut_short(1, LateMemory(chunk.frames, 1))
        following = decoder.next_chunk()
        frames = torch.cat(list(following.frames))
    other, _ = cut(model, anchor, waves, SETTINGS, 3, 1)
    theirs = next(other)
    assert torch.equal(following.latents, theirs.latents)
    assert (frames.int() - theirs.pixel_frames.int()).abs().max() <= ROUNDING


def test_cut_short_again_and_then_taken_back_it_is_drawn_again_bit_for_bit(model, anchor, waves, settings):
    whole = take(open_stream(model, anchor, settings, waves(), seed=3), 4)
    stream, _ = cut(model, anchor, waves, settings, 3, 2)
    once, _ = cut(model, anchor, waves, settings, 3, 1)
    stream.cut_short(1)
    assert torch.equal(next(stream).latents, next(once).latents)
    stream.take_back(2)
    assert same(take(stream, 2), whole[2:])


def test_dropped_the_knot_holds_the_next_chunk_no_more(make_model, waves):
    """What the new driving says shows in its first frame, as far from the knot as the driving is."""
    model = make_model()
    anchor, found = model.anchor(), {}
    for drops in (False, True):
        stream = open_stream(model, anchor, replace(SETTINGS, fusion=1.0), waves(), seed=3)
        take(stream, 2)
        knot = state_of(stream).state.knot_BMCHW[0]
        stream.set_driving(waves(phase=2.0), origin=0)
        if drops:
            stream.drop_knot()
        found[drops] = (next(stream).latents[:1] - knot).abs().max()
    assert found[False] == 0
    assert found[True] > 0.01


def test_where_a_stream_begins_dropping_the_knot_changes_nothing(model, anchor, waves):
    settings = KINDS["from the reference"]
    stream = open_stream(model, anchor, settings, waves(), seed=3)
    stream.drop_knot()
    assert same(take(stream, 2), take(open_stream(model, anchor, settings, waves(), seed=3), 2))


@pytest.mark.parametrize(
    "settings",
    [replace(SETTINGS, num_window_frames=2), replace(SETTINGS, commit="recompute"),
     replace(SETTINGS, num_sink_frames=2, rope_positions="window")],
)  # fmt: skip
def test_where_a_commit_changes_more_it_is_refused_and_the_stream_stands(model, anchor, waves, settings):
    stream, plain = (open_stream(model, anchor, settings, waves(), seed=3) for _ in range(2))
    stream.keep(1)
    take(stream, 2)
    assert not stream.cuts_short
    with pytest.raises(SettingsError, match="take back the whole chunk"):
        stream.cut_short(1)
    assert same(take(stream, 2), take(plain, 4)[2:])


@pytest.mark.parametrize("stay", [0, 3, -1])
def test_some_frames_stay_and_some_go(model, anchor, waves, stay):
    stream = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    stream.keep(1)
    take(stream, 2)
    with pytest.raises(SettingsError, match=rf"{stay} latent frames .* between 1 and 2"):
        stream.cut_short(stay)


def test_nothing_that_is_not_kept_is_cut_short(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    take(stream, 2)
    with pytest.raises(SettingsError, match="0 are kept"):
        stream.cut_short(1)
