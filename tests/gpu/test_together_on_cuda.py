"""Streams drawn together on a GPU: each as it is alone. What a joint pass gains is recorded, not judged."""

import pytest
import torch

from knot_core.config import StreamSettings
from knot_core.stream import choose_grouping, next_chunks
from knot_core.stream.grouping import some_anchor

pytestmark = pytest.mark.gpu

SETTINGS = (StreamSettings(num_window_frames=6), StreamSettings(num_window_frames=3, num_sink_frames=3, steps=2),
            StreamSettings(num_window_frames=6, num_knot_frames=0, text_guidance=2.0))  # fmt: skip


@pytest.fixture
def whole_float32():
    """Convolutions round to TF32 by default; matrix products do not."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield


@pytest.mark.usefixtures("whole_float32")
def test_each_chunk_is_what_the_stream_draws_alone(on_gpu, make_stream):
    """Ten times wider than on a CPU: products of other sizes are computed by other kernels."""
    joined, alone = ([make_stream(on_gpu, seed, settings) for seed, settings in enumerate(SETTINGS)] for _ in range(2))
    next(joined[1]), next(alone[1])
    for _ in range(4):
        for got, stream in zip(next_chunks(joined), alone, strict=True):
            wanted = next(stream)
            torch.testing.assert_close(got.latents, wanted.latents, atol=1e-4, rtol=1e-4)
            assert (got.pixel_frames.int() - wanted.pixel_frames.int()).abs().max() <= 1
    for one, other in zip(joined, alone, strict=True):
        torch.testing.assert_close(next(one).latents, next(other).latents, atol=1e-4, rtol=1e-4)


def test_bfloat16_draws_nearly_the_same(in_bfloat16, make_stream):
    joined, alone = ([make_stream(in_bfloat16, seed, settings) for seed, settings in enumerate(SETTINGS)]
                     for _ in range(2))  # fmt: skip
    for got, stream in zip(next_chunks(joined), alone, strict=True):
        same = torch.nn.functional.cosine_similarity(got.latents.flatten(), next(stream).latents.flatten(), dim=0)
        assert same > 0.98


def test_memory_is_flat_and_a_cache_is_not_copied(in_bfloat16, make_stream):
    streams = [make_stream(in_bfloat16, seed) for seed in range(4)]
    for _ in range(4):
        next_chunks(streams)
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    for _ in range(10):
        next_chunks(streams)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= held + 2**20


def test_a_way_is_chosen_by_measurement(in_bfloat16, record_property):
    found = choose_grouping(in_bfloat16, in_bfloat16.settings, some_anchor(in_bfloat16, (8, 12)), num_rounds=2)
    assert found.workers == 1
    assert found.chosen.chunks_a_second >= max(rate.chunks_a_second for rate in found.measured) / 1.05
    record_property("way", str(found))
