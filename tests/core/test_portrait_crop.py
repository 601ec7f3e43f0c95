"""Finding the face region, and the picture of a driving."""

import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as fn
from PIL import Image

from knot_core.driving import Driving
from knot_core.driving.combine import combine
from knot_core.driving.driving_plot import PreviewOptions, draw_driving
from knot_core.driving.expression import read_expression
from knot_core.errors import DrivingError, MediaError
from knot_core.media import open_image
from knot_core.media.portrait import FaceRegion, crop_portrait, find_face, portrait_box
from knot_core.model_loading import ASSETS

# Middle of each sample portrait's face, as parts of the picture, read off by eye.
FACES = {"ada": (0.5, 0.58), "ben": (0.5, 0.52), "cleo": (0.5, 0.53), "dan": (0.5, 0.55)}


def in_a_larger_picture(name: str, size: int, left: int, right: int, top: int, bottom: int) -> torch.Tensor:
    """[H, W, 3]: the portrait, its backdrop going on to all sides, and a little noise."""
    planes = open_image(ASSETS / "portraits" / f"{name}.png").movedim(-1, 0)[None]
    small = fn.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    larger = fn.pad(small, (left, right, top, bottom), mode="replicate")[0].movedim(0, -1)
    noise = torch.randn(larger.shape, generator=torch.Generator().manual_seed(size))
    return (larger + 0.01 * noise).clamp(0, 1)


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize(("size", "sides"), [(150, (120, 20, 60, 10)), (200, (10, 150, 20, 60))])
def test_a_face_off_the_centre_is_found(name, size, sides):
    left, right, top, bottom = sides
    face = find_face(in_a_larger_picture(name, size, left, right, top, bottom))
    x, y = ((face.left + face.width / 2 - left) / size, (face.top + face.height / 2 - top) / size)
    assert face.found
    assert abs(x - FACES[name][0]) < 0.1
    assert abs(y - FACES[name][1]) < 0.2
    assert 0.2 < face.width / size < 0.6


@pytest.mark.parametrize("kind", ["noise", "flat", "stripes"])
def test_where_there_is_no_face_the_centre_is_taken_and_said(kind, caplog):
    rng = torch.Generator().manual_seed(0)
    image = {
        "noise": torch.rand(120, 200, 3, generator=rng),
        "flat": torch.full((120, 200, 3), 0.5),
        "stripes": (torch.arange(200) // 10 % 2).float()[None, :, None].expand(120, 200, 3),
    }[kind]
    with caplog.at_level(logging.WARNING):
        cropped, face, _ = crop_portrait(image, 64, 64)
    assert not face.found
    assert "centre is taken" in caplog.text
    torch.testing.assert_close(cropped.mean(), image[:, 40:160].mean(), atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 96)])
def test_the_crop_has_the_size_that_was_asked_for(size):
    cropped, face, _ = crop_portrait(in_a_larger_picture("ben", 150, 100, 0, 50, 0), *size)
    assert cropped.shape == (*size, 3)
    assert face.found
    assert 0 <= cropped.min() <= cropped.max() <= 1


@pytest.mark.parametrize("face", [(0, 0), (180, 10), (90, 160)])
@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (64, 160)])
@pytest.mark.parametrize("room", [1, 2.8, 10])
def test_a_box_lies_in_the_picture_and_has_the_proportions(face, shape, room):
    region = FaceRegion(*face, 40, 42, 1.0, True)
    top, left, height, width = portrait_box(region, (200, 220), shape, room)
    assert top >= 0
    assert left >= 0
    assert top + height <= 200
    assert left + width <= 220
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.04)


@pytest.mark.parametrize("shape", [(5, 5, 3), (1, 300, 3), (40, 40, 4)])
def test_any_picture_gives_a_crop(shape):
    assert crop_portrait(torch.rand(shape), 32, 48)[0].shape == (32, 48, 3)


def test_what_is_no_picture_is_said():
    with pytest.raises(MediaError, match="give RGB"):
        crop_portrait(torch.zeros(8, 8), 32, 32)
    with pytest.raises(MediaError, match="room is 0"):
        crop_portrait(torch.zeros(8, 8, 3), 32, 32, room=0)


