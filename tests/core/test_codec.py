"""The tiny video autoencoder: chunk by chunk equals at once, the public structure's keys, clear errors."""

import pytest
import torch
from torch.nn import functional as fn

from knot_core.codec.taehv import TAEHV, CodecConfig, UpConv
from knot_core.errors import CheckpointError

NARROW = CodecConfig(encoder=(4, 8, 8, 8), decoder=(12, 8, 8, 4))


@pytest.fixture(scope="module")
def codec() -> TAEHV:
    torch.manual_seed(0)
    return TAEHV(NARROW).double().eval()


@pytest.mark.parametrize("lengths", [(7,), (1, 6), (3, 3, 1), (1, 1, 1, 1, 1, 1, 1)])
@torch.no_grad()
def test_decoding_in_chunks_equals_decoding_at_once(codec: TAEHV, lengths: tuple[int, ...]) -> None:
    latents = torch.randn(2, 7, 16, 3, 4, dtype=torch.float64)
    whole, _ = codec.decode(latents)
    parts, memory = [], None
    for part in latents.split(lengths, dim=1):
        pixels, memory = codec.decode(part, memory)
        parts.append(pixels)
    assert parts[0].shape[1] == 1 + 4 * (lengths[0] - 1)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-12)


@torch.no_grad()
def test_the_memory_is_a_value_that_may_be_used_twice(codec: TAEHV) -> None:
    _, memory = codec.decode(torch.randn(1, 3, 16, 2, 2, dtype=torch.float64))
    kept, latents = [tensor.clone() for tensor in memory], torch.randn(1, 3, 16, 2, 2, dtype=torch.float64)
    first, second = codec.decode(latents, memory)[0], codec.decode(latents, memory)[0]
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(kept, memory, strict=True))


@torch.no_grad()
def test_a_latent_frame_sees_no_later_pixel_frames(codec: TAEHV) -> None:
    pixels = torch.rand(1, 13, 3, 16, 24, dtype=torch.float64)
    changed = pixels.clone()
    changed[:, 9:] = 0
    before, after = codec.encode(pixels), codec.encode(changed)
    assert before.shape == (1, 4, 16, 2, 3)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_convolution_after_enlargement_is_computed_small() -> None:
    layer, x = UpConv(5, 3).double(), torch.randn(2, 5, 6, 7, dtype=torch.float64)
    large = fn.conv2d(fn.interpolate(x, scale_factor=2), layer.weight, padding=1)
    assert torch.allclose(layer(x), large, atol=1e-12)


def test_the_public_structure_has_these_tensors() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in TAEHV(CodecConfig()).state_dict().items()}
    assert shapes["decoder.1.weight"] == (256, 16, 3, 3)
    assert shapes["decoder.3.conv.0.weight"] == (256, 512, 3, 3)
    assert shapes["decoder.7.conv.weight"] == (256, 256, 1, 1)
    assert shapes["decoder.13.conv.weight"] == (256, 128, 1, 1)
    assert shapes["decoder.14.weight"] == (64, 128, 3, 3)
    assert shapes["decoder.22.bias"] == (3,)
    assert shapes["encoder.2.conv.weight"] == (64, 128, 1, 1)
    assert shapes["encoder.17.weight"] == (16, 64, 3, 3)
    assert not any("taps" in name for name in shapes)


def test_widths_come_from_the_file(codec: TAEHV) -> None:
    assert TAEHV.from_state_dict(codec.state_dict()).config == NARROW


def test_a_file_without_a_tensor_is_refused_by_its_name(codec: TAEHV) -> None:
    state = dict(codec.state_dict())
    del state["decoder.14.weight"]
    with pytest.raises(CheckpointError, match=r"decoder\.14\.weight"):
        TAEHV.from_state_dict(state)
    state = dict(codec.state_dict()) | {"decoder.3.conv.0.weight": torch.zeros(2, 2, 3, 3)}
    with pytest.raises(CheckpointError, match=r"decoder\.3\.conv\.0\.weight"):
        TAEHV.from_state_dict(state)


@pytest.mark.parametrize("shape", [(1, 4, 3, 16, 16), (1, 5, 3, 16, 20)])
def test_what_cannot_be_encoded_is_refused(codec: TAEHV, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot encode"):
        codec.encode(torch.zeros(shape, dtype=torch.float64))
