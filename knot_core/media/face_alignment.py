"""A photo is brought to where faces lie in training, by the eyes and the mouth.

The three points are found by MediaPipe's face mesh where that package is installed, else by the pack's own landmark
network where its weights are at hand, or set by the user; of the pack's own pictures they are known. Which it was is
said. Points are pairs (x, y) in pixels from
the picture's upper left corner.

Shapes: H W height and width of a picture.
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import MediaError, short
from .face_mesh import mesh_points
from .face_places import EYE_DISTANCE, EYES_MIDPOINT, MOUTH, SIDE
from .face_points import eyes_and_mouth, load_face_points, locate
from .placement import Placement
from .sample_pictures import sample_points

_LEAST_EYE_DISTANCE = 8.0  # pixels; of a smaller face nothing is left to animate
_LEAST_HEIGHT = 0.3  # of the mouth below the eyes, in eye distances: profiles from above still have twice that
_MIRRORED = 0.01  # the share of a cut-out outside of the picture from which it is said

Point = tuple[float, float]


class NoFaceError(MediaError):
    """A picture in which no face was found: its user can set three points."""


@dataclass(frozen=True, kw_only=True)
class FacePoints:
    """The centres of the eyes (the left one is the picture's left) and of the mouth, and where they are from."""

    left_eye: Point
    right_eye: Point
    mouth: Point
    finder: str = "your three points"
    count: int = 1  # faces that the finder saw, of which this is the largest

    def __post_init__(self) -> None:
        eyes = math.dist(self.left_eye, self.right_eye)
        if not eyes >= _LEAST_EYE_DISTANCE:
            raise MediaError(
                f"the eyes are {eyes:.1f} pixels apart; a face needs {_LEAST_EYE_DISTANCE:g}: give a larger picture of "
                "it, or other points"
            )
        if abs(_side(self)) < _LEAST_HEIGHT * eyes**2:
            raise MediaError("the mouth lies between the eyes or beside them; give left eye, right eye and mouth")

    @property
    def all(self) -> tuple[Point, Point, Point]:
        return self.left_eye, self.right_eye, self.mouth


def given_points(text: str, picture: tuple[int, int]) -> FacePoints:
    """Three points as a user writes them, "x,y x,y x,y": the eyes and the mouth in a picture (height, width).

    Raises:
        MediaError: they are not three points in the picture, or no face has its eyes and mouth there.
    """
    words = text.replace(";", " ").split()
    try:
        points = [tuple(float(number) for number in word.split(",")) for word in words]
    except ValueError:
        points = []
    if len(points) != 3 or any(len(point) != 2 for point in points):
        raise MediaError(f"the points are {short(text)}; give eyes and mouth in pixels, such as 97,112 159,112 128,178")
    height, width = picture
    outside = [point for point in points if not (0 <= point[0] <= width and 0 <= point[1] <= height)]
    if outside:
        x, y = outside[0]
        raise MediaError(f"the point {x:g},{y:g} lies outside of the picture of {width}x{height}; give points in it")
    left, right, mouth = points
    found = FacePoints(left_eye=left, right_eye=right, mouth=mouth)
    # Either eye may come first: seen from left to right, the mouth is below them.
    return found if _side(found) > 0 else FacePoints(left_eye=right, right_eye=left, mouth=mouth)


def _side(points: FacePoints) -> float:
    """Twice the area of the triangle eye, eye, mouth; positive where the mouth is below the eyes (y points down)."""
    (ax, ay), (bx, by), (cx, cy) = points.all
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def find_face_points(image: Tensor) -> FacePoints:
    """Eyes and mouth of the largest face of a picture [H, W, 3] in 0..1.

    Raises:
        NoFaceError: there is nothing that finds them, or it finds no face; the message says what to do.
    """
    if known := sample_points(image):
        return replace(given_points(known, tuple(image.shape[:2])), finder="the points that come with the picture")
    if (found := mesh_points(image)) is not None:
        left, right, mouth, count = found
        return FacePoints(left_eye=left, right_eye=right, mouth=mouth, finder="MediaPipe", count=count)
    network = load_face_points()
    own = None if network is None else locate(network, image)
    if own is not None:
        left, right, mouth = ((place.real, place.imag) for place in eyes_and_mouth(own.points))
        return FacePoints(left_eye=left, right_eye=right, mouth=mouth, finder="the built-in landmark network")
    raise NoFaceError(
        "no face found in the picture; give the two eyes and the mouth as three points, or a picture of one face from "
        "the front"
    )


def place_face(points: FacePoints, picture: tuple[int, int], height: int, width: int) -> Placement:
    """The cut-out of a picture (height, width) whose face lies where faces lie in training.

    Of all similarity transforms it is the one with the least sum of squared distances between the three points and
    their places. In a cut-out that is not square, the square of training is in the middle.
    """
    unit = min(height, width) / SIDE
    corner = complex((width - unit * SIDE) / 2, (height - unit * SIDE) / 2)
    wanted = [corner + unit * complex(*place) for place in places_of_points()]
    found = [complex(*point) for point in points.all]
    middle_wanted, middle_found = sum(wanted) / 3, sum(found) / 3
    turned = sum((f - middle_found) * (w - middle_wanted).conjugate() for f, w in zip(found, wanted, strict=True))
    scale = turned / sum(abs(w - middle_wanted) ** 2 for w in wanted)
    return Placement(
        scale=scale, origin=middle_found - scale * middle_wanted, size=(height, width), whole=tuple(picture)
    )


def places_of_points() -> tuple[Point, Point, Point]:
    """Left eye, right eye and mouth in the square of training."""
    x, y = EYES_MIDPOINT
    return (x - EYE_DISTANCE / 2, y), (x + EYE_DISTANCE / 2, y), MOUTH


def describe_alignment(points: FacePoints, placement: Placement) -> str:
    """A sentence for the user: what found the face, which one, and how it was brought into place."""
    several = f"the largest of {points.count} faces" if points.count > 1 else "the face"
    turn = math.degrees(math.atan2(placement.scale.imag, placement.scale.real))
    said = (
        f"{several} aligned by {points.finder}: {math.dist(points.left_eye, points.right_eye):.0f} pixels between the "
        f"eyes, turned by {turn:.0f} degrees"
    )
    outside = 1 - placement.inside()
    if outside < _MIRRORED:
        return said
    return f"{said}; {outside:.0%} of the crop lies outside of the picture and is filled with its mirror image"