# the picture of a driving

TIMELINE = read_expression('{"yaw": [[0, -1, "linear"], [4, 1]], "brow": [[0, 0], [2, 1]]}')


def blue(picture: Image.Image) -> np.ndarray:
    """Where a pose curve is drawn."""
    values = np.asarray(picture).astype(int)
    return (np.abs(values - (37, 99, 235)).sum(axis=-1)) < 30


def test_a_rising_control_is_drawn_rising():
    curve = blue(draw_driving(TIMELINE, PreviewOptions(width=480)))[86:130]
    columns = np.flatnonzero(curve.any(axis=0))
    heights = [np.flatnonzero(curve[:, column]).mean() for column in columns]
    assert columns[0] < 110
    assert columns[-1] > 460
    assert heights[0] > heights[-1] + 25
    assert (np.diff(heights) <= 1).all()


def test_what_is_not_given_has_no_curve():
    assert not blue(draw_driving(Driving.none())).any()
    assert not blue(draw_driving(Driving.from_controls({"mouth_open": [0, 1]}))).any()


def test_the_same_driving_is_the_same_picture_and_another_is_not():
    pictures = [
        draw_driving(driving, PreviewOptions(seconds=4, width=400)).tobytes()
        for driving in (TIMELINE, TIMELINE, combine(Driving.idle(1), TIMELINE, head=1))
    ]
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize("start", [0, 86_400 * 5])
def test_an_endless_driving_is_shown_for_a_while_wherever_asked(start):
    picture = draw_driving(Driving.idle(2), PreviewOptions(start=start, width=400, chunk_frames=3))
    assert picture.width == 400
    assert blue(picture).any()


def test_prompts_get_a_row_of_their_own():
    plain = draw_driving(TIMELINE)
    with_prompts = draw_driving(TIMELINE, PreviewOptions(prompts=((0, "calm"), (2.5, "laughing " * 50))))
    assert with_prompts.height > plain.height


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 10}, "width of the preview is 10"),
        ({"seconds": 1e9}, "seconds of the preview"),
        ({"start": -1}, "start of the preview"),
        ({"start": float("nan")}, "start of the preview"),
    ],
)
def test_bad_preview_options_get_one_sentence(options, says):
    with pytest.raises(DrivingError, match=says):
        PreviewOptions(**options)


def test_a_start_behind_the_end_is_said():
    with pytest.raises(DrivingError, match="starts at 9 s, but the driving lasts"):
        draw_driving(TIMELINE, PreviewOptions(start=9))


# real detectors and photographs, where they are installed

PHOTOS = {  # package, file in it, and the face: its middle and width in pixels, read off by eye
    "astronaut": ("skimage", "data/astronaut.png", (224, 130, 92)),
    "grace hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (268, 255, 190)),
}


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("package", ["mediapipe", "cv2"])
def test_an_installed_detector_finds_the_face_of_a_photo(package, photo, monkeypatch):
    pytest.importorskip(package)
    home, file, (x, y, width) = PHOTOS[photo]
    spec = importlib.util.find_spec(home) or pytest.skip(f"{home}, which brings the photo, is not installed")
    monkeypatch.setitem(sys.modules, {"mediapipe": "cv2", "cv2": "mediapipe"}[package], None)
    image = open_image(Path(spec.origin).parent / file)
    face = find_face(image)
    assert face.found
    assert face.finder == {"mediapipe": "MediaPipe", "cv2": "OpenCV"}[package]
    assert face.left + face.width / 2 == pytest.approx(x, abs=0.2 * width)
    assert face.top + face.height / 2 == pytest.approx(y, abs=0.3 * width)
    assert 0.7 < face.width / width < 1.4
    cropped, *_ = crop_portrait(image, 128, 128)
    assert cropped.shape == (128, 128, 3)


@pytest.mark.parametrize("name", FACES)
def test_mediapipe_finds_drawn_faces(name):
    pytest.importorskip("mediapipe")
    face = find_face(open_image(ASSETS / "portraits" / f"{name}.png"))
    assert face.finder == "MediaPipe"
    assert (face.left + face.width / 2) / 512 == pytest.approx(FACES[name][0], abs=0.05)
