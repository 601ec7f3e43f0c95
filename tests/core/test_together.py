"""Chunks of several streams drawn together: each is what the stream draws alone, whatever the others are and do."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event, Timer

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knot_core.cache import KVCache
from knot_core.config import AudioCrossConfig, StreamSettings
from knot_core.errors import SettingsError
from knot_core.stream import (
    DrawingThread,
    LateDecoder,
    Stream,
    Together,
    choose_grouping,
    continue_stream,
    denoise,
    encode_latent_anchor,
    next_chunks,
    open_stream,
    state_of,
)
from knot_core.stream.grouping import Rate, best_rate, some_anchor

from .fuzzing import fuzzed

KINDS = {
    "plain": StreamSettings(steps=2, num_window_frames=4),
    "no window": StreamSettings(steps=2, num_window_frames=0),
    "no knot": StreamSettings(steps=2, num_window_frames=6, num_knot_frames=0, num_chunk_frames=2),
    "no anchor": StreamSettings(steps=2, num_window_frames=5, use_anchor=False),
    "from the reference": StreamSettings(steps=2, start_from_reference=True, run_ahead_stride=3),
    "sinks": StreamSettings(steps=2, num_window_frames=3, num_sink_frames=3),
    "sinks that fade": StreamSettings(
        steps=2, num_window_frames=3, num_sink_frames=2, rope_positions="window", sink_decay=0.8
    ),
    "not committed": StreamSettings(steps=2, num_window_frames=4, commit="none"),
    "in place": StreamSettings(steps=2, num_window_frames=3, num_sink_frames=3, commit="in_place"),
    "recomputed": StreamSettings(steps=3, num_window_frames=5, commit="recompute"),
    "euler": StreamSettings(steps=3, sampler="euler", num_chunk_frames=4, num_window_frames=4),
    "guided": StreamSettings(steps=2, num_window_frames=4, text_guidance=2.0),
    "guided by both": StreamSettings(steps=2, num_window_frames=4, text_guidance=2.0, sound_guidance=3.0),
}
CHANGES = ("driving", "anchor", "cut", "steps", "shorter", "longer", "prompt", "window again", "resumed", "forked")


def text(seed, tokens=6):
    return torch.randn(1, tokens, 20, generator=torch.Generator().manual_seed(seed))


def latents_near(got, wanted, tolerance):
    assert (got.index, got.start_frame, got.latents.shape) == (wanted.index, wanted.start_frame, wanted.latents.shape)
    torch.testing.assert_close(got.latents, wanted.latents, atol=tolerance, rtol=tolerance)


def near(got, wanted, tolerance=1e-5):
    """The same chunk, but for rounding."""
    if wanted is None:
        assert got is None
        return
    latents_near(got, wanted, tolerance)
    assert got.pixel_frames.shape == wanted.pixel_frames.shape
    assert (got.pixel_frames.int() - wanted.pixel_frames.int()).abs().max() <= 1


@dataclass
class Twins:
    """A stream that is drawn with others, and the same one that is always drawn alone."""

    joined: Stream
    alone: Stream

    def changed(self, change, model, waves):
        if change in ("resumed", "forked"):
            self.joined = (
                continue_stream(model, state_of(self.joined), self.joined._driving)
                if change == "resumed"
                else self.joined.fork()
            )
            return
        for stream in (self.joined, self.alone):
            changed(stream, change, model, waves)


def changed(stream, change, model, waves):
    """As somebody may change it between two chunks; what it refuses, both twins do."""
    lengths = {"shorter": 1, "longer": 5}
    try:
        if change == "driving":
            stream.set_driving(waves(phase=1.0))
        elif change in ("anchor", "cut"):
            stream.set_anchor(model.anchor(8, text(1)), cut=change == "cut")
        elif change == "steps":
            stream.set_settings(replace(stream.settings, steps=4, fusion=0.9))
        elif change in lengths:
            stream.set_settings(replace(stream.settings, num_chunk_frames=lengths[change]))
        else:
            stream.set_text(text(2, 5), recache=change == "window again")
    except SettingsError:
        pass


@pytest.fixture(scope="module")
def models(make_model):
    return {dtype: make_model(dtype=dtype) for dtype in (torch.float32, torch.float64)}


@given(data=st.data())
@fuzzed(25)
def test_each_chunk_is_what_the_stream_draws_alone(models, waves, caplog, data):
    dtype, tolerance = data.draw(st.sampled_from([(torch.float32, 1e-5), (torch.float64, 1e-11)]))
    model, everyone = models[dtype], []
    for tick in range(data.draw(st.integers(2, 6))):
        if len(everyone) < 4 and (not everyone or data.draw(st.booleans())):
            kind, seed = data.draw(st.sampled_from(sorted(KINDS))), data.draw(st.integers(0, 3))
            anchor = model.anchor(seed, text(seed, data.draw(st.sampled_from([1, 6]))))
            driving = waves(data.draw(st.sampled_from([None, 21])), phase=seed)
            everyone.append(Twins(*(open_stream(model, anchor, KINDS[kind], driving, seed) for _ in range(2))))
        for twins in everyone:
            if data.draw(st.integers(0, 3)) == 0:
                twins.changed(data.draw(st.sampled_from(CHANGES)), model, waves)
        drawn = [twins for twins in everyone if data.draw(st.booleans())]
        most = data.draw(st.sampled_from([None, 1, 2]))
        for twins, got in zip(drawn, next_chunks([twins.joined for twins in drawn], most=most), strict=True):
            near(got, next(twins.alone, None), tolerance)
        if tick % 2:
            for twins in everyone:
                near(next(twins.joined, None), next(twins.alone, None), tolerance)
    assert "could not be computed together" not in caplog.text


def opened(model, waves, kind="plain", seed=0, **more):
    return open_stream(model, model.anchor(seed, text(seed)), KINDS[kind], waves(phase=seed), seed, **more)


def test_streams_come_and_go_between_any_two_passes(model, waves):
    """A fast one gives three chunks while a slow one gives its first, and each is what it draws alone."""
    slow = open_stream(model, model.anchor(), replace(KINDS["plain"], steps=12), waves())
    fast, given = opened(model, waves, "no window", 1), []
    with Together() as together:
        together.add(slow)
        while len(together):
            if len(together) == 1:
                together.add(fast)
            for stream, chunk in together.step():
                given.append((stream, chunk))
            if given and given[-1][0] is slow:
                break
    chunks = [chunk for stream, chunk in given if stream is fast]
    assert len(chunks) >= 3
    twin = opened(model, waves, "no window", 1)
    for chunk in chunks:
        near(chunk, next(twin))
    near(given[-1][1], next(open_stream(model, model.anchor(), replace(KINDS["plain"], steps=12), waves())))
    near(next(fast), next(twin))  # its chunk that was under way has not happened


def passes_computed(monkeypatch):
    """The latent frames of each pass over a network, as they come."""
    frames, forward = [], denoise.wan_forward

    def counted(network, inputs, *rest, **named):
        frames.append(inputs.x_BFCHW.shape[1])
        return forward(network, inputs, *rest, **named)

    monkeypatch.setattr(denoise, "wan_forward", counted)
    return frames


def test_one_pass_serves_all_and_the_branches_of_guidance(model, waves, monkeypatch):
    streams = [opened(model, waves, kind, seed) for seed, kind in enumerate(("plain", "guided", "sinks"))]
    frames = passes_computed(monkeypatch)
    next_chunks(streams)
    assert frames == [4 * 4, 4 * 4, 4 * 3]  # two steps and the commit; guidance makes two passes of each
    frames.clear()
    next_chunks(streams, most=2)
    assert frames == [8, 8, 8, 8, 6, 6]


def test_streams_of_other_models_and_sizes_are_drawn_beside_each_other(make_model, model, waves, monkeypatch):
    other = make_model("t2v16", seed=3)
    large = torch.randn(1, 1, 16, 6, 8, generator=torch.Generator().manual_seed(5))

    def streams():
        anchor = encode_latent_anchor(model, large, text(1))
        of_other = open_stream(other, other.anchor(1, text(1)), KINDS["plain"], waves())
        return [opened(model, waves), of_other, open_stream(model, anchor, KINDS["plain"], waves())]

    wanted, joined = [next(stream) for stream in streams()], streams()
    frames = passes_computed(monkeypatch)
    for got, chunk in zip(next_chunks(joined), wanted, strict=True):
        near(got, chunk)
    assert frames == [4] * 6 + [3] * 3


class Loose:
    """A driving that fails once, at its second chunk."""

    num_pixel_frames = None

    def __init__(self, driving):
        self._driving, self.calls = driving, 0

    def signal(self, first_latent, num_latents):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("a cable came loose")
        return self._driving.signal(first_latent, num_latents)


def test_an_error_or_a_stop_in_one_leaves_the_others_and_itself_unharmed(model, waves):
    def streams():
        stops = iter([False] * 6 + [True])
        stopped = opened(model, waves, "sinks", 1, should_stop=lambda: next(stops, False))
        failing = open_stream(model, model.anchor(), KINDS["plain"], Loose(waves()))
        ended = open_stream(model, model.anchor(), KINDS["plain"], waves(5))
        return [opened(model, waves, "guided", 2), failing, stopped, ended]

    joined, whole = streams(), streams()
    for got, stream in zip(next_chunks(joined), whole, strict=True):
        near(got, next(stream))
    fine, failed, stopped, ended = next_chunks(joined)
    near(fine, next(whole[0]))
    assert isinstance(failed, RuntimeError)
    assert "cable" in str(failed)
    assert stopped is None and ended is None  # noqa: PT018 - both
    with pytest.raises(RuntimeError, match="cable"):
        next(whole[1])
    assert next(whole[2], None) is None
    for got, stream in zip(next_chunks(joined), whole, strict=True):  # once more: both draw that chunk now
        near(got, next(stream, None))


def test_numbers_that_are_not_finite_stay_in_their_stream(model, waves):
    nowhere = open_stream(model, model.anchor(), KINDS["plain"], waves(phase=float("nan")))
    fine, twin = opened(model, waves, "sinks", 1), opened(model, waves, "sinks", 1)
    for _ in range(3):
        lost, got = next_chunks([nowhere, fine])
        assert lost.latents.isnan().all()
        near(got, next(twin))


@pytest.mark.parametrize("failing", [None, 1])
def test_what_cannot_be_computed_together_is_computed_alone(model, waves, monkeypatch, caplog, failing):
    """Memory may be enough for one pass and not for a joint one; and an error meets the stream that it belongs to."""
    streams, twins = ([opened(model, waves, "plain", seed) for seed in range(3)] for _ in range(2))
    next_chunks(streams)
    wanted = [next(twin) and next(twin) for twin in twins]
    broken, extend = None if failing is None else streams[failing]._cache, KVCache.extend

    def fails(self, *args):
        if self is broken:
            raise RuntimeError("out of memory")
        return extend(self, *args)

    def too_much(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        if failing is None:
            patch.setattr(denoise, "side_by_side", too_much)
        patch.setattr(KVCache, "extend", fails)
        outcomes = next_chunks(streams)
    assert "out of memory" in caplog.text
    for number, (got, chunk) in enumerate(zip(outcomes, wanted, strict=True)):
        if number == failing:
            assert isinstance(got, RuntimeError)
            near(next(streams[number]), chunk)
        else:
            near(got, chunk)


def test_a_chunk_is_asked_for_once(model, waves):
    stream = opened(model, waves)
    with pytest.raises(SettingsError, match="under way"):
        next_chunks([stream, stream])
    with Together() as together:
        together.add(stream)
        together.step()
        with pytest.raises(SettingsError, match="under way"):
            next(stream)
    near(next(stream), next(opened(model, waves)))


def test_chunks_that_are_decoded_later_are_drawn_together_too(model, waves):
    twins = [opened(model, waves, kind, seed) for seed, kind in enumerate(("plain", "sinks"))]
    wanted = [[next(twin) for _ in range(3)] for twin in twins]
    streams = [opened(model, waves, kind, seed) for seed, kind in enumerate(("plain", "sinks"))]
    with LateDecoder(streams[0]) as one, LateDecoder(streams[1]) as other:
        for tick in range(3):
            for got, chunks in zip(next_chunks([one, other]), wanted, strict=True):
                torch.testing.assert_close(got.latents, chunks[tick].latents, atol=1e-5, rtol=1e-5)
                pictures = torch.cat(list(got.frames)).int()
                assert (pictures - chunks[tick].pixel_frames.int()).abs().max() <= 1


@pytest.mark.parametrize("sound", [False, True])
def test_every_kind_of_network_is_drawn_together(make_model, waves, sound):
    """Prompt and picture attended to, sound attended to, a reference beside every frame."""
    adapter = AudioCrossConfig(signal_dim=5, num_packed=4, num_first=2, hidden_dim=8, num_tokens=2, token_dim=16)
    changes = {"adapter": adapter} if sound else {"image_dim": 12}
    for layout in ("inpaint36", "ref33", "t2v16"):
        model = make_model(layout, **changes)
        image = None if sound else torch.randn(1, 3, 12, generator=torch.Generator().manual_seed(1))

        def streams(model=model, image=image):
            for seed in range(3):
                latent = torch.randn(1, 1, 16, 4, 6, generator=torch.Generator().manual_seed(seed))
                anchor = encode_latent_anchor(model, latent, text(seed, 3 + seed), image)
                yield open_stream(model, anchor, KINDS["guided by both" if seed == 1 else "plain"], waves(), seed)

        joined, alone = list(streams()), list(streams())
        for _ in range(2):
            for got, stream in zip(next_chunks(joined), alone, strict=True):
                near(got, next(stream))


# --- for threads that each have a stream


def test_threads_that_ask_for_chunks_are_served_together(model, waves):
    kinds = ("plain", "sinks", "guided", "no knot")
    streams = [opened(model, waves, kind, seed) for seed, kind in enumerate(kinds)]
    failing = open_stream(model, model.anchor(), KINDS["plain"], Loose(waves()))

    def three(stream):
        return [drawing.next_chunk(stream) for _ in range(3)]

    with DrawingThread() as drawing, ThreadPoolExecutor(len(streams) + 1) as pool:
        found = list(pool.map(three, streams))
        assert drawing.next_chunk(failing) is not None
        with pytest.raises(RuntimeError, match="cable"):
            drawing.next_chunk(failing)
        assert drawing.next_chunk(open_stream(model, model.anchor(), KINDS["plain"], waves(0))) is None
    for seed, (kind, chunks) in enumerate(zip(kinds, found, strict=True)):
        twin = opened(model, waves, kind, seed)
        for chunk in chunks:
            near(chunk, next(twin))
    with pytest.raises(SettingsError, match="has ended"):
        drawing.next_chunk(streams[0])


def test_who_waits_when_the_thread_ends_is_told_and_the_chunk_has_not_happened(model, waves):
    reached, go_on = Event(), Event()

    def hold():
        reached.set()
        go_on.wait(20)
        return False

    stream = opened(model, waves, "plain", 0, should_stop=hold)
    with ThreadPoolExecutor(1) as pool:
        with DrawingThread() as drawing:
            asked = pool.submit(drawing.next_chunk, stream)
            assert reached.wait(20)
            Timer(0.2, go_on.set).start()
        with pytest.raises(SettingsError, match="has ended"):
            asked.result(20)
    near(next(stream), next(opened(model, waves)))


# --- which way is chosen


def test_the_way_that_draws_most_is_chosen_and_said(model):
    found = choose_grouping(
        model, KINDS["plain"], some_anchor(model, (4, 6)), counts=(1, 2), processors=2, num_rounds=1
    )
    assert found.chosen in found.measured
    assert {(rate.workers, rate.threads) for rate in found.measured} == {(1, 2), (2, 1)}
    most = max(rate.chunks_a_second for rate in found.measured)
    assert found.chosen.chunks_a_second >= most / 1.05
    assert f"{found.workers} worker" in str(found)
    assert "chunks a second" in str(found)


def test_of_ways_that_draw_as_much_the_one_that_answers_first_is_chosen():
    alone, joined, worked = Rate(1, 2, 1, 10.0), Rate(1, 2, 4, 10.4), Rate(2, 1, 2, 12.0)
    assert best_rate([alone, joined]) is alone
    assert best_rate([alone, joined, worked]) is worked
    assert best_rate([alone, joined, replace(worked, streams=1, chunks_a_second=11.8), worked]).streams == 1
