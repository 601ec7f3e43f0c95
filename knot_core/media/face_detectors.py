"""Faces in a picture, by a trained detector where one is installed: MediaPipe's, or else OpenCV's.

Both packages are optional, and only models that lie in the packages themselves are used, so nothing is downloaded.
MediaPipe's wheels before 0.10.30 bring its face detector along; later ones bring no model. OpenCV 4's wheels bring
Haar cascades; OpenCV 5 moved them out of its main module.
"""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

INSTALL = 'pip install "mediapipe>=0.10.14,<0.10.30"'
_LEAST_SURE = 0.6  # of MediaPipe's score, 0 to 1
_SAME_FACE = 0.3  # the overlap of two boxes, as a part of both together, from which they are one face
_CASCADE = "haarcascade_frontalface_alt2.xml"  # of those in the wheels the one with the fewest false alarms
_LEAST_SHARE = 0.06  # a face's width, as a part of the picture's shorter side
_LEAST_PIXELS = 24  # on the longer side of what the cascade was trained on there are 20
_AGREEING = 5  # overlapping hits of the cascade that make a face
_LARGEST = 1024  # pixels of the longer side at which OpenCV searches: it is slow in large photographs

# What a detector frames, and in it the face from brows to chin: top and height as parts of the frame.
_IN_MEDIAPIPE = (0.1, 0.9)
_IN_CASCADE = (0.18, 0.82)


@dataclass(frozen=True)
class Box:
    """A face from brows to chin, in pixels of the picture."""

    left: float
    top: float
    width: float
    height: float


Detect = Callable[[np.ndarray], list[Box]]  # uint8 [H, W, 3], RGB


def detect_faces(picture: np.ndarray) -> tuple[str, list[Box]]:
    """Find faces in an image uint8 [H, W, 3]: (detector's name, faces, largest first), or ("", []) if none is found.

    OpenCV is asked where MediaPipe finds nothing: each finds faces that the other misses.
    """
    for name, detect in installed_detectors().items():
        if faces := detect(picture):
            return name, largest_first(faces)
    return "", []


def largest_first(faces: list[Box]) -> list[Box]:
    return sorted(faces, key=lambda box: box.width * box.height, reverse=True)


def installed_detectors() -> dict[str, Detect]:
    """The detectors that are installed, by name, the better one first."""
    opened = {"MediaPipe": _mediapipe(), "OpenCV": _opencv()}
    return {name: detect for name, detect in opened.items() if detect is not None}


def import_optional(name: str) -> ModuleType | None:
    """An optional package; one that is installed but does not load is said, for the user meant it to be used."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name == name:
            return None
        logger.warning("the package %s is installed but does not load (%s): faces are found without it", name, problem)
    except Exception as problem:  # what a binary package trips over is anything: numpy's ABI, protobuf's descriptors
        logger.warning("the package %s is installed but does not load (%s): faces are found without it", name, problem)
    return None


def _mediapipe() -> Detect | None:
    package = import_optional("mediapipe")
    if package is None or not hasattr(package, "solutions"):
        return None

    detection = package.solutions.face_detection

    def detect(picture: np.ndarray) -> list[Box]:
        found: list[Box] = []
        for distance in (0, 1):  # models for faces within 2 m of the camera, and within 5 m
            with detection.FaceDetection(model_selection=distance, min_detection_confidence=_LEAST_SURE) as detector:
                faces = detector.process(np.ascontiguousarray(picture)).detections or []
            boxes = [_mediapipe_box(face.location_data.relative_bounding_box, picture.shape) for face in faces]
            found += [box for box in boxes if all(_overlap(box, other) < _SAME_FACE for other in found)]
        return found

    return detect


def _mediapipe_box(frame: Any, shape: tuple[int, ...]) -> Box:
    """MediaPipe gives parts of the picture's width and height."""
    height, width = shape[:2]
    return _face_in(
        (frame.xmin * width, frame.ymin * height, frame.width * width, frame.height * height), _IN_MEDIAPIPE
    )


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    height = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(a.width * a.height + b.width * b.height - shared, 1e-9)


def _opencv() -> Detect | None:
    package = import_optional("cv2")
    if package is None or not hasattr(package, "CascadeClassifier") or not hasattr(package, "data"):
        return None
    file = Path(package.data.haarcascades, _CASCADE)
    if not file.is_file():
        return None

    def detect(picture: np.ndarray) -> list[Box]:
        scale = min(1.0, _LARGEST / max(picture.shape[:2]))
        size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
        small = package.resize(np.ascontiguousarray(picture), size, interpolation=package.INTER_AREA)
        grey = package.equalizeHist(package.cvtColor(small, package.COLOR_RGB2GRAY))
        least = max(_LEAST_PIXELS, round(_LEAST_SHARE * min(size)))
        cascade = package.CascadeClassifier(str(file))
        found = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=_AGREEING, minSize=(least, least))
        return [_face_in(tuple(float(side) / scale for side in frame), _IN_CASCADE) for frame in found]

    return detect


def _face_in(frame: tuple[float, ...], part: tuple[float, float]) -> Box:
    left, top, width, height = frame
    return Box(left, top + part[0] * height, width, part[1] * height)
