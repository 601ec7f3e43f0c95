"""Another reference while a stream runs, with a cut or without: who is seen changes, clock, noise and driving go on."""

import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from knot_core import SettingsError, pipelined
from knot_core.config import StreamSettings
from knot_core.driving.prompts import PromptTimeline
from knot_core.stream import (
    Conditioning,
    Stream,
    TimedPrompts,
    change_anchor,
    continue_stream,
    encode_latent_anchor,
    open_stream,
    resume_stream,
    state_of,
)
from knot_core.stream.snapshot import first_snapshot

from .compared_chunks import same, take

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
FROM_REFERENCE = replace(SETTINGS, start_from_reference=True)
GREY = {"unknown_frames": "grey", "known_in_x": True}
LAYOUTS = {
    "inpaint36": ("inpaint36", {}, SETTINGS),
    "inpaint36, from the reference, sinks": (
        "inpaint36", {}, replace(FROM_REFERENCE, num_sink_frames=2, rope_positions="window", sink_decay=0.9),
    ),
    "ref33": ("ref33", {}, SETTINGS),
    "ref33, from the reference": ("ref33", {}, FROM_REFERENCE),
    "ref33, computed anew": ("ref33", {}, replace(FROM_REFERENCE, num_window_frames=5, commit="recompute")),
    "t2v16": ("t2v16", {}, SETTINGS),
    "CLIP tokens": ("inpaint36", {"image_dim": 6}, SETTINGS),
    "grey latents": ("inpaint36", GREY, replace(FROM_REFERENCE, use_anchor=False)),
    "guided": ("inpaint36", {}, replace(SETTINGS, text_guidance=2.0, sound_guidance=1.5)),
    "in place": ("t2v16", {}, replace(SETTINGS, num_window_frames=3, num_sink_frames=3, commit="in_place")),
}  # fmt: skip


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(model, seed, **given):
    """The anchor of a reference, with all that the model takes beside it."""
    if model.config.image_dim is not None:
        given.setdefault("image_BTE", drawn(1, 3, 6, seed=seed + 50))
    if model.config.unknown_frames == "grey":
        given.setdefault("grey_BGCHW", drawn(1, 4, 16, 4, 6, seed=seed + 60))
    return encode_latent_anchor(model, drawn(1, 1, 16, 4, 6, seed=seed), **{"text_BTD": text(1), **given})


def text(seed):
    return drawn(1, 6, 20, seed=seed)


@pytest.fixture(scope="module", params=LAYOUTS)
def case(request, make_model):
    layout, changes, settings = LAYOUTS[request.param]
    model = make_model(layout, **changes)
    return model, settings, made(model, 7), made(model, 8)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("after", [0, 3])
def test_it_holds_from_the_next_chunk_on_and_in_a_file(case, waves, tmp_path, after, cut):
    model, settings, first, second = case
    stream = open_stream(model, first, settings, waves(), seed=3)
    take(stream, after)
    before = state_of(stream)
    stream.set_anchor(second, cut=cut)
    assert stream.anchor == second
    stream.save(tmp_path / "state")
    resumed, forked = resume_stream(model, tmp_path / "state", waves()), stream.fork()
    by_value = continue_stream(model, change_anchor(before, second, cut=cut), waves())
    assert resumed.anchor.digest == second.digest
    assert stream.plan == resumed.plan == by_value.plan
    mine = take(stream, 3)
    assert all(same(mine, take(other, 3)) for other in (resumed, forked, by_value))
    assert not torch.equal(mine[1].latents, take(continue_stream(model, before, waves()), 2)[1].latents)
    if after == 0:
        assert same(mine, take(open_stream(model, second, settings, waves(), seed=3), 3))


