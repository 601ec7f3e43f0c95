import itertools
from dataclasses import replace

import pytest
import torch

from knot_core.cache import KVCache
from knot_core.config import AdapterConfig, StreamSettings
from knot_core.driving import Driving
from knot_core.errors import DrivingError, SettingsError
from knot_core.stream import Stream, denoise, open_stream, plan_chunk
from knot_core.stream.plan import Clock, first_clock, run_ahead
from knot_core.stream.snapshot import first_snapshot
from knot_core.wan.forward import wan_forward

from .compared_chunks import take

FAR = 3_000_000
SETTINGS = StreamSettings(steps=2, num_window_frames=4)
POLICIES = (
    {},
    {"num_sink_frames": 3},
    {"num_sink_frames": 3, "rope_positions": "window"},
    {"num_sink_frames": 2, "rope_positions": "window", "sink_decay": 0.9},
)


def latents(chunks):
    return torch.cat([chunk.latents for chunk in chunks])


def pixels(chunks):
    return torch.cat([chunk.pixel_frames for chunk in chunks])


def far_stream(model, anchor, settings, driving, **callbacks):
    return Stream(model, first_snapshot(settings, anchor, 0, start=FAR), driving, **callbacks)


# --- the plan, in integers


def test_chunks_overlap_by_the_knot_only():
    clock, plans = first_clock(StreamSettings()), []
    for _ in range(4):
        plans.append(plan_chunk(StreamSettings(), clock))
        clock = plans[-1].next_clock
    assert [list(plan.positions) for plan in plans[:3]] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [list(plan.window) for plan in plans] == [[], [0, 1, 2], [0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8]]
    assert [plan.num_known_frames for plan in plans] == [0, 1, 1, 1]
    assert [frame for plan in plans for frame in plan.committed] == list(range(12))


def test_sinks_come_before_the_window():
    settings = StreamSettings(num_sink_frames=4, num_window_frames=2)
    clock, plans = first_clock(settings, start=100), []
    for _ in range(4):
        plans.append(plan_chunk(settings, clock))
        clock = plans[-1].next_clock
    assert [list(plan.sinks) for plan in plans] == [[], [100, 101, 102], [100, 101, 102, 103], [100, 101, 102, 103]]
    assert [list(plan.window) for plan in plans] == [[], [], [104, 105], [107, 108]]


def test_the_anchor_runs_ahead():
    """Start 8, stride 4, chunks of 3 and a knot of 1: facts of the published third-party run."""
    clock, positions = first_clock(StreamSettings()), []
    for _ in range(7):
        plan = plan_chunk(StreamSettings(), clock)
        positions.append(plan.anchor_position)
        clock = plan.next_clock
    assert positions == [8, 8, 12, 16, 16, 20, 24]


@pytest.mark.parametrize("stride", [1, 3, 4, 7])
@pytest.mark.parametrize("position", [0, 5, 8])
def test_running_ahead_is_the_loop_it_stands_for(stride, position):
    for stop in range(60):
        looped = position
        while stop > looped:
            looped += stride
        assert run_ahead(position, stop, stride) == looped


def test_without_a_stride_the_anchor_stays_at_position_zero():
    settings = StreamSettings(run_ahead_stride=0)
    assert first_clock(settings).anchor_position == 0
    clock = Clock(chunk=10**6, start=FAR, anchor_position=0)
    assert plan_chunk(settings, clock).anchor_position == 0


# --- the same bits


def test_same_seed_same_bits_and_another_seed_others(model, anchor, waves):
    first, again, other = (take(open_stream(model, anchor, SETTINGS, waves(), seed), 4) for seed in (3, 3, 4))
    assert torch.equal(latents(first), latents(again))
    assert torch.equal(pixels(first), pixels(again))
    assert not torch.equal(latents(first), latents(other))


