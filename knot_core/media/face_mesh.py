"""Landmarks of a still picture's largest face, by MediaPipe's face mesh where that optional package is installed.

Its wheels before 0.10.30 bring the model along. The mesh is looked for in a cut-out around the face that the detector
found, because in a whole photograph it misses small faces.

Shapes: H W height and width of a picture, N = 478 landmarks (468 of the face, 5 of each iris).
"""

import numpy as np
from torch import Tensor

from .face_detectors import Box, import_optional, installed_detectors, largest_first

# Numbers of MediaPipe's landmarks; left and right are the picture's. Corners stay where they are in a blink.
EYE_CORNERS = ((33, 133), (362, 263))
MOUTH_CORNERS = (61, 291)
_ROOM = 1.0  # around the detector's box, in its sides, each way

Point = tuple[float, float]


def mesh_points(image: Tensor) -> tuple[Point, Point, Point, int] | None:
    """Left eye, right eye and mouth of the largest face of a picture [H, W, 3] in 0..1, and how many faces there are.

    None where MediaPipe is not installed, or finds none.
    """
    picture = (image[..., :3].float().nan_to_num().clamp(0, 1) * 255).round().byte().cpu().numpy()
    faces = mediapipe_faces(picture)
    for box in [*faces, None]:  # the mesh has a detector of its own, which finds some faces that the other misses
        landmarks = find_mesh(picture, box)
        if landmarks is not None:
            return *eyes_and_mouth(landmarks), max(1, len(faces))
    return None


def mediapipe_faces(picture: np.ndarray) -> list[Box]:
    """Faces in an image uint8 [H, W, 3], the largest first; none where MediaPipe is not installed."""
    detect = installed_detectors().get("MediaPipe")
    return [] if detect is None else largest_first(detect(picture))


def find_mesh(picture: np.ndarray, box: Box | None = None) -> np.ndarray | None:
    """float64 [N, 3] in pixels of the image uint8 [H, W, 3]: of the face in the box, or of any in the whole picture."""
    package = import_optional("mediapipe")
    if package is None or not hasattr(package, "solutions"):
        return None
    left, top, right, bottom = _around(box, picture.shape[1], picture.shape[0])
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    with package.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.4
    ) as mesh:
        faces = mesh.process(part).multi_face_landmarks
    if not faces:
        return None
    height, width = part.shape[:2]
    points = np.array([(point.x, point.y, point.z) for point in faces[0].landmark])
    return points * (width, height, width) + (left, top, 0)


def eyes_and_mouth(landmarks: np.ndarray) -> tuple[Point, Point, Point]:
    """The centres of left eye, right eye and mouth, from [N, 2 or 3]: each is the middle of its two corners."""
    corners = (*EYE_CORNERS, MOUTH_CORNERS)
    return tuple(tuple(float(value) for value in landmarks[list(pair), :2].mean(axis=0)) for pair in corners)


def _around(box: Box | None, width: int, height: int) -> tuple[int, int, int, int]:
    if box is None:
        return 0, 0, width, height
    across, down = _ROOM * box.width, _ROOM * box.height
    left, top = max(0, round(box.left - across)), max(0, round(box.top - down))
    right, bottom = round(box.left + box.width + across), round(box.top + box.height + down)
    return left, top, min(width, max(right, left + 1)), min(height, max(bottom, top + 1))
