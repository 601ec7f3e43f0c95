"""Face landmarks through MediaPipe, an optional package: pip install "knot-forcing[pose]".

Its releases before 0.10.30 bring the face model along; later ones want it as a file, face_landmarker.task.

Shapes: N = 478 landmarks (468 of the face, 5 of each iris).
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import DrivingError

NUM_LANDMARKS = 478
MODEL_FILE = "face_landmarker.task"
_INSTALL = 'install it where this runs: pip install "mediapipe>=0.10.14"'

# uint8 [H, W, 3] -> float64 [N, 3] in pixels, x right, y down, z away from the camera; None where there is no face.
Finder = Callable[[np.ndarray], np.ndarray | None]


def open_finder(model_file: Path | None = None) -> AbstractContextManager[Finder]:
    """MediaPipe's face landmarker, following one face from picture to picture."""
    mediapipe = _mediapipe()
    if model_file is not None:
        return _with_file(mediapipe, model_file)
    if not hasattr(mediapipe, "solutions"):
        raise DrivingError(
            f"MediaPipe {mediapipe.__version__} comes without its face model, and no file of it was given; download "
            f"{MODEL_FILE} from MediaPipe's page on face landmarks, or install mediapipe below 0.10.30"
        )
    return _built_in(mediapipe)


def _mediapipe() -> ModuleType:
    try:
        return importlib.import_module("mediapipe")
    except ImportError as problem:
        raise DrivingError(f"a pose from a video needs MediaPipe ({problem}); {_INSTALL}") from problem


@contextmanager
def _built_in(mediapipe: ModuleType) -> Iterator[Finder]:
    with mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True) as mesh:

        def find(picture: np.ndarray) -> np.ndarray | None:
            faces = mesh.process(picture).multi_face_landmarks
            return _in_pixels(faces[0].landmark, picture) if faces else None

        yield find


@contextmanager
def _with_file(mediapipe: ModuleType, model_file: Path) -> Iterator[Finder]:
    if not model_file.is_file():
        raise DrivingError(f"there is no face model {model_file}; give the path of MediaPipe's {MODEL_FILE}")
    python, vision = (importlib.import_module(f"mediapipe.tasks.python{part}") for part in ("", ".vision"))
    options = vision.FaceLandmarkerOptions(
        base_options=python.BaseOptions(model_asset_path=str(model_file)), running_mode=vision.RunningMode.IMAGE
    )
    with vision.FaceLandmarker.create_from_options(options) as landmarker:

        def find(picture: np.ndarray) -> np.ndarray | None:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            faces = landmarker.detect(image).face_landmarks
            return _in_pixels(faces[0], picture) if faces else None

        yield find


def _in_pixels(landmarks: object, picture: np.ndarray) -> np.ndarray:
    """MediaPipe gives parts of the picture's width and height; z on the scale of x."""
    height, width = picture.shape[:2]
    return np.array([(point.x, point.y, point.z) for point in landmarks]) * (width, height, width)
