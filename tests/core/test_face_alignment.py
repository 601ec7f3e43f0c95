"""Faces are brought to where training has them, by three points, in pictures of any size, place and turn."""

import cmath
import sys

import numpy as np
import pytest
import torch

from knot_core.errors import MediaError
from knot_core.media import face_alignment, fit_image, open_image
from knot_core.media.face_alignment import (
    FacePoints,
    describe_alignment,
    find_face_points,
    given_points,
    place_face,
    places_of_points,
)
from knot_core.media.placement import Placement, cut_out, fitted_placement
from knot_core.media.reference_crop import crop_reference, is_aligned
from knot_core.model_loading import ASSETS

ADA = "203,215 309,215 256,331"  # the eyes and the mouth of the sample portrait, 512 x 512


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    for name in ("mediapipe", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)


def moved(scale: complex, origin: complex) -> list[tuple[float, float]]:
    """The points of training, seen in a picture that a similarity transform made."""
    places = [origin + scale * complex(*place) for place in places_of_points()]
    return [(place.real, place.imag) for place in places]


def points_at(places: list[tuple[float, float]]) -> FacePoints:
    return FacePoints(left_eye=places[0], right_eye=places[1], mouth=places[2])


def as_text(places: list[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


@pytest.mark.parametrize(
    ("scale", "origin"), [(1, 0), (2.5, 30 + 400j), (cmath.rect(0.4, 0.6), 300 + 20j), (cmath.rect(7, -2.8), 3000j)]
)
def test_a_moved_turned_and_scaled_face_is_placed_exactly(scale, origin):
    placement = place_face(points_at(moved(scale, origin)), (4000, 4000), 256, 256)
    assert placement.scale == pytest.approx(scale)
    assert placement.origin == pytest.approx(origin, abs=1e-6)


def test_of_other_proportions_the_three_points_share_the_error():
    wide = points_at([(60.0, 100.0), (160.0, 100.0), (110.0, 150.0)])
    placement = place_face(wide, (300, 300), 256, 256)
    seen = placement.to_cut_out(torch.tensor([complex(*point) for point in wide.all]))
    wanted = torch.tensor([complex(*place) for place in places_of_points()])
    assert abs((seen - wanted).sum()) < 1e-3  # least squares leaves no mean error
    assert (seen - wanted).abs().max() < 20


@pytest.mark.parametrize("size", [(256, 256), (128, 128), (512, 320)])
def test_the_middle_square_of_any_size_has_the_face_where_training_has_it(size):
    points = points_at(moved(3.0, 100 + 50j))
    placement = place_face(points, (2000, 2000), *size)
    unit = min(size) / 256
    corner = complex((size[1] - 256 * unit) / 2, (size[0] - 256 * unit) / 2)
    seen = placement.to_cut_out(torch.tensor([complex(*point) for point in points.all]))
    wanted = torch.tensor([corner + unit * complex(*place) for place in places_of_points()])
    assert torch.allclose(seen, wanted, atol=1e-3)


def test_the_cut_out_shows_what_lies_at_the_points():
    """Three coloured discs in a large turned picture come out at the three places."""
    places = moved(cmath.rect(2.2, 0.35), 350 + 140j)
    y, x = torch.meshgrid(torch.arange(900) + 0.5, torch.arange(1000) + 0.5, indexing="ij")
    image = torch.zeros(900, 1000, 3)
    for channel, (px, py) in enumerate(places):
        image[..., channel] = (((x - px) ** 2 + (y - py) ** 2) < 20**2).float()
    aligned = crop_reference(image, (256, 256), aligned=True, points=as_text(places)).picture
    y, x = torch.meshgrid(torch.arange(256) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    for channel, (px, py) in enumerate(places_of_points()):
        weight = aligned[..., channel] / aligned[..., channel].sum()
        assert (float((weight * x).sum()), float((weight * y).sum())) == pytest.approx((px, py), abs=0.1)


def test_a_drawn_portrait_is_aligned_by_three_points_and_it_is_said():
    image = open_image(ASSETS / "portraits" / "ada.png")
    crop = crop_reference(image, (256, 256), aligned=True, points=ADA)
    assert crop.said.startswith("the face aligned by your three points: 106 pixels between the eyes, turned by 0")
    assert crop.placement.whole == tuple(image.shape[:2])
    aligned = crop.picture
    for x, y in places_of_points()[:2]:  # pupils, and the whites of the eyes beside them
        eye = aligned[round(y) - 12 : round(y) + 12, round(x) - 12 : round(x) + 12]
        assert eye.amax(dim=-1).min() < 0.2
        assert eye.amin(dim=-1).max() > 0.85


def test_at_full_resolution_a_pixel_of_the_photo_stays_a_pixel():
    placement = place_face(points_at(moved(cmath.rect(4.0, 0.1), 500 + 300j)), (3000, 3000), 256, 256)
    full = placement.at_full_resolution()
    assert full.size == (1024, 1024)
    assert abs(full.scale) == pytest.approx(1.0)
    corners = torch.tensor([0, 1024, 1024j, 1024 + 1024j])
    assert torch.allclose(full.to_whole(corners), placement.to_whole(corners / 4), atol=1e-2)


def test_a_cut_out_of_the_whole_picture_is_the_picture():
    image = torch.rand(40, 60, 3)
    same = Placement(scale=1, origin=0, size=(40, 60), whole=(40, 60))
    assert torch.allclose(cut_out(image, same), image, atol=1e-4)
    assert same.inside() == 1


def test_outside_of_the_picture_there_is_its_mirror_image_which_is_said():
    image = torch.rand(40, 60, 3)
    shifted = Placement(scale=1, origin=-20, size=(40, 60), whole=(40, 60))
    shown = cut_out(image, shifted)
    assert torch.allclose(shown[:, :20], image[:, :20].flip(1), atol=1e-4)
    assert shifted.inside() == pytest.approx(2 / 3)
    said = describe_alignment(points_at(moved(1, 0)), shifted)
    assert "33% of the crop lies outside of the picture and is filled with its mirror image" in said
    assert "mirror" not in describe_alignment(
        points_at(moved(1, 0)), place_face(points_at(moved(1, 0)), (256, 256), 256, 256)
    )


def test_other_proportions_take_the_middle_as_pictures_are_cropped():
    placement = Placement(scale=2, origin=10 + 20j, size=(100, 200), whole=(1000, 1000))
    square = placement.at_size(50, 50)
    assert square.scale == 4
    assert square.origin == 10 + 20j + 2 * 50  # a quarter of the width is left out on either side


def test_the_eyes_may_come_in_either_order_and_with_other_separators():
    upright = given_points("40,50 80,50 60,90", (128, 128))
    assert given_points("80,50; 40,50; 60,90", (128, 128)) == upright
    assert upright.left_eye == (40, 50)
    upside_down = given_points("40,90 80,90 60,50", (128, 128))
    assert upside_down.left_eye == (80, 90)  # seen with the face upright, it is the left one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "such as 97,112 159,112 128,178"),
        ("1,2 3,4", "give eyes and mouth in pixels"),
        ("a,b c,d e,f", "give eyes and mouth in pixels"),
        ("1,2,3 4,5,6 7,8,9", "give eyes and mouth in pixels"),
        ("40,50 80,50 60,900", "the point 60,900 lies outside of the picture of 128x100"),
        ("40,50 nan,50 60,90", "lies outside of the picture"),
        ("40,50 42,50 41,90", "the eyes are 2.0 pixels apart"),
        ("40,50 80,50 60,52", "the mouth lies between the eyes"),
        ("40,50 80,50 110,50", "the mouth lies between the eyes or beside them"),
    ],
)
def test_points_that_are_no_face_are_refused_with_what_to_give(text, said):
    with pytest.raises(MediaError, match=said):
        given_points(text, (100, 128))


def test_a_picture_without_a_face_is_refused_with_a_way_on():
    with pytest.raises(MediaError, match=r"no face found .* give the two eyes and the mouth as three points"):
        find_face_points(torch.rand(64, 64, 3))


def test_of_several_faces_the_largest_is_taken_and_said(monkeypatch):
    places = moved(1, 0)
    monkeypatch.setattr(face_alignment, "mesh_points", lambda _image: (*places, 3))
    crop = crop_reference(torch.rand(256, 256, 3), (256, 256), aligned=True)
    assert crop.said == "the largest of 3 faces aligned by MediaPipe: 62 pixels between the eyes, turned by 0 degrees"
    assert crop.placement.scale == pytest.approx(1)


@pytest.mark.parametrize(
    ("align", "points", "by_family", "wanted"),
    [
        ("auto", "", False, False),
        ("auto", "", True, True),
        ("auto", ADA, False, True),
        ("on", "", False, True),
        ("off", "  ", True, False),
    ],
)
def test_faces_are_aligned_where_the_family_the_points_or_the_user_ask_for_it(align, points, by_family, wanted):
    assert is_aligned(align, points, by_family=by_family) == wanted


def test_points_without_alignment_are_refused():
    with pytest.raises(MediaError, match="leave the points out, or set align to on"):
        is_aligned("off", ADA, by_family=True)
    with pytest.raises(MediaError, match="align is 'maybe'; choose one of auto, on, off"):
        is_aligned("maybe", "", by_family=True)


def test_what_is_not_aligned_is_fitted_as_before_and_placed():
    image = torch.rand(50, 80, 3)
    crop = crop_reference(image, (32, 32), fit="letterbox")
    assert torch.equal(crop.picture, fit_image(image, 32, 32, "letterbox"))
    assert crop.placement == fitted_placement((50, 80), 32, 32, "letterbox")
    assert not crop.said
    for aligned in (True, False):
        with pytest.raises(MediaError, match=r"must be \[height, width, 3\]"):
            crop_reference(torch.zeros(8, 8), (32, 32), aligned=aligned, points="1,1 2,2 3,3")


def test_the_mesh_is_looked_for_around_the_largest_face(monkeypatch):
    from knot_core.media import face_mesh
    from knot_core.media.face_detectors import Box

    landmarks = np.zeros((478, 3))
    for corners, (x, y) in zip((*face_mesh.EYE_CORNERS, face_mesh.MOUTH_CORNERS), moved(1, 0), strict=True):
        landmarks[list(corners)] = [(x - 5, y, 0), (x + 5, y, 1)]
    asked = []
    large, small = Box(0, 0, 50, 60), Box(100, 0, 20, 20)
    monkeypatch.setattr(face_mesh, "mediapipe_faces", lambda _picture: [large, small])
    monkeypatch.setattr(face_mesh, "find_mesh", lambda _picture, box: asked.append(box) or landmarks)
    *points, count = face_mesh.mesh_points(torch.zeros(200, 200, 3))
    assert asked == [large]
    assert (points, count) == (moved(1, 0), 2)
