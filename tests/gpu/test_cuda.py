"""The stream on a GPU: the CPU's numbers, the same bits twice, bfloat16, flat memory, every way to run it the same."""

import itertools
import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from knot_core import cli, pipelined
from knot_core.cli.bench.compiled_forward import compiled_forward
from knot_core.cli.bench.random_models import Hum
from knot_core.stream import resume_stream

pytestmark = pytest.mark.gpu


def latents(stream, num_chunks):
    return torch.stack([next(stream).latents for _ in range(num_chunks)])


@pytest.fixture
def whole_float32():
    """Convolutions round to TF32 by default; matrix products do not."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield


@pytest.mark.usefixtures("whole_float32")
def test_cuda_draws_what_the_cpu_draws(on_cpu, on_gpu, make_stream):
    here, there = make_stream(on_cpu), make_stream(on_gpu)
    for _ in range(4):
        wanted, got = next(here), next(there)
        torch.testing.assert_close(got.latents.cpu(), wanted.latents, atol=1e-3, rtol=1e-3)
        assert (got.pixel_frames.int() - wanted.pixel_frames.int()).abs().max() <= 1


def test_the_same_seed_gives_the_same_bits(in_bfloat16, make_stream):
    assert torch.equal(latents(make_stream(in_bfloat16), 4), latents(make_stream(in_bfloat16), 4))


def test_a_resumed_stream_goes_on_bit_for_bit(in_bfloat16, make_stream, tmp_path):
    stream = make_stream(in_bfloat16)
    latents(stream, 4)
    stream.save(tmp_path / "state.safetensors")
    resumed = resume_stream(in_bfloat16, tmp_path / "state.safetensors", Hum(in_bfloat16.config))
    assert torch.equal(latents(resumed, 3), latents(stream, 3))


def test_bfloat16_draws_nearly_the_same(on_gpu, in_bfloat16, make_stream):
    names = dict(on_gpu.network.named_parameters())
    with torch.no_grad():
        for name, weight in in_bfloat16.network.named_parameters():
            weight.copy_(names[name])
        for mine, theirs in zip(in_bfloat16.codec.parameters(), on_gpu.codec.parameters(), strict=True):
            mine.copy_(theirs)
    got, wanted = next(make_stream(in_bfloat16)).latents, next(make_stream(on_gpu)).latents
    assert torch.isfinite(got).all()
    assert torch.nn.functional.cosine_similarity(got.flatten(), wanted.flatten(), dim=0) > 0.98


@pytest.mark.slow
def test_memory_is_flat_over_300_chunks(in_bfloat16, make_stream):
    stream = make_stream(in_bfloat16)
    latents(stream, 20)
    torch.cuda.reset_peak_memory_stats()
    held, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(280):
        next(stream)
    assert torch.cuda.memory_allocated() <= held + 2**20
    assert torch.cuda.memory_reserved() <= reserved + 2**20


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
def test_every_attention_kernel_takes_the_cache_as_it_lies(in_bfloat16, make_stream, backend):
    """No mask, no copy, heads of 128: nothing keeps torch from its fastest kernel."""
    with sdpa_kernel(backend):
        got = latents(make_stream(in_bfloat16), 3)
    wanted = latents(make_stream(in_bfloat16), 3)
    assert torch.nn.functional.cosine_similarity(got.flatten(), wanted.flatten(), dim=0) > 0.98


@pytest.mark.slow
@pytest.mark.usefixtures("whole_float32")
def test_the_compiled_forward_draws_what_the_eager_one_draws(on_gpu, make_stream):
    wanted = latents(make_stream(on_gpu), 4)
    torch._dynamo.reset()
    with compiled_forward():
        got = latents(make_stream(on_gpu), 4)
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)


def test_the_bench_measures_a_gpu(named, capsys):
    arguments = ["bench", "--model", named, "--device", "cuda", "--chunks", "5", "--plain", "2"]
    assert cli.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["device"] == torch.cuda.get_device_name()
    assert figures["dtype"] == "bfloat16"
    assert figures["peak_memory"]["of"] == "tensors on the device"
    assert figures["fps"] > 0
    assert figures["matmul_tflops_per_s"] > figures["tflops_per_s"]["network"] > 0


def test_decoding_on_a_stream_of_its_own_gives_the_same_bits(in_bfloat16, make_stream):
    """Pictures too, which are read at once; and the stream goes on by itself from where the last was given."""
    plain, ahead = make_stream(in_bfloat16), make_stream(in_bfloat16)
    for wanted, got in zip(itertools.islice(plain, 6), pipelined(ahead), strict=False):
        assert torch.equal(got.pixel_frames, wanted.pixel_frames)
        assert torch.equal(got.latents, wanted.latents)
        assert all(got.seconds[stage] > 0 for stage in ("denoise", "decode", "commit"))
    assert torch.equal(latents(ahead, 2), latents(plain, 2))
