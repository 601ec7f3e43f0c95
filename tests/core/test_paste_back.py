"""Frames go back into the whole picture: in place, feathered, and with nothing changed outside of them."""

import cmath

import pytest
import torch

from knot_core.errors import MediaError
from knot_core.media import fit_image, open_image
from knot_core.media.paste_back import PasteBack
from knot_core.media.placement import Placement, cut_out, fitted_placement
from knot_core.media.portrait import crop_portrait
from knot_core.model_loading import ASSETS

TURNED = Placement(scale=cmath.rect(1.5, 0.3), origin=80 + 40j, size=(64, 64), whole=(200, 240))


def smooth(height: int, width: int) -> torch.Tensor:
    """A picture [height, width, 3] in 0..1 without fine detail, so that scaling there and back keeps it."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack((0.5 + 0.4 * torch.sin(5 * x), 0.5 + 0.4 * torch.cos(4 * y), (x + y) / 2), dim=-1)


@pytest.mark.parametrize("placement", [TURNED, Placement(scale=0.5, origin=20 + 30j, size=(64, 96), whole=(200, 240))])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_outside_of_the_frames_every_pixel_is_the_pictures_own(placement, kind):
    picture = torch.rand(*placement.whole, 3)
    picture = (picture * 255).byte() if kind == torch.uint8 else picture
    frames = torch.zeros(2, *placement.size, 3, dtype=kind)
    pasted = PasteBack(picture, placement)(frames)
    assert pasted.shape == (2, *placement.whole, 3)
    assert pasted.dtype == kind
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(240) + 0.5, indexing="ij")
    places = placement.to_cut_out(torch.complex(x, y))
    height, width = placement.size
    outside = (places.real < 0) | (places.real > width) | (places.imag < 0) | (places.imag > height)
    assert 0.3 < outside.float().mean() < 1
    assert torch.equal(pasted[0][outside], picture[outside])
    middle = (places - complex(width / 2, height / 2)).abs() < 0.2 * min(height, width)
    assert pasted[0][middle].eq(0).all()  # there it is the frame alone


@pytest.mark.parametrize("placement", [TURNED, fitted_placement((200, 240), 100, 100)])
def test_what_was_cut_out_and_pasted_back_is_the_picture(placement):
    picture = smooth(200, 240)
    pasted = PasteBack(picture, placement)(cut_out(picture, placement)[None])[0]
    assert (pasted - picture).abs().max() < 0.01


def test_the_frames_blend_in_without_a_step():
    picture = torch.zeros(200, 200, 3)
    placement = Placement(scale=1, origin=50 + 50j, size=(100, 100), whole=(200, 200))
    row = PasteBack(picture, placement, feather=0.2)(torch.ones(1, 100, 100, 3))[0, 100, :, 0]
    assert row.diff().abs().max() < 0.1
    assert row[:50].eq(0).all()
    assert row[75:125].eq(1).all()


def test_at_the_pictures_edge_nothing_blends():
    picture = torch.zeros(100, 200, 3)
    placement = Placement(scale=1, origin=50, size=(100, 100), whole=(100, 200))  # as high as the picture
    pasted = PasteBack(picture, placement)(torch.ones(1, 100, 100, 3))[0, ..., 0]
    assert pasted[:, 100].min() > 0.999
    assert pasted[50, 50] < 0.1


def test_without_feather_the_edge_is_hard():
    placement = Placement(scale=1, origin=10 + 10j, size=(20, 20), whole=(40, 40))
    pasted = PasteBack(torch.zeros(40, 40, 3), placement, feather=0)(torch.ones(1, 20, 20, 3))[0, ..., 0]
    assert pasted.sum() == pytest.approx(400)


def test_frames_of_another_size_than_the_crop_lie_in_the_same_place():
    picture, frames = torch.zeros(200, 240, 3), smooth(64, 64)[None]
    small = PasteBack(picture, TURNED)(frames)
    large = PasteBack(picture, TURNED)(fit_image(frames[0], 256, 256)[None])
    assert (small - large).abs().max() < 0.02


@pytest.mark.parametrize("size", [(300, 400), (520, 300)])
def test_a_portrait_crop_says_where_it_lies(size):
    portrait = fit_image(open_image(ASSETS / "portraits" / "ben.png"), 200, 200)
    image = portrait[:1, :1].repeat(*size, 1)
    image[60:260, 50:250] = portrait
    cropped, face, placement = crop_portrait(image, 96, 96)
    assert face.found
    assert placement.whole == size
    assert (cut_out(image, placement) - cropped).abs().mean() < 0.01
    pasted = PasteBack(image, placement)(cropped[None])[0]
    assert (pasted - image).abs().mean() < 0.01


def test_a_picture_that_was_fitted_whole_goes_back_without_its_bars():
    picture = smooth(60, 120)
    placement = fitted_placement((60, 120), 64, 64, "letterbox")
    frames = fit_image(picture, 64, 64, "letterbox")
    pasted = PasteBack(picture, placement)(frames[None])[0]
    assert (pasted - picture)[3:-3].abs().max() < 0.03  # beside the bars it is a little darker


def test_another_picture_than_the_crops_is_refused():
    with pytest.raises(MediaError, match="has 50x40 pixels, but the crop was taken from one of 240x200"):
        PasteBack(torch.zeros(40, 50, 3), TURNED)
    with pytest.raises(MediaError, match="feather is 2"):
        PasteBack(torch.zeros(200, 240, 3), TURNED, feather=2)
    far = Placement(scale=1, origin=900, size=(8, 8), whole=(200, 240))
    with pytest.raises(MediaError, match="outside of the whole picture"):
        PasteBack(torch.zeros(200, 240, 3), far)
