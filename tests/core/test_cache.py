import random
import weakref

import pytest
import torch

from knot_core.cache import CacheShape, KVCache
from knot_core.cache_index import CacheIndex, Place
from knot_lab.training.rollout_cache import RolloutCache

TOKENS, HEADS, HEAD_DIM = 2, 1, 4


def key(frame):
    """Keys that say which frame they belong to."""
    return torch.full((1, TOKENS, HEADS, HEAD_DIM), float(frame))


def keys(frames):
    return torch.cat([key(frame) for frame in frames], dim=1)


def frames_in(keys_BSNK):
    return sorted(keys_BSNK[0, ::TOKENS, 0, 0].int().tolist())


def kv_cache(num_window_frames, num_pass_frames=4, num_anchor_frames=1, num_sink_frames=0):
    shape = CacheShape(
        num_layers=2, batch=1, num_tokens=TOKENS, num_heads=HEADS, head_dim=HEAD_DIM,
        num_window_frames=num_window_frames, num_anchor_frames=num_anchor_frames, num_pass_frames=num_pass_frames,
        num_sink_frames=num_sink_frames,
    )  # fmt: skip
    return KVCache(shape, dtype=torch.float32, device="cpu")


def commit(cache, frames):
    for layer in range(cache.shape.num_layers):
        cache.extend(layer, keys(frames), -keys(frames))
    cache.commit(len(frames))


def test_index_equals_a_naive_list_on_random_streams():
    rng = random.Random(0)
    for _ in range(2000):
        index, slots, committed = CacheIndex(capacity=rng.randint(0, 9), num_sinks=rng.choice([0, 1, 3, 5])), {}, 0
        sinks, window, left = [], [], []
        for _ in range(rng.randint(1, 12)):
            count = rng.randint(1, 12)
            left += [(run.source + offset, run.slot + offset) for run in index.leaving(count)
                     for offset in range(run.length)]  # fmt: skip
            for run in index.runs(count):
                for offset in range(run.length):
                    slots[run.slot + offset] = committed + run.source + offset
            index = index.advance(count)
            for frame in range(committed, committed + count):
                (sinks if len(sinks) < index.num_sinks else window).append(frame)
            committed += count
            held = window[max(0, len(window) - index.capacity) :]
            assert sorted(index.frames()) == [*sinks, *held]
            assert [slots[slot] for slot in range(index.num_valid)] == list(index.frames())
            if index.num_sinks:
                gone = window[: len(window) - len(held)]
                assert left == [(frame, frame % index.num_sinks) for frame in gone]


def test_frames_that_leave_together_lie_together():
    """One run is one slice: never across the ring's end, nor from the ring into the pass."""
    rng, in_ring, in_pass = random.Random(0), 0, 0
    for _ in range(2000):
        index = CacheIndex(capacity=rng.randint(0, 6), num_sinks=rng.randint(1, 5), num_committed=rng.randint(0, 30))
        for run in index.leaving(rng.randint(1, 12)):
            frames = range(run.source, run.source + run.length)
            if run.source >= index.num_committed:
                in_pass += 1
            else:
                in_ring += 1
                assert frames[-1] < index.num_committed
                slots = [index.slot(frame) for frame in frames]
                assert slots == list(range(slots[0], slots[0] + run.length))
    assert in_ring
    assert in_pass


def test_index_needs_no_more_work_far_out():
    near, far = (CacheIndex(capacity=7, num_committed=start).runs(3) for start in (14, 14 + 7 * 10**9))
    assert near == far


@pytest.mark.parametrize("num_window_frames", [0, 1, 2, 3, 4, 6, 7, 40])
@pytest.mark.parametrize("num_anchor_frames", [0, 1])
@pytest.mark.parametrize("num_sink_frames", [0, 2, 3, 7])
def test_a_chunk_sees_sinks_window_anchor_and_itself(num_window_frames, num_anchor_frames, num_sink_frames):
    cache = kv_cache(num_window_frames, num_anchor_frames=num_anchor_frames, num_sink_frames=num_sink_frames)
    if num_anchor_frames:
        for layer in range(2):
            cache.place_anchor(layer, key(-1), -key(-1))
    anchor = [-1] * num_anchor_frames
    for start in range(0, 30, 3):
        chunk = list(range(start, start + 4))
        sinks = list(range(min(start, num_sink_frames)))
        window = sinks + list(range(max(len(sinks), start - num_window_frames), start))
        for layer in range(2):
            k, v, seen = cache.extend(layer, keys(chunk), -keys(chunk))
            assert frames_in(k) == sorted(anchor + window + chunk)
            assert torch.equal(v, -k)
            assert seen is None
        commit(cache, chunk[:3])


