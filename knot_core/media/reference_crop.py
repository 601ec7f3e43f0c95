"""The part of a picture that a model is given as its reference: aligned by the face, or fitted as a whole.

Shapes: H W height and width of the picture, h w of the reference.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..errors import MediaError
from .face_alignment import describe_alignment, find_face_points, given_points, place_face
from .picture import Fit, check_image, fit_image
from .placement import Placement, cut_out, fitted_placement

Align = Literal["auto", "on", "off"]
ALIGNS: tuple[Align, ...] = ("auto", "on", "off")  # auto: where the model's faces are aligned in training


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceCrop:
    """A reference, where it lies in the picture that it was taken from, and in words what its face was found by."""

    picture: Tensor  # [h, w, 3] in 0..1
    placement: Placement
    said: str = ""  # nothing where no face was looked for


def crop_reference(
    image: Tensor, size: tuple[int, int], *, fit: Fit = "crop", aligned: bool = False, points: str = ""
) -> ReferenceCrop:
    """The reference (height, width) of a picture [H, W, 3] in 0..1.

    `aligned`: its face lies where training has faces; `points`, "x,y x,y x,y", are then its eyes and mouth, which else
    are found. Not aligned: the picture is fitted as `fit` says.

    Raises:
        MediaError: the picture cannot be used, no face is found in it, or the points are no face's.
    """
    if not aligned:
        fitted = fit_image(image, *size, fit)
        return ReferenceCrop(picture=fitted, placement=fitted_placement(tuple(image.shape[:2]), *size, fit))
    check_image(image)
    whole = tuple(image.shape[:2])
    found = given_points(points, whole) if points.strip() else find_face_points(image)
    placement = place_face(found, whole, *size)
    said = describe_alignment(found, placement)
    return ReferenceCrop(picture=cut_out(image, placement), placement=placement, said=said)


def is_aligned(align: Align, points: str, *, by_family: bool) -> bool:
    """Whether a reference is aligned: as asked for; where that is auto, if points are given or the family's faces are.

    Raises:
        MediaError: `align` is not one of `ALIGNS`, or points are given and it is off.
    """
    if align not in ALIGNS:
        raise MediaError(f"align is {align!r}; choose one of {', '.join(ALIGNS)}")
    if align == "off" and points.strip():
        raise MediaError("the points of a face are given, but align is off; leave the points out, or set align to on")
    return align == "on" or bool(points.strip()) or (align == "auto" and by_family)
