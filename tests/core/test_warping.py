"""The autoencoder that moves a reference: chunk by chunk equals at once, the reference comes back, clear errors."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from knot_core.codec import load_codec
from knot_core.codec.head_window import head_distance, head_window
from knot_core.codec.latent_matching import aligned_distances, distances, matches, warp
from knot_core.codec.warping import WarpingCodec, decided
from knot_core.codec.warping_networks import Motion, ReadReference, WarpingConfig
from knot_core.errors import CheckpointError
from knot_core.media.face_alignment import places_of_points
from knot_core.media.face_places import SIDE

NARROW = WarpingConfig(encoder=(4, 6, 8, 10), decoder=(12, 8, 6), reference=4)


READING = replace(NARROW, points=5, groups=3)
CODED = replace(READING, coded=True)


@pytest.fixture(scope="module", params=[NARROW, READING, CODED], ids=["", "reads landmarks", "codes landmarks"])
def codec(request: pytest.FixtureRequest) -> WarpingCodec:
    torch.manual_seed(0)
    codec = WarpingCodec(request.param)
    heads = [codec.decoder.coarse, codec.decoder.head]  # those of a new codec say that all stands still
    if codec.decoder.points is not None:
        heads.append(codec.decoder.points.local)
        if codec.decoder.points.code is not None:
            torch.nn.init.normal_(codec.decoder.points.code.reads, std=0.01)
            torch.nn.init.normal_(codec.decoder.points.code.writes)
    for head in heads:
        torch.nn.init.normal_(head.weight, std=0.1)
    return codec.double().eval()


@pytest.fixture(scope="module")
def reference(codec: WarpingCodec) -> ReadReference:
    with torch.no_grad():
        return codec.read_reference(_picture(2, 64, 96))


def _picture(batch: int, height: int, width: int) -> Tensor:
    """A picture of whole 255ths, as one in a file is."""
    return (torch.rand(batch, 3, height, width, dtype=torch.float64) * 255).round() / 255


@pytest.mark.parametrize("lengths", [(7,), (1, 6), (3, 3, 1), (1, 1, 1, 1, 1, 1, 1)])
@torch.no_grad()
def test_decoding_in_chunks_equals_decoding_at_once(
    codec: WarpingCodec, reference: ReadReference, lengths: tuple[int, ...]
) -> None:
    latents = torch.randn(2, 7, 16, 4, 6, dtype=torch.float64)
    whole, _ = codec.decode(latents, None, reference)
    parts, memory = [], None
    for part in latents.split(lengths, dim=1):
        pixels, memory = codec.decode(part, memory, reference)
        parts.append(pixels)
    assert parts[0].shape[1] == 1 + 4 * (lengths[0] - 1)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-12)


@torch.no_grad()
def test_the_memory_is_a_value_that_may_be_used_twice(codec: WarpingCodec, reference: ReadReference) -> None:
    first, latents = (torch.randn(2, 3, 16, 4, 6, dtype=torch.float64) for _ in range(2))
    _, memory = codec.decode(first, None, reference)
    kept = [tensor.clone() for tensor in memory]
    assert torch.equal(codec.decode(latents, memory, reference)[0], codec.decode(latents, memory, reference)[0])
    assert all(torch.equal(a, b) for a, b in zip(kept, memory, strict=True))


@torch.no_grad()
def test_the_latents_of_the_reference_give_the_reference(codec: WarpingCodec) -> None:
    """Whatever the weights are, and whatever moved before; landmarks glide back within a latent frame."""
    picture = _picture(1, 64, 128)
    reference = codec.read_reference(picture)
    _, memory = codec.decode(torch.randn(1, 2, 16, 4, 8, dtype=torch.float64), None, reference)
    still = codec.encode(picture[:, None]).expand(-1, 3, -1, -1, -1)
    pixels, _ = codec.decode(still, memory, reference)
    glides = 4 if codec.config.coded else 0
    assert torch.equal(pixels[:, glides:], picture[:, None].expand(-1, 12 - glides, -1, -1, -1))
    moved, _ = codec.decode(still + torch.randn(16, 4, 8, dtype=torch.float64), memory, reference)
    assert not torch.allclose(moved, pixels, atol=0.01)


@pytest.mark.parametrize("times", [2, 3])
@torch.no_grad()
def test_a_larger_reference_is_moved_in_its_own_size(codec: WarpingCodec, times: int) -> None:
    small, large = _picture(1, 32, 64), _picture(1, 32 * times, 64 * times)
    latents = codec.encode(small[:, None])
    reference = codec.read_reference(large, latents[:, 0])
    assert reference.detail == times
    pixels, memory = codec.decode(latents, None, reference)
    torch.testing.assert_close(pixels[:, 0], large, atol=1e-12, rtol=0)
    pixels, _ = codec.decode(latents.expand(-1, 2, -1, -1, -1), memory, reference)
    torch.testing.assert_close(pixels, large[:, None].expand(-1, 8, -1, -1, -1), atol=1e-12, rtol=0)
    moved = latents + torch.randn(1, 1, 16, 2, 4, dtype=torch.float64)
    enlarged = small.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)
    made = codec.decode(moved, memory, codec.read_reference(enlarged, latents[:, 0]))[0][0]
    plain = codec.decode(moved, memory, codec.read_reference(small))[0][0]
    shrunk = torch.nn.functional.avg_pool2d(made, times)
    assert (shrunk - plain).abs().mean() < 0.5 * (plain - small).abs().mean(), "it moves the same way"


@torch.no_grad()
def test_outside_of_the_window_the_reference_stands_still(codec: WarpingCodec) -> None:
    picture = _picture(1, 64, 128)
    window = torch.zeros(32, 64, dtype=torch.float64)
    window[8:24, 16:40] = 1
    reference = replace(codec.read_reference(picture), window_HW=window)
    pixels, _ = codec.decode(torch.randn(1, 2, 16, 4, 8, dtype=torch.float64), None, reference)
    moved = (pixels - picture[:, None]).abs().amax(dim=(0, 1, 2)) > 1e-9
    assert moved[20:44, 40:72].all()
    moved[8:56, 24:88] = False  # the gain's window is coarser
    assert not moved.any()


@pytest.mark.parametrize(("height", "width"), [(256, 256), (128, 256), (256, 192)])
def test_a_head_in_its_place_moves_and_what_is_about_it_does_not(height: int, width: int) -> None:
    window, side = head_window(height, width), min(height, width)
    unit, left, top = side / SIDE, (width - side) // 2, (height - side) // 2
    for x, y in places_of_points():
        assert window[top + int(unit * y), left + int(unit * x)] == 1
    assert not window[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    square = window[top : top + side, left : left + side]
    outside = head_distance(height, width) >= 1
    assert not window[outside].any()
    assert square.sum() > 0.99 * window.sum(), "the top of the ellipse lies above the square"
    assert 0.3 < square.mean() < 0.6


@torch.no_grad()
def test_a_picture_that_stands_still_has_the_latents_of_one_picture(codec: WarpingCodec) -> None:
    picture = _picture(1, 32, 32)[:, None]
    latents = codec.encode(picture.expand(-1, 9, -1, -1, -1))
    assert torch.allclose(latents, codec.encode(picture).expand(-1, 3, -1, -1, -1), atol=1e-12)


@torch.no_grad()
def test_a_latent_frame_sees_its_own_pixel_frames_alone(codec: WarpingCodec) -> None:
    pixels = torch.rand(1, 13, 3, 32, 48, dtype=torch.float64)
    changed = pixels.clone()
    changed[:, 5:9] = 0
    before, after = codec.encode(pixels), codec.encode(changed)
    assert before.shape == (1, 4, 16, 2, 3)
    same = [torch.equal(before[:, frame], after[:, frame]) for frame in range(4)]
    assert same == [True, True, False, True]


def test_a_flow_points_to_where_a_pixel_comes_from() -> None:
    picture = torch.rand(1, 3, 8, 16)
    flow = torch.tensor([3.0, -2.0])[None, :, None, None].expand(1, 2, 8, 16)
    moved = warp(picture, flow, 1)
    assert torch.allclose(moved[..., 2:, :13], picture[..., :6, 3:], atol=1e-5)
    assert torch.allclose(moved[..., 0, :13], picture[..., 0, 3:], atol=1e-5), "beyond the edge the edge is repeated"


def test_in_bfloat16_a_flow_points_to_parts_of_pixels_too() -> None:
    ramp = (torch.arange(256.0) / 256).expand(1, 3, 8, 256)
    moved = warp(ramp.bfloat16(), torch.full((1, 2, 8, 256), 0.5).bfloat16(), 1)
    assert moved.dtype == torch.bfloat16
    assert torch.allclose(moved[..., :255].float(), ramp[..., :255] + 0.5 / 256, atol=2**-8)
    fine = warp(torch.eye(2).repeat(128, 128)[None, None].bfloat16(), torch.full((1, 2, 256, 256), 0.5).bfloat16(), 1)
    assert torch.all(fine[..., :255, :255] == 0.5), "midway between black and white, wherever that is"


def test_what_is_fine_is_kept_between_pixels_and_a_flow_of_zero_gives_the_picture() -> None:
    waves = 0.5 + 0.4 * torch.sin(torch.arange(64.0) * torch.pi / 2).expand(1, 1, 64, 64)
    half = torch.full((1, 2, 64, 64), 0.5)
    kept = {mode: float(warp(waves, half, 1, mode)[..., 8:-8, 8:-8].std()) for mode in ("bilinear", "bicubic")}
    assert kept["bicubic"] > 1.15 * kept["bilinear"]
    assert torch.equal(warp(waves, 0 * half, 1, "bicubic"), waves)


def test_a_mask_that_is_not_sure_decides() -> None:
    mask = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]).view(1, 1, 1, 5)
    none = torch.zeros(0)
    motion = Motion(flow_N2HW=none, mask_N1HW=mask, log_gain_N1HW=none, residual_N3HW=none, rough_N2HW=none,
                    matched_N2HW=none)  # fmt: skip
    assert torch.allclose(decided(motion).mask_N1HW.flatten(), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_latents_that_lie_elsewhere_are_found_there_and_looked_at_there() -> None:
    still = torch.randn(1, 16, 12, 14)
    own = still.roll((-2, 1), (2, 3))  # what lies at (y, x) lay at (y + 2, x - 1)
    matched = matches(distances(own, still), torch.tensor(50.0))
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(matched[inner], torch.tensor([-1.0, 2.0])[:, None, None].expand_as(matched[inner]), atol=1e-4)
    aligned, near = aligned_distances(own, still, matched)
    assert torch.allclose(aligned[inner], own[inner], atol=1e-3)
    assert (near[inner].argmin(dim=1) == near.shape[1] // 2).all()
    half = (still + still.roll(-1, 3)) / 2  # half a cell to the right
    _, near = aligned_distances(half, still, torch.zeros(1, 2, 12, 14))
    assert near[0, 5, 2:-2, 2:-2].max() < 1e-6


def test_widths_come_from_the_file(codec: WarpingCodec) -> None:
    loaded = WarpingCodec.from_state_dict(codec.state_dict())
    assert loaded.config == codec.config


def test_a_file_without_a_tensor_is_refused_by_its_name(codec: WarpingCodec) -> None:
    state = dict(codec.state_dict())
    del state["decoder.up.bias"]
    with pytest.raises(CheckpointError, match=r"decoder\.up\.bias"):
        WarpingCodec.from_state_dict(state)
    state = dict(codec.state_dict()) | {"decoder.first.bias": torch.zeros(2, 2)}
    with pytest.raises(CheckpointError, match=r"decoder\.first\.bias"):
        WarpingCodec.from_state_dict(state)


@pytest.mark.parametrize("shape", [(1, 4, 3, 32, 32), (1, 5, 3, 32, 24)])
def test_what_cannot_be_encoded_is_refused(codec: WarpingCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot encode"):
        codec.encode(torch.zeros(shape, dtype=torch.float64))


def test_a_file_is_known_by_its_tensors(codec: WarpingCodec, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file({name: tensor.half() for name, tensor in codec.state_dict().items()}, file)
    for kind in ("auto", "warping"):
        found = load_codec(file, kind)
        assert isinstance(found, WarpingCodec)
        assert found.config == codec.config
    with pytest.raises(CheckpointError, match="not of the kind taew2_1, but of warping"):
        load_codec(file, "taew2_1")


@torch.no_grad()
def test_the_last_frame_alone_is_that_of_a_streams_first_latent_frame_but_for_what_is_remembered(
    codec: WarpingCodec, reference: ReadReference
) -> None:
    codec, latents = deepcopy(codec), torch.randn(2, 16, 4, 6, dtype=torch.float64)
    alone = codec.decoder.last_frames(latents, reference)
    whole, _ = codec.decoder(latents[:, None], reference, None)
    assert alone.flow_N2HW.shape == whole.flow_N2HW[3::4].shape
    for block in codec.decoder.frame_blocks:
        block.conv[0].weight[:, 8:] = 0  # of the frame before
    whole, _ = codec.decoder(latents[:, None], reference, None)
    for one, all_of_them in zip(vars(codec.decoder.last_frames(latents, reference)).values(), vars(whole).values(),
                                strict=True):  # fmt: skip
        assert torch.allclose(one, all_of_them[3::4], atol=1e-12)