def test_reading_never_changes_window_or_anchor():
    cache = kv_cache(6)
    for start in range(0, 12, 3):
        commit(cache, range(start, start + 3))
    before = cache.fork()
    for layer in range(2):
        cache.extend(layer, keys([90, 91, 92, 93]), keys([90, 91, 92, 93]))
    assert all(torch.equal(cache.window(layer), before.window(layer)) for layer in range(2))
    assert cache.index == before.index


def test_reading_copies_nothing_but_the_pass():
    cache = kv_cache(6, num_sink_frames=2)
    commit(cache, range(3))
    k, *_ = cache.extend(0, keys(range(3, 7)), keys(range(3, 7)))
    assert k.untyped_storage().data_ptr() == cache.window(0).untyped_storage().data_ptr()


def test_a_fork_goes_its_own_way():
    cache = kv_cache(6)
    commit(cache, range(3))
    twin = cache.fork()
    commit(twin, range(3, 6))
    assert frames_in(cache.window(0)[0]) == [0, 1, 2]
    assert frames_in(twin.window(0)[0]) == [0, 1, 2, 3, 4, 5]


def test_what_passes_wrote_in_place_is_undone_and_forgotten():
    """Afterwards the window is the buffer again, not a copy of what stood there: a state can be put back into it."""
    cache = kv_cache(6)
    commit(cache, range(3))
    before = [cache.window(layer).clone() for layer in range(2)]
    cache.write_in_place(Place(slot=0, length=3, num_valid=3))
    for layer in range(2):
        cache.extend(layer, keys([7, 8, 9]), keys([7, 8, 9]))
    cache.undo()
    assert all(torch.equal(cache.window(layer), kept) for layer, kept in enumerate(before))
    cache.load_window(cache.index, [kept + 40 for kept in before])
    assert frames_in(cache.window(0)[0]) == [40, 41, 42]
    assert frames_in(cache.extend(0, keys([3]), keys([3]))[0]) == [0, 3, 40, 41, 42]  # 0: no anchor was placed


def test_passes_that_saw_no_window_are_undone_too():
    """A chunk that is stopped while the window is computed anew leaves the next one's passes their window."""
    cache = kv_cache(6)
    commit(cache, range(3))
    cache.pass_alone(1)
    assert frames_in(cache.extend(0, keys([8]), keys([8]))[0]) == [0, 2, 8]  # anchor, the pass before, itself
    cache.undo()
    assert frames_in(cache.extend(0, keys([9]), keys([9]))[0]) == [0, 0, 1, 2, 9]


@pytest.mark.parametrize("num_window_frames", [0, 2, 4, 6, 40])
def test_the_training_cache_reads_the_same_frames(num_window_frames):
    streaming = kv_cache(num_window_frames, num_anchor_frames=0)
    training = RolloutCache(num_window_frames=num_window_frames, num_tokens=TOKENS)
    for start in range(0, 18, 3):
        chunk = range(start, start + 4)
        for layer in range(2):
            seen = frames_in(streaming.extend(layer, keys(chunk), keys(chunk))[0])
            assert frames_in(training.extend(layer, keys(chunk), keys(chunk))[0]) == seen
        training.commit(3)
        commit(streaming, chunk[:3])


def test_the_training_cache_lets_gradients_through_and_can_cut_them():
    cache = RolloutCache(num_window_frames=2, num_tokens=TOKENS)
    past = key(5).requires_grad_()
    cache.place_anchor([(past, past)], 3)
    cache.extend(0, past, past)
    cache.commit(1)
    k, v, _ = cache.extend(0, key(6), key(6))
    assert torch.autograd.grad(k.sum() + v.sum(), past)[0].abs().sum() > 0
    assert not cache.detach().extend(0, key(6), key(6))[0].requires_grad


def test_a_forked_rollout_goes_its_own_way():
    cache = RolloutCache(num_window_frames=2, num_tokens=TOKENS)
    cache.extend(0, key(1), key(1))
    cache.commit(1)
    twin = cache.fork()
    twin.extend(0, key(2), key(2))
    twin.commit(1)
    assert frames_in(cache.extend(0, key(9), key(9))[0]) == [1, 9]
    assert frames_in(twin.extend(0, key(9), key(9))[0]) == [1, 2, 9]


def test_a_rollout_for_steps_keeps_nothing_of_a_pass():
    """Where activations are computed again for the gradient, a pass that is kept would stay in memory until then."""
    cache = RolloutCache(num_window_frames=2, num_tokens=TOKENS)
    cache.extend(0, key(1), key(1))
    cache.commit(1)
    steps, passed = cache.for_steps(), key(2)
    gone = weakref.ref(passed)
    assert frames_in(steps.extend(0, passed, passed)[0]) == [1, 2]
    del passed
    assert gone() is None
    steps.commit(1)
    assert frames_in(steps.extend(0, key(9), key(9))[0]) == [1, 9]
