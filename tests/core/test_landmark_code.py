"""The code in the means of latents that tells how landmarks move."""

from copy import deepcopy
from dataclasses import replace

import torch

from knot_core.codec.landmark_code import LandmarkCode, token_means, with_means
from knot_core.codec.landmark_motion import continued
from knot_core.codec.point_motion import Points, stirred
from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig

_NARROW = WarpingConfig(encoder=(4, 6, 8, 10), decoder=(12, 8, 6), reference=4, points=5, groups=3, coded=True)


def _some_code(code: LandmarkCode) -> LandmarkCode:
    """A code of whatever motion, that reads what it writes."""
    left, _, right = torch.linalg.svd(torch.randn(code.writes[..., 0].numel(), len(code.reads)), full_matrices=False)
    basis = left @ right
    code.writes.copy_(basis.reshape(code.writes.shape))
    code.reads.copy_(basis.T.reshape(code.reads.shape))
    return code


def test_a_token_has_four_means_and_they_alone_change() -> None:
    latents = torch.randn(2, 3, 5, 6)
    means = token_means(latents)
    assert torch.allclose(means.view(2, 3, 2, 2)[1, 2, 1, 0], latents[1, 2, 1::2, 0::2].mean())
    wanted = torch.randn(2, 12)
    changed = with_means(latents, wanted)
    assert torch.allclose(token_means(changed), wanted, atol=1e-5)
    apart = changed - latents
    assert torch.allclose(apart[..., 0:2, 0:2], apart[..., 2:4, 4:6], atol=1e-6)
    assert torch.equal(with_means(latents, means), latents)
    assert torch.equal(with_means(latents.bfloat16(), token_means(latents.bfloat16())), latents.bfloat16())


def test_what_is_written_is_read_whatever_else_the_latents_hold() -> None:
    torch.manual_seed(0)
    code = _some_code(LandmarkCode(4, 5))
    still, latents, numbers = torch.randn(3, 4, 6, 8), torch.randn(3, 4, 6, 8), torch.randn(3, 16)
    moved = torch.einsum("nk,ktlx->ntlx", numbers, code.reads)
    assert torch.allclose(code.written(moved), numbers, atol=1e-5)
    coded = with_means(latents, token_means(still) + code.written(moved))
    read, rest = code.read(coded, still)
    assert torch.allclose(read, moved.flatten(0, 1), atol=1e-5)
    assert torch.allclose(rest, with_means(latents, token_means(still)), atol=1e-5)
    assert torch.allclose(code.read(rest, still)[0], torch.zeros(12, 5, 2), atol=1e-5)


def test_noise_of_single_tokens_hardly_moves_a_landmark() -> None:
    torch.manual_seed(0)
    code, still = _some_code(LandmarkCode(4, 5)), torch.zeros(1, 4, 16, 16)
    off, _ = code.read(0.1 * torch.randn(1, 4, 16, 16), still)
    assert 0 < code.written(off[None]).std() < 0.03, "a hundredth of it is left, of 64 tokens an eighth"


def test_a_decoder_draws_what_the_code_says() -> None:
    """As if it were told the landmarks of latents that say nothing of them."""
    torch.manual_seed(0)
    codec = WarpingCodec(_NARROW)
    for head in (codec.decoder.coarse, codec.decoder.head, codec.decoder.points.local):
        torch.nn.init.normal_(head.weight, std=0.1)
    code = _some_code(codec.decoder.points.code)
    with torch.no_grad():
        reference = codec.read_reference(torch.rand(1, 3, 64, 64))
        still = reference.latents_BCHW
        plain = with_means(torch.randn(3, 16, 4, 4), token_means(still).expand(3, -1))
        moved = torch.einsum("nk,ktlx->ntlx", 0.1 * torch.randn(3, 64), code.reads)
        coded = with_means(plain, token_means(still) + code.written(moved))
        there = reference.points.repeated(3)
        shown, _ = continued(moved.flatten(0, 1)[None], None)
        told = Points(places_NL2=there.places_NL2 + shown[0], sure_NL=there.sure_NL)
        by_code, by_word, without = (
            codec.decoder(latents[None], reference, None, points)[0].flow_N2HW
            for latents, points in ((coded, None), (plain, told), (plain, None))
        )
    assert torch.allclose(by_code, by_word, atol=1e-4)
    assert not torch.allclose(by_code, without, atol=1e-2)


def test_a_video_gets_the_code_that_its_landmarks_have_from_a_reference() -> None:
    torch.manual_seed(0)
    codec = WarpingCodec(_NARROW)
    code = _some_code(codec.decoder.points.code)
    torch.nn.init.normal_(codec.decoder.points.reader.layers[-1].weight, std=3.0)  # pictures differ for it
    bare = deepcopy(codec)
    bare.decoder.points.code = None
    with torch.no_grad():
        frames = torch.rand(1, 5, 3, 64, 64)
        assert torch.equal(codec.encode(frames)[:, :1], bare.encode(frames[:, :1])), "from which nothing has moved yet"
        reference, plain = codec.read_reference(torch.rand(1, 3, 64, 64)), bare.encode(frames)[0]
        still = reference.latents_BCHW.expand(2, -1, -1, -1)
        found, _ = code.read(codec.encode(frames, reference)[0], still)
        own, there = (codec.decoder.points.reader(latents).places_NL2 for latents in (plain, still))
        told = torch.einsum("nk,ktlx->ntlx", code.written((own - there).unflatten(0, (2, 4))), code.reads)
    assert torch.allclose(found, told.flatten(0, 1), atol=1e-6)
    assert found.abs().max() > 1e-4


def test_where_landmarks_move_by_pixels_nothing_holds_the_decoder_back() -> None:
    """Whatever else the latents say: they may be the reference's, as behind glasses."""
    there = torch.rand(1, 6, 2) * 0.2 + 0.1
    still = Points(places_NL2=there, sure_NL=torch.ones(1, 6))
    left = stirred(still.moved(torch.tensor([3 / 256, 0.0])), still, 16, 16)
    hardly = stirred(still.moved(torch.tensor([0.2 / 256, 0.0])), still, 16, 16)
    nobody = stirred(replace(still.moved(torch.tensor([3 / 256, 0.0])), sure_NL=torch.zeros(1, 6)), still, 16, 16)
    assert left.shape == (1, 1, 16, 16)
    assert left[..., 2:4, 2:4].min() > 0.9
    assert left[..., 8:, 8:].max() < 1e-3, "what is far from them stands still"
    assert hardly.max() < 0.01
    assert nobody.max() == 0
