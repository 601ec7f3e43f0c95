"""Faces by MediaPipe or OpenCV: only the packages' own calls are replaced, unless they are installed."""

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from knot_core.media import face_detectors
from knot_core.media.face_detectors import detect_faces, installed_detectors
from knot_core.media.portrait import crop_portrait, describe_face, find_face

PICTURE = np.zeros((100, 200, 3), np.uint8)


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    """None in sys.modules makes an import fail as if the package were not there."""
    for name in ("mediapipe", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)


def mediapipe(faces: dict[int, list[tuple[float, float, float, float]]]) -> ModuleType:
    """Finds these frames (parts of the picture), by the number of its model."""

    class FaceDetection:
        def __init__(self, *, model_selection: int, min_detection_confidence: float) -> None:
            assert 0 < min_detection_confidence < 1
            self.frames = faces[model_selection]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def process(self, picture):
            assert picture.dtype == np.uint8
            boxes = [SimpleNamespace(xmin=x, ymin=y, width=w, height=h) for x, y, w, h in self.frames]
            found = [SimpleNamespace(location_data=SimpleNamespace(relative_bounding_box=box)) for box in boxes]
            return SimpleNamespace(detections=found or None)

    package = ModuleType("mediapipe")
    package.solutions = SimpleNamespace(face_detection=SimpleNamespace(FaceDetection=FaceDetection))
    return package


def opencv(folder: Path, faces: list[tuple[int, int, int, int]]) -> ModuleType:
    (folder / "haarcascade_frontalface_alt2.xml").touch()
    package = ModuleType("cv2")
    package.data, package.INTER_AREA, package.COLOR_RGB2GRAY = SimpleNamespace(haarcascades=f"{folder}/"), 3, 7
    package.resize = lambda picture, size, interpolation: np.resize(picture, (size[1], size[0], 3))  # noqa: ARG005
    package.cvtColor = lambda picture, _code: picture[..., 0]
    package.equalizeHist = lambda picture: picture
    cascade = SimpleNamespace(detectMultiScale=lambda _picture, **_options: np.array(faces).reshape(-1, 4))
    package.CascadeClassifier = lambda _path: cascade
    return package


def test_without_a_detector_the_outline_looks_and_how_to_get_one_is_said(caplog):
    assert installed_detectors() == {}
    assert detect_faces(PICTURE) == ("", [])
    with caplog.at_level(logging.WARNING):
        _, face, _ = crop_portrait(torch.full((90, 120, 3), 0.5), 64, 64)
    assert not face.found
    assert "no face found by the outline" in caplog.text
    assert "mediapipe" in caplog.text


def test_mediapipe_goes_before_opencv_and_the_largest_face_is_taken(monkeypatch, tmp_path):
    small, large = (0.1, 0.1, 0.1, 0.2), (0.5, 0.2, 0.2, 0.4)
    monkeypatch.setitem(sys.modules, "mediapipe", mediapipe({0: [small, large], 1: []}))
    monkeypatch.setitem(sys.modules, "cv2", opencv(tmp_path, [(0, 0, 90, 90)]))
    face = find_face(torch.zeros(100, 200, 3))
    assert (face.found, face.finder, face.count) == (True, "MediaPipe", 2)
    assert (face.left, face.width) == pytest.approx((100, 40))
    assert describe_face(face).startswith("the largest of 2 faces found by MediaPipe: 40 x 36 pixels at (100, 24)")


def test_a_face_that_both_of_mediapipes_models_find_is_one(monkeypatch):
    near, far = (0.5, 0.2, 0.2, 0.4), (0.51, 0.21, 0.2, 0.4)
    monkeypatch.setitem(sys.modules, "mediapipe", mediapipe({0: [near], 1: [far, (0.0, 0.0, 0.1, 0.2)]}))
    assert len(detect_faces(PICTURE)[1]) == 2


def test_opencv_is_asked_where_mediapipe_finds_nothing_or_has_no_model(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", opencv(tmp_path, [(20, 10, 50, 50)]))
    for package in (mediapipe({0: [], 1: []}), ModuleType("mediapipe")):
        monkeypatch.setitem(sys.modules, "mediapipe", package)
        name, faces = detect_faces(PICTURE)
        assert name == "OpenCV"
        assert (faces[0].left, faces[0].width) == (20, 50)


def test_large_pictures_are_searched_small_and_faces_lie_in_the_large_one(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", opencv(tmp_path, [(100, 50, 60, 60)]))
    _, (face,) = detect_faces(np.zeros((2048, 4096, 3), np.uint8))
    assert (face.left, face.width) == (400, 240)


def test_opencv_without_cascades_counts_as_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))  # OpenCV 5
    assert installed_detectors() == {}


def test_a_package_that_does_not_load_is_said_and_passed_over(monkeypatch, caplog):
    def broken(_name):
        raise TypeError("Descriptors cannot be created directly")

    monkeypatch.setattr(face_detectors.importlib, "import_module", broken)
    with caplog.at_level(logging.WARNING):
        assert installed_detectors() == {}
    assert "mediapipe is installed but does not load" in caplog.text


def test_no_face_with_detectors_names_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", opencv(tmp_path, []))
    face = find_face(torch.full((90, 120, 3), 0.5))
    said = describe_face(face)
    assert "no face found by OpenCV and the outline" in said
    assert "pip install" not in said