def test_a_cut_is_a_beginning_of_its_own(case, waves):
    """The latents of a stream that was opened there, with this one's noise and in its driving's time."""
    model, settings, first, second = case
    stream = open_stream(model, first, settings, waves(), seed=3)
    take(stream, 3)
    reached = state_of(stream).state
    begun = first_snapshot(settings, second, 0, start=9)
    kept = {"rng_state": reached.rng_state, "driving_origin": reached.driving_origin}
    opened = Stream(model, replace(begun, state=replace(begun.state, **kept)), waves())
    stream.set_anchor(second, cut=True)
    assert (stream.plan.chunk, stream.plan.start, len(stream.plan.window)) == (3, 9, 0)
    mine, theirs = take(stream, 3), take(opened, 3)
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(mine, theirs, strict=True))
    assert [chunk.first_pixel_frame for chunk in mine] == [33, 45, 57]
    assert [len(chunk.pixel_frames) for chunk in mine] == [12, 12, 12], "its pictures last as long as any chunk's"
    assert [len(chunk.pixel_frames) for chunk in theirs] == [9, 12, 12]


def test_without_a_cut_the_knot_stays_and_with_it_it_goes(model, waves):
    stream = open_stream(model, made(model, 7), SETTINGS, waves())
    take(stream, 3)
    knot = stream.state.knot_BMCHW
    stream.set_anchor(made(model, 8))
    saved = state_of(stream)
    assert torch.equal(saved.state.knot_BMCHW, knot)
    assert (saved.window_index.num_committed, len(saved.window)) == (9, 3)
    stream.set_anchor(made(model, 9), cut=True)
    saved = state_of(stream)
    assert saved.state.knot_BMCHW is saved.state.decoder_memory is saved.state.recent_BFCHW is None
    assert (saved.window_index.num_committed, saved.window, saved.sinks) == (0, (), ())
    assert (saved.state.clock.chunk, saved.state.clock.start, saved.state.clock.anchor_position) == (3, 9, 17)


# --- the prompt


def test_the_anchors_own_prompt_comes_with_it(model, waves):
    stream = open_stream(model, made(model, 7), SETTINGS, waves())
    second = made(model, 8, text_BTD=text(2), negative_BTD=text(3))
    take(stream, 1)
    stream.set_anchor(second)
    assert stream.conditioning == second.conditioning


def test_unless_the_stream_was_told_another_which_a_file_knows_too(make_model, waves, tmp_path):
    model = make_model(image_dim=6)
    stream = open_stream(model, made(model, 7, negative_BTD=text(4)), SETTINGS, waves())
    second = made(model, 8, text_BTD=text(2))
    take(stream, 1)
    stream.set_text(text(9))
    stream.save(tmp_path / "state")
    resumed = resume_stream(model, tmp_path / "state", waves())
    for one in (stream, resumed):
        one.set_anchor(second)
        told = one.conditioning
        assert torch.equal(told.text_BTD, text(9))
        assert torch.equal(told.image_BTE, second.conditioning.image_BTE), "it is the reference's"
        assert torch.equal(told.negative_BTD, text(4)), "the new one has none"
        one.set_anchor(made(model, 8, negative_BTD=text(5)))
        assert torch.equal(one.conditioning.negative_BTD, text(5))
    assert same(take(stream, 2), take(resumed, 2))


def test_prompts_over_time_stay(model, waves):
    timed = TimedPrompts(timeline=PromptTimeline(times=(0.0,), prompts=("a",)), texts_BTD=None)
    told = Conditioning(text_BTD=text(1), prompts=timed)
    stream = open_stream(model, made(model, 7), SETTINGS, waves(), conditioning=told)
    stream.set_anchor(made(model, 8, text_BTD=text(2)))
    assert stream.conditioning == told


# --- what cannot be


def test_what_a_stream_cannot_look_at_is_refused_and_it_goes_on(make_model, model, waves):
    anchor = made(model, 7)
    stream, plain = (open_stream(model, anchor, SETTINGS, waves()) for _ in range(2))
    take(stream, 2)
    wide = encode_latent_anchor(model, drawn(1, 1, 16, 4, 8, seed=1))
    for other, wanted in [
        (made(make_model(seed=1), 8), "encoded by another model"),
        (wide, r"the anchor's picture has 64 x 32 pixels and the stream 48 x 32"),
        (replace(made(model, 8), has_picture=False), "the anchor has no picture"),
    ]:
        with pytest.raises(SettingsError, match=wanted):
            stream.set_anchor(other)
        with pytest.raises(SettingsError, match=wanted):
            change_anchor(state_of(stream), other)
    assert same(take(stream, 2), take(plain, 4)[2:])