def test_a_stream_needs_no_gradients(make_model, waves):
    model = make_model()
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    stream = open_stream(model, model.anchor(), SETTINGS, waves())
    take(stream, 2)
    snapshot = stream.snapshot()
    assert not any(tensor.requires_grad for tensor in (*snapshot.window, snapshot.state.knot_BMCHW))


def test_the_global_random_state_is_neither_read_nor_moved(model, anchor, waves):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = take(open_stream(model, anchor, SETTINGS, waves()), 2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(latents(first), latents(take(open_stream(model, anchor, SETTINGS, waves()), 2)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-8)], ids=str)
@pytest.mark.parametrize("layout", ["inpaint36", "t2v16"])
@pytest.mark.parametrize("change", [*POLICIES, {"run_ahead_stride": 0}, {"use_anchor": False}], ids=str)
def test_far_out_in_time_is_the_same_stream(make_model, waves, layout, change, dtype, tolerance):
    """`first_snapshot` moves the stream, its driving and its anchor together; only distances may count."""
    model, settings = make_model(layout, dtype=dtype), replace(SETTINGS, **change)
    anchor = model.anchor()
    near = latents(take(open_stream(model, anchor, settings, waves()), 5))
    far = latents(take(far_stream(model, anchor, settings, waves()), 5))
    error = ((near - far).abs().max() / near.abs().max()).item()
    assert error < tolerance


# --- nothing grows, nothing leaks


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_chunk_costs_the_same_at_the_tenth_and_at_the_three_millionth_frame(
    model, anchor, waves, monkeypatch, policy
):
    settings, keys_read, extend = replace(SETTINGS, **policy), [], KVCache.extend

    def watched(*args):
        keys, values, seen = extend(*args)
        keys_read.append(tuple(keys.shape))
        return keys, values, seen

    monkeypatch.setattr(KVCache, "extend", watched)

    def cost(stream):
        take(stream, 9)
        keys_read.clear()
        next(stream)
        snapshot = stream.snapshot()
        kept = (*snapshot.window, *snapshot.sinks, *snapshot.state.decoder_memory, snapshot.state.rng_state)
        shapes = [tuple(tensor.shape) for tensor in kept]
        return list(keys_read), shapes, stream.num_cache_bytes

    near = open_stream(model, anchor, settings, waves())
    assert cost(near) == cost(far_stream(model, anchor, settings, waves()))
    assert cost(near) == cost(near)


def test_denoising_never_writes_the_cache(model, anchor, waves):
    """Window and index stay as they were through every step of a chunk, until it is committed."""
    seen = []

    def watch(done, total):
        window = [layer.clone() for layer in stream.snapshot().window]
        seen.append(((done, total), stream.snapshot().window_index, window))

    stream = open_stream(model, anchor, SETTINGS, waves(), progress=watch)
    take(stream, 3)
    seen.clear()
    next(stream)
    assert [progress for progress, *_ in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    _, index, window = seen[0]
    for _, later_index, later_window in seen[1:]:
        assert later_index == index
        assert all(torch.equal(a, b) for a, b in zip(window, later_window, strict=True))
    after = stream.snapshot()
    assert after.window_index.num_committed == index.num_committed + 3
    assert not any(torch.equal(a, b) for a, b in zip(window, after.window, strict=True))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_stopped_chunk_leaves_no_trace(model, anchor, waves, stage):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 4)
    stages = []
    stream = open_stream(
        model, anchor, SETTINGS, waves(),
        progress=lambda done, _: stages.append(done), should_stop=lambda: len(stages) == 2 * 4 + stage + 1,
    )  # fmt: skip
    before = list(stream)  # chunks of 4 reports each: the third one is stopped
    assert len(before) == 2
    assert torch.equal(latents([*before, *take(stream, 2)]), latents(whole))


