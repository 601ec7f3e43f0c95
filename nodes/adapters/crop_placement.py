"""Where a crop lies in its picture, between the nodes that cut out, and those that paste back.

Shapes: B pictures, T frames, H W height and width.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...knot_core import Model
from ...knot_core.media.paste_back import PasteBack, even_sided
from ...knot_core.media.placement import Placement
from ...knot_core.media.reference_crop import ALIGNS, crop_reference, is_aligned
from .media import to_picture
from .warnings import say

ALIGN_CHOICES = list(ALIGNS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A picture, and where a crop of it lies."""

    picture: Tensor  # [H, W, 3] in 0..1
    placement: Placement

    def __repr__(self) -> str:
        (height, width), (whole_height, whole_width) = self.placement.size, self.placement.whole
        return f"<{type(self).__name__}: {width}x{height} of {whole_width}x{whole_height}>"


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """A reference as a model takes it from a picture."""

    given: Tensor  # [1, H, W, 3]: the crop of an aligned face; else the whole picture, which the model fits
    shown: Tensor  # [1, height, width, 3], what of it the model sees
    placed: Placed


def reference_size(model: Model, size: tuple[int, int] | None, detail: int) -> tuple[int, int]:
    """Height and width of what is taken from a picture; size None: the model's own."""
    model.check_detail(detail)
    height, width = size or (model.preset.height, model.preset.width)
    return detail * height, detail * width


def take_reference(model: Model, image_BHWC: Tensor, fit: str, size: tuple[int, int], align: str, points: str) -> Taken:
    """The reference of one picture, [1, H, W, 3]; what found its face is said."""
    picture = to_picture(image_BHWC)
    aligned = is_aligned(align, points, by_family=model.preset.aligns_faces)
    crop = crop_reference(picture, size, fit=fit, aligned=aligned, points=points)
    if crop.said:
        say(crop.said)
    placed = Placed(picture=picture[..., :3], placement=crop.placement)
    shown = crop.picture[None]
    return Taken(given=shown if aligned else image_BHWC, shown=shown, placed=placed)


def check_align(align: str, points: str) -> None:
    """Refuse points of a face where none is to be aligned."""
    is_aligned(align, points, by_family=False)


def paste_back(images_BHWC: Tensor, placed: Placed, feather: float) -> Tensor:
    """[B, H, W, 3] of the whole picture, with the images in their place."""
    return PasteBack(placed.picture, placed.placement, feather)(images_BHWC.float().cpu())


def pasting(placed: Placed | None) -> Callable[[Tensor], Tensor] | None:
    """Turns a stream's frames, uint8 [T, h, w, 3], into those of the whole picture that a video can hold."""
    if placed is None:
        return None
    paste = PasteBack(placed.picture, placed.placement)
    return lambda frames: even_sided(paste(frames))
