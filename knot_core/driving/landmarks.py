"""Face landmarks through MediaPipe, an optional package: pip install "knot-forcing[pose]".

Its releases before 0.10.30 bring the face model along; later ones want it as a file, face_landmarker.task, which as a
rule holds a model of ARKit's face units as well.

Shapes: N = 478 landmarks (468 of the face, 5 of each iris), U = 52 face units.
"""

import importlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import DrivingError
from .face_units import UNITS

NUM_LANDMARKS = 478
MODEL_FILE = "face_landmarker.task"
_INSTALL = 'install it where this runs: pip install "mediapipe>=0.10.14"'

_SHAPES = "face_blendshapes.tflite"  # in that file, of the model of face units


@dataclass(frozen=True, eq=False)
class FaceSeen:
    """A face in a picture."""

    landmarks: np.ndarray  # float64 [N, 3] in pixels, x right, y down, z away from the camera
    units: np.ndarray | None = None  # float32 [U] in 0..1, in the order of `UNITS`; None: they are not measured


Finder = Callable[[np.ndarray], FaceSeen | None]  # of uint8 [H, W, 3]; None where there is no face


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

        def find(picture: np.ndarray) -> FaceSeen | None:
            faces = mesh.process(picture).multi_face_landmarks
            return FaceSeen(_in_pixels(faces[0].landmark, picture)) if faces else None

        yield find


@contextmanager
def _with_file(mediapipe: ModuleType, model_file: Path) -> Iterator[Finder]:
    if not model_file.is_file():
        raise DrivingError(f"there is no face model {model_file}; give the path of MediaPipe's {MODEL_FILE}")
    python, vision = (importlib.import_module(f"mediapipe.tasks.python{part}") for part in ("", ".vision"))
    has_shapes = zipfile.is_zipfile(model_file) and _SHAPES in zipfile.ZipFile(model_file).namelist()
    options = vision.FaceLandmarkerOptions(
        base_options=python.BaseOptions(model_asset_path=str(model_file)),
        running_mode=vision.RunningMode.IMAGE,
        output_face_blendshapes=has_shapes,
    )
    with vision.FaceLandmarker.create_from_options(options) as landmarker:

        def find(picture: np.ndarray) -> FaceSeen | None:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            found = landmarker.detect(image)
            if not found.face_landmarks:
                return None
            units = _by_name(found.face_blendshapes[0]) if has_shapes else None
            return FaceSeen(_in_pixels(found.face_landmarks[0], picture), units)

        yield find


def _in_pixels(landmarks: object, picture: np.ndarray) -> np.ndarray:
    """MediaPipe gives parts of the picture's width and height; z on the scale of x."""
    height, width = picture.shape[:2]
    return np.array([(point.x, point.y, point.z) for point in landmarks]) * (width, height, width)


def _by_name(shapes: object) -> np.ndarray:
    """MediaPipe's blend shapes in the order of `UNITS`: it names them as ARKit does, and has no tongueOut."""
    scores = {shape.category_name: shape.score for shape in shapes}
    return np.array([scores.get(name, 0.0) for name in UNITS], np.float32)