def test_an_error_in_the_middle_of_a_chunk_leaves_no_trace(model, anchor, waves):
    class Failing:
        num_pixel_frames = None
        failures = iter([False, True, False, False])

        def signal(self, first, count):
            if next(self.failures):
                raise RuntimeError("a cable came loose")
            return waves().signal(first, count)

    stream = open_stream(model, anchor, SETTINGS, Failing())
    first = next(stream)
    with pytest.raises(RuntimeError, match="cable"):
        next(stream)
    rest = take(stream, 2)
    assert torch.equal(latents([first, *rest]), latents(take(open_stream(model, anchor, SETTINGS, waves()), 3)))


def test_forks_go_their_own_ways(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    twin, other = stream.fork(), stream.fork()
    other.set_driving(waves(phase=1.0))
    mine, same, different = (latents(take(one, 2)) for one in (stream, twin, other))
    assert torch.equal(mine, same)
    assert not torch.equal(mine, different)


def test_what_a_stream_gave_is_its_user_s_to_change(model, anchor, waves):
    whole = latents(take(open_stream(model, anchor, SETTINGS, waves()), 3))
    stream, got = open_stream(model, anchor, SETTINGS, waves()), []
    for chunk in itertools.islice(stream, 3):
        got.append(chunk.latents.clone())
        chunk.latents.fill_(9.0)
        chunk.pixel_frames.fill_(0)
    assert torch.equal(torch.cat(got), whole)


# --- the knot, and what turning parts off means


def test_no_knot_draws_each_chunk_alone(model, anchor, waves):
    stream = open_stream(model, anchor, replace(SETTINGS, num_knot_frames=0), waves())
    assert list(stream.plan.positions) == [0, 1, 2]
    take(stream, 2)
    assert stream.snapshot().state.knot_BMCHW is None


def test_full_fusion_keeps_the_knot_and_none_keeps_the_new_prediction(model, anchor, waves):
    kept, fresh, half = (
        take(open_stream(model, anchor, replace(SETTINGS, fusion=weight), waves()), 2) for weight in (1.0, 0.0, 0.5)
    )
    assert torch.equal(latents(kept[:1]), latents(fresh[:1]))
    blend = (kept[1].latents[0] + fresh[1].latents[0]) / 2
    torch.testing.assert_close(half[1].latents[0], blend)
    assert torch.equal(kept[1].latents[1:], fresh[1].latents[1:])
    stream = open_stream(model, anchor, replace(SETTINGS, fusion=1.0), waves())
    next(stream)
    knot = stream.state.knot_BMCHW[0]
    assert torch.equal(next(stream).latents[: len(knot)], knot)


def test_sinks_that_follow_stand_elsewhere_than_those_that_stay_once_the_window_has_moved(model, anchor, waves):
    stay = replace(SETTINGS, num_sink_frames=2)
    follow, fade = (replace(stay, rope_positions="window", sink_decay=decay) for decay in (1.0, 0.5))
    some, others, faded = (take(open_stream(model, anchor, one, waves()), 5) for one in (stay, follow, fade))
    assert torch.equal(latents(some[:3]), latents(others[:3]))
    assert torch.equal(latents(some[:3]), latents(faded[:3]))
    for one, other in itertools.combinations((some, others, faded), 2):
        assert (one[4].latents - other[4].latents).abs().max() > 1e-3


def test_livetalk_starts_with_the_reference_itself(make_model, waves):
    model = make_model("ref33")
    anchor = model.anchor()
    settings = replace(SETTINGS, start_from_reference=True)
    chunk = next(open_stream(model, anchor, settings, waves()))
    assert torch.equal(chunk.latents[0], anchor.reference_BFCHW[0, 0])


def test_the_network_is_fed_the_timesteps_that_its_configuration_rounds(make_model, waves, monkeypatch):
    fed = []

    def watched(network, inputs, *args, **kwargs):
        fed.append(inputs.timestep_BF[0, -1].item())
        return wan_forward(network, inputs, *args, **kwargs)

    monkeypatch.setattr(denoise, "wan_forward", watched)
    for dtype, wanted in (("float32", [1000, 937.5, 833.3333, 625]), ("bfloat16", [1000, 936, 832, 624])):
        model = make_model("ref33", timestep_dtype=dtype)
        stream = open_stream(model, model.anchor(), replace(SETTINGS, steps=4), waves())
        fed.clear()
        next(stream)
        assert fed == pytest.approx([*wanted, 0])  # and the commit pass


def test_a_prompt_s_keys_are_computed_once(make_model, waves):
    """512 tokens, in every layer: for the anchor, and for the stream; never per chunk."""
    model, calls = make_model("t2v16"), []
    text = torch.randn(1, 512, model.config.text_dim, generator=torch.Generator().manual_seed(0))
    for block in model.network.blocks:
        block.cross_attn.k.register_forward_hook(lambda *_: calls.append(1))
    stream = open_stream(model, model.anchor(text=text), SETTINGS, waves())
    count = len(calls)
    assert count == 2 * model.config.num_layers
    take(stream, 2)
    assert len(calls) == count


def test_starting_from_the_reference_makes_it_the_first_frame(model, anchor, waves):
    settings = replace(SETTINGS, start_from_reference=True, fusion=1.0)
    chunk = next(open_stream(model, anchor, settings, waves()))
    assert torch.equal(chunk.latents[0], anchor.reference_BFCHW[0, 0])


def test_every_part_matters(model, anchor, waves):
    """Otherwise the tests above would compare nothing."""
    changes = (
        {}, {"num_knot_frames": 0}, {"run_ahead_stride": 0}, {"use_anchor": False}, {"num_window_frames": 0},
        {"fusion": 0.0}, {"start_from_reference": True}, {"shift": 1.0}, {"run_ahead_start": 20},
        {"timesteps": (1000, 300)}, {"first_timesteps": (1000, 900, 300)},
        {"num_window_frames": 2, "num_sink_frames": 2},
    )  # fmt: skip
    outcomes = [latents(take(open_stream(model, anchor, replace(SETTINGS, **c), waves()), 3)) for c in changes]
    outcomes.append(latents(take(open_stream(model, model.anchor(seed=8), SETTINGS, waves()), 3)))
    outcomes.append(latents(take(open_stream(model, anchor, SETTINGS, waves(phase=1.0)), 3)))
    for one, other in itertools.combinations(outcomes, 2):
        assert (one - other).abs().max() > 1e-3


# --- driving, and pictures


@pytest.mark.parametrize("length", [0, 1, 8, 9, 10, 21, 22, 40])
def test_a_finite_driving_ends_the_stream_to_the_frame(model, anchor, waves, length):
    chunks = list(open_stream(model, anchor, SETTINGS, waves(length)))
    assert sum(len(chunk.pixel_frames) for chunk in chunks) == length
    assert sum(len(chunk.latents) for chunk in chunks) == (0 if length == 0 else 1 + -(-(length - 1) // 4))
    endless = take(open_stream(model, anchor, SETTINGS, waves()), len(chunks))
    if chunks:
        assert torch.equal(pixels(chunks), pixels(endless)[:length])


def test_pixel_frames_are_the_latents_decoded_in_one_go(model, anchor, waves):
    chunks = take(open_stream(model, anchor, SETTINGS, waves()), 4)
    assert [len(chunk.pixel_frames) for chunk in chunks] == [9, 12, 12, 12]
    assert [chunk.first_pixel_frame for chunk in chunks] == [0, 9, 21, 33]
    at_once, _ = model.codec.decode(latents(chunks)[None])
    at_once = (at_once[0].clamp(0, 1) * 255).permute(0, 2, 3, 1)
    assert (pixels(chunks) - at_once).abs().max() <= 0.5 + 1e-3


def test_a_new_driving_starts_with_the_next_chunk(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    old = take(open_stream(model, anchor, SETTINGS, waves()), 4)
    first = take(stream, 2)
    stream.set_driving(waves(num_pixel_frames=5))
    assert stream.num_pixel_frames == 4 * 6 + 5
    rest = list(stream)
    assert torch.equal(latents(first), latents(old[:2]))
    assert not torch.equal(rest[0].latents[:1], old[2].latents[:1])
    assert sum(len(chunk.pixel_frames) for chunk in [*first, *rest]) == 4 * 6 + 5


def test_a_new_driving_may_share_the_stream_s_own_time(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    stream.set_driving(waves(), origin=0)
    assert torch.equal(next(stream).latents, take(open_stream(model, anchor, SETTINGS, waves()), 3)[2].latents)
    with pytest.raises(SettingsError, match="origin is 10"):
        stream.set_driving(waves(), origin=10)


def test_a_model_without_an_adapter_is_moved_by_its_prompt_alone(make_model, waves):
    model = make_model(adapter=None)
    one, other = (
        latents(take(open_stream(model, model.anchor(), SETTINGS, waves(phase=phase)), 2)) for phase in (0.0, 1.0)
    )
    assert torch.equal(one, other)


def test_nothing_is_said_where_nothing_was_given_and_what_was_is_refused_by_name(make_model, caplog):
    """Prompt-driven streams need a driving for its length alone."""
    model = make_model(adapter=None)
    stream = open_stream(model, model.anchor(), SETTINGS, Driving.none().lasting(9))
    assert len(list(stream)) == 1
    assert not caplog.text
    with pytest.raises(DrivingError, match="got pose and mouth, but this model has no driving adapter"):
        open_stream(model, model.anchor(), SETTINGS, Driving.idle())
    with pytest.raises(DrivingError, match="got mouth, but this model has no driving adapter"):
        stream.set_driving(Driving.from_controls({"mouth_open": [0, 1]}))
    hears = make_model(adapter=AdapterConfig(signal_dim=768, blocks=(0,)))
    with pytest.raises(DrivingError, match="got pose and mouth, but this model is driven by wav2vec2 speech features"):
        open_stream(hears, hears.anchor(), SETTINGS, Driving.idle())


def test_a_wider_signal_of_controls_is_filled_with_what_is_not_given(make_model, waves):
    """Another built-in model may take more than these controls; its adapter's name says that it takes them."""
    wide = make_model(adapter=AdapterConfig(name="controls", signal_dim=80, blocks=(0,)))

    class Filled:
        num_pixel_frames = None

        def signal(self, first, count):
            return torch.nn.functional.pad(Driving.idle(3).signal(first, count), (0, 5))

    got, wanted = (
        latents(take(open_stream(wide, wide.anchor(), SETTINGS, driving), 2)) for driving in (Driving.idle(3), Filled())
    )
    assert torch.equal(got, wanted)
    stream = open_stream(wide, wide.anchor(), SETTINGS, waves())
    stream.set_driving(Driving.idle(3))
    next(stream)


def test_bfloat16_streams_like_float32(make_model, waves):
    exact, rough = (
        latents(take(open_stream(m, m.anchor(), SETTINGS, waves()), 3))
        for m in (make_model(), make_model(dtype=torch.bfloat16))
    )
    assert rough.dtype == torch.float32
    assert (exact - rough).norm() / exact.norm() < 0.1


# --- what cannot work


def test_a_driving_of_another_shape_is_refused(model, anchor):
    class Narrow:
        num_pixel_frames = None

        def signal(self, _first, count):
            return torch.zeros(count, 4, 3)

    with pytest.raises(DrivingError, match=r"\(4, 4, 3\).*\(4, 4, 5\)"):
        next(open_stream(model, anchor, SETTINGS, Narrow()))


def test_an_anchor_of_another_model_is_refused(make_model, anchor, waves):
    for other in (make_model(seed=1), make_model("t2v16"), make_model(dtype=torch.bfloat16)):
        with pytest.raises(SettingsError, match="encode the reference again"):
            open_stream(other, anchor, SETTINGS, waves())


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(model, anchor, waves, seed):
    with pytest.raises(SettingsError, match="seed is"):
        open_stream(model, anchor, SETTINGS, waves(), seed)
