"""Prompts over time: what is read, which chunk has which, and that a stream obeys."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knot_core.config import StreamSettings
from knot_core.driving.prompts import PromptTimeline, describe, parse_prompts
from knot_core.errors import DrivingError, KnotError, SettingsError
from knot_core.geometry import first_pixel_frame
from knot_core.stream import TimedPrompts, load_stream, open_stream, resume_stream
from knot_core.stream.prompting import blend, follow_prompts

SHORT = {"num_chunk_frames": 2, "num_knot_frames": 1, "num_window_frames": 4, "steps": 2}


@pytest.mark.parametrize(
    ("text", "times", "prompts"),
    [
        ("0:00 calm / 0:12 laughing", (0, 12), ("calm", "laughing")),
        ("0:00 calm\n0:12.5 laughing\n\n1:00:00 asleep\n", (0, 12.5, 3600), ("calm", "laughing", "asleep")),
        ("0:00 this and/or that, 1/2 / 5 fingers", (0,), ("this and/or that, 1/2 / 5 fingers",)),
        ("  0:00   a   b  /0:01 c\r\n0:02 d", (0, 1, 2), ("a b", "c", "d")),
        ("0:00 it is 0:30 now", (0,), ("it is 0:30 now",)),
    ],
)
def test_prompts_are_read(text, times, prompts):
    found = parse_prompts(text)
    assert (found.times, found.prompts) == (times, prompts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no prompt"),
        ("calm", "begins with 'calm', which has no time"),
        ("hello / 0:00 calm", "begins with 'hello"),
        ("0:05 calm", "first prompt begins at 0:05; begin with one at 0:00"),
        ("0:00 a / 0:07 b / 0:07 c", "at 0:07 comes after one at 0:07"),
        ("0:00 a / 0:07 / 0:09 c", "the prompt at 0:07 has no words"),
        ("0:00 a / 0:75 b", "at most 59"),
        ("0:00 a / " + "9" * 30 + ":00 b", "the time is"),
    ],
)
def test_bad_prompts_get_one_sentence(text, says):
    with pytest.raises(DrivingError, match=says):
        parse_prompts(text)


def test_blending_is_a_whole_number_of_chunks():
    with pytest.raises(DrivingError, match="blend_chunks is -1"):
        parse_prompts("0:00 a", -1)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789:./ \n\tabc", max_size=40) | st.text(max_size=30))
def test_anything_is_prompts_or_a_clear_error(text):
    try:
        found = parse_prompts(text)
    except KnotError:
        return
    assert sum(found.plan(3, 25).weights(5)) == pytest.approx(1)


@pytest.mark.parametrize("num_chunk_frames", [1, 3, 5])
@pytest.mark.parametrize("seconds", [0.04, 0.4, 1, 12, 3599.96])
def test_a_prompt_begins_with_the_first_chunk_at_its_time_or_later(num_chunk_frames, seconds):
    (_, start) = PromptTimeline(times=(0, seconds), prompts=("a", "b")).plan(num_chunk_frames, 25).starts
    assert first_pixel_frame(start * num_chunk_frames) >= round(seconds * 25)
    assert first_pixel_frame((start - 1) * num_chunk_frames) < round(seconds * 25)


timelines = st.lists(st.integers(1, 400), max_size=5, unique=True).map(lambda times: [0, *sorted(times)])


@settings(max_examples=100, deadline=None)
@given(timelines, st.integers(0, 6), st.integers(1, 4))
def test_weights_are_a_mixture_that_moves_by_at_most_one_share(times, blend_chunks, num_chunk_frames):
    names = tuple(f"p{number}" for number in range(len(times)))
    timeline = PromptTimeline(times=tuple(t / 10 for t in times), prompts=names, blend_chunks=blend_chunks)
    plan = timeline.plan(num_chunk_frames, 25)
    before = plan.weights(0)
    assert before[0] == 1 or plan.starts[1] == 0
    for chunk in range(1, 200):
        weights = plan.weights(chunk)
        assert min(weights) >= 0
        assert sum(weights) == pytest.approx(1)
        if chunk not in plan.starts:
            moved = max(abs(a - b) for a, b in zip(before, weights, strict=True))
            assert moved <= 1 / (blend_chunks + 1) + 1e-9
        before = weights
    assert plan.weights(10**9)[-1] == 1, "the last prompt holds for ever"


def test_a_blend_passes_in_equal_steps():
    plan = PromptTimeline(times=(0, 1), prompts=("a", "b"), blend_chunks=3).plan(3, 25)
    shares = [plan.weights(chunk)[1] for chunk in range(plan.starts[1] - 1, plan.starts[1] + 5)]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_a_plan_can_be_read():
    assert describe(parse_prompts("0:00 calm / 0:12 laughing"), 3, 25) == (
        "chunk 0 at 0:00: calm\nchunk 26 at 0:12.36: laughing"
    )


# the stream


def text(model, seed: int) -> torch.Tensor:
    return torch.randn(1, 3, model.config.text_dim, generator=torch.Generator().manual_seed(seed))


def latents(chunks) -> list[torch.Tensor]:
    return [chunk.latents for chunk in chunks]


def test_a_prompt_takes_effect_with_its_chunk_and_not_before(model, waves):
    calm, laughing = text(model, 1), text(model, 2)
    anchor, steps = model.anchor(text=calm), StreamSettings(**SHORT)
    plan = PromptTimeline(times=(0, 0.6), prompts=("calm", "laughing")).plan(2, 25)
    assert plan.starts == (0, 3)
    plain = latents(open_stream(model, anchor, steps, waves(40)))
    made = latents(follow_prompts(open_stream(model, anchor, steps, waves(40)), plan, [calm, laughing]))
    assert len(made) == len(plain) == 6
    assert all(torch.equal(one, other) for one, other in zip(made[:3], plain[:3], strict=True))
    assert not torch.allclose(made[3], plain[3])


def test_a_stream_saved_under_another_prompt_goes_on_under_it(model, waves, tmp_path):
    anchor, steps = model.anchor(text=text(model, 1)), StreamSettings(**SHORT)
    stream = open_stream(model, anchor, steps, waves(60))
    next(stream)
    stream.set_text(text(model, 2))
    next(stream)
    stream.save(tmp_path / "s")
    resumed = resume_stream(model, tmp_path / "s", waves(60))
    assert torch.equal(next(resumed).latents, next(stream).latents)


def test_what_is_said_is_told_apart_from_who_is_seen(model, waves):
    """Another prompt makes another conditioning, of the stream alone; a timeline makes another one as well."""
    anchor = model.anchor(text=text(model, 1))
    stream = open_stream(model, anchor, StreamSettings(**SHORT), waves(60))
    stream.set_text(text(model, 2))
    assert stream.anchor is anchor
    assert stream.conditioning != anchor.conditioning
    again = open_stream(model, anchor, StreamSettings(**SHORT), waves(60), conditioning=stream.conditioning)
    assert torch.equal(next(again).latents, next(stream).latents)
    timed = replace(anchor, conditioning=replace(anchor.conditioning, prompts=timed_prompts(model)))
    assert timed != anchor
    assert timed.digest == anchor.digest
    assert model.anchor(text=text(model, 1)) == anchor
    assert hash(model.anchor(text=text(model, 1))) == hash(anchor)
    assert model.anchor(text=text(model, 2)) != anchor


def timed_prompts(model) -> TimedPrompts:
    calm, laughing = text(model, 1), text(model, 2)
    timeline = PromptTimeline(times=(0, 0.6, 1), prompts=("calm", "laughing", "calm"), blend_chunks=2, recache=True)
    return TimedPrompts(timeline=timeline, texts_BTD=(calm, laughing, calm))


@pytest.mark.parametrize("encoded", [True, False])
def test_a_state_file_keeps_prompts_over_time(model, waves, tmp_path, encoded):
    prompts = timed_prompts(model)
    prompts = prompts if encoded else replace(prompts, texts_BTD=None)
    anchor = model.anchor(text=text(model, 3))
    told = replace(anchor.conditioning, prompts=prompts)
    stream = open_stream(model, anchor, StreamSettings(**SHORT), waves(60), conditioning=told)
    next(stream)
    stream.save(tmp_path / "s")
    loaded = load_stream(tmp_path / "s", model).conditioning
    assert loaded == told
    assert loaded.prompts.timeline == prompts.timeline
    assert (loaded.prompts.texts_BTD is not None) == encoded


def test_a_mixture_is_the_sum_of_its_shares(model):
    one, other = text(model, 1), text(model, 2)
    torch.testing.assert_close(blend([one, other], [0.25, 0.75]), 0.25 * one + 0.75 * other)
    assert blend([one, other], [0.0, 1.0]) is other


def test_prompts_that_do_not_fit_are_refused(model, anchor, waves):
    stream = open_stream(model, anchor, StreamSettings(**SHORT), waves(10))
    with pytest.raises(SettingsError, match="this model takes"):
        stream.set_text(torch.zeros(1, 3, 7))
    plan = PromptTimeline(times=(0, 1), prompts=("a", "b")).plan(2, 25)
    with pytest.raises(SettingsError, match="got 1 encoded prompts"):
        next(follow_prompts(stream, plan, [text(model, 1)]))


def test_where_chunks_change_their_length_a_prompt_still_begins_at_its_time(model, waves):
    calm, laughing = text(model, 1), text(model, 2)
    plan = PromptTimeline(times=(0, 1.2), prompts=("calm", "laughing")).plan(2, 25)
    stream = open_stream(model, model.anchor(text=calm), StreamSettings(**SHORT), waves(60))
    told, set_text = [], stream.set_text

    def tell(prompt, **options):
        told.append((stream.plan.start, torch.equal(prompt, laughing)))
        set_text(prompt, **options)

    stream.set_text = tell
    for chunk in follow_prompts(stream, plan, [calm, laughing]):
        if chunk.index == 1:
            stream.set_settings(replace(stream.settings, num_chunk_frames=1))
    (first, says), (changed, laughs) = told
    assert (first, says, laughs) == (0, False, True)
    assert first_pixel_frame(changed - 1) < 1.2 * 25 <= first_pixel_frame(changed)


@settings(max_examples=60, deadline=None)
@given(timelines, st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))
def test_weights_by_place_are_those_by_number_and_know_no_other_grid(times, blend_chunks, planned, length):
    names = tuple(f"p{number}" for number in range(len(times)))
    timeline = PromptTimeline(times=tuple(t / 10 for t in times), prompts=names, blend_chunks=blend_chunks)
    by_number, by_place = timeline.plan(length, 25), timeline.plan(planned, 25)
    for chunk in range(80):
        assert by_place.weights_at(chunk * length, length) == by_number.weights(chunk)