# --- chunks taken back


def test_a_cut_behind_chunks_that_are_taken_back_is_made_where_the_stream_then_stands(case, waves):
    model, settings, first, second = case
    for drawn_after in (0, 1, 2):
        stream, other = (open_stream(model, first, settings, waves(), seed=3) for _ in range(2))
        stream.keep(4)
        take(stream, 4)
        stream.set_anchor(second, cut=True)
        take(stream, drawn_after)
        stream.take_back(1 + drawn_after)
        take(other, 3)
        other.set_anchor(second, cut=True)
        assert stream.plan == other.plan
        assert same(take(stream, 3), take(other, 3))


def test_taken_back_to_a_cut_the_stream_begins_anew_from_the_reference_that_is_set_now(case, waves):
    model, settings, first, second = case
    third = made(model, 9)
    stream, other = (open_stream(model, first, settings, waves(), seed=3) for _ in range(2))
    stream.keep(4)
    for one, cut_to in ((stream, second), (other, third)):
        take(one, 3)
        one.set_anchor(cut_to, cut=True)
    take(stream, 2)
    stream.set_anchor(third)
    stream.take_back(2)
    assert same(take(stream, 3), take(other, 3))


# --- chunks drawn ahead


def test_ahead_it_holds_with_the_next_chunk_that_has_not_begun(case, waves):
    model, settings, first, second = case
    stream, by_hand = (open_stream(model, first, settings, waves(), seed=3) for _ in range(2))
    new = replace(settings, fusion=0.9, steps=1)
    if settings.commit != "in_place":
        new = replace(new, num_chunk_frames=5)
    with closing(pipelined(stream)) as chunks:
        given = take(chunks, 2)
        with stream.lock:
            begun = stream.ahead.next_clock.chunk
            stream.set_anchor(second)
            stream.set_settings(new)
        given += take(chunks, begun + 1)
    wanted = take(by_hand, begun)
    by_hand.set_anchor(second)
    by_hand.set_settings(new)
    assert same(given, wanted + take(by_hand, 3))
    assert same(take(stream, 2), take(by_hand, 2))


def test_states_saved_while_it_takes_hold_are_those_of_the_last_chunk_given(model, waves, tmp_path):
    first, second = made(model, 7), made(model, 8)
    stream, whole = open_stream(model, first, SETTINGS, waves()), []
    with closing(pipelined(stream)) as chunks:
        for chunk in chunks:
            whole.append(chunk)
            if chunk.index == 1:
                stream.set_anchor(second)
                stream.set_settings(replace(SETTINGS, num_chunk_frames=1, fusion=0.9))
            time.sleep(0.02)
            stream.save(tmp_path / f"{chunk.index}")
            if chunk.index == 9:
                break
    seen = set()
    for number in range(9):
        resumed = resume_stream(model, tmp_path / f"{number}", waves())
        assert same(take(resumed, 1), whole[number + 1 : number + 2])
        seen.add((resumed.anchor.digest, resumed.settings.num_chunk_frames))
    assert seen == {(first.digest, 3), (second.digest, 1)}


def test_ahead_a_cut_is_refused_and_one_that_was_asked_before_is_made(model, waves):
    first, second = made(model, 7), made(model, 8)
    stream, by_hand = (open_stream(model, first, SETTINGS, waves()) for _ in range(2))
    for one in (stream, by_hand):
        take(one, 2)
        one.set_anchor(second, cut=True)
    with closing(pipelined(stream)) as chunks:
        given = take(chunks, 2)
        with pytest.raises(SettingsError, match=r"drawn ahead by pipelined\(\).*close it first"):
            stream.set_anchor(first, cut=True)
        given += take(chunks, 1)
    assert same(given, take(by_hand, 3))
