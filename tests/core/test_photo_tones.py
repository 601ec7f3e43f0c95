"""What is painted into a photo without colours has none."""

from dataclasses import replace

import pytest
import torch

from knot_core.codec.photo_tones import in_tone, tone_matrix
from knot_core.codec.warping import WarpingCodec, composed
from knot_core.codec.warping_networks import WarpingConfig

_WEIGHT = torch.ones(32, 48)


def _grey(tone: tuple[float, float, float]) -> torch.Tensor:
    return (
        torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.7 * torch.tensor(tone)[:, None, None]
    )


@pytest.mark.parametrize("tone", [(1.0, 1.0, 1.0), (1.1, 1.0, 0.9)])
def test_a_picture_of_one_tone_gives_it_to_what_is_painted(tone: tuple[float, float, float]) -> None:
    painted = torch.rand(4, 3, 8, 8)
    made = in_tone(painted, tone_matrix(_grey(tone), _WEIGHT))
    assert torch.allclose(made.mean(dim=1), painted.mean(dim=1), atol=1e-4), "as bright as it was"
    ratio = made / made.mean(dim=1, keepdim=True)
    assert torch.allclose(ratio, torch.tensor(tone)[:, None, None].expand_as(ratio), atol=0.01)


def test_a_picture_with_colours_changes_nothing_and_in_between_it_changes_by_and_by() -> None:
    coloured, grey = torch.rand(1, 3, 32, 48), _grey((1.0, 1.0, 1.0))
    assert torch.equal(tone_matrix(coloured, _WEIGHT), torch.eye(3)[None])
    pale = torch.lerp(grey, coloured, 0.05)
    between = tone_matrix(pale, _WEIGHT)
    assert 0.34 < between[0, 0, 0] < 0.99
    assert torch.allclose(between.sum(dim=1), torch.ones(1, 3), atol=0.02), "brightness stays"
    assert tone_matrix(torch.cat([coloured, grey]), _WEIGHT)[0].equal(torch.eye(3))


def test_colours_where_nothing_counts_are_not_seen() -> None:
    picture, weight = _grey((1.0, 1.0, 1.0)), _WEIGHT.clone()
    picture[..., :10] = torch.rand(3, 32, 10)
    assert torch.equal(tone_matrix(picture, weight), torch.eye(3)[None])
    weight[:, :10] = 0
    assert torch.allclose(tone_matrix(picture, weight), torch.full((1, 3, 3), 1 / 3), atol=1e-5)


def test_a_grey_photo_stays_grey_whatever_the_decoder_paints() -> None:
    torch.manual_seed(0)
    codec = WarpingCodec(WarpingConfig(encoder=(4, 6, 8, 10), decoder=(12, 8, 6), reference=4))
    torch.nn.init.normal_(codec.decoder.head.weight)
    with torch.no_grad():
        reference, latents = (
            codec.read_reference(torch.rand(1, 1, 64, 64).repeat(1, 3, 1, 1)),
            torch.randn(1, 2, 16, 4, 4),
        )
        made, coloured = (
            composed(codec.decoder(latents, one, None)[0], one)
            for one in (reference, replace(reference, tone_B33=torch.eye(3)[None]))
        )
        with torch.autocast("cpu", torch.bfloat16):  # as in training
            assert codec.decoder(latents, reference, None)[0].residual_N3HW.dtype == made.dtype
    assert (made.amax(dim=1) - made.amin(dim=1)).max() < 1e-4
    assert (coloured.amax(dim=1) - coloured.amin(dim=1)).max() > 0.02
