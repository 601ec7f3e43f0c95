"""The pictures that come with the pack, and where the eyes and the mouth are in them: no detector need find these.

Shapes: H W height and width of a picture.
"""

from pathlib import Path

from PIL import Image
from torch import Tensor

from .picture import open_image

_ASSETS = Path(__file__).resolve().parents[1] / "assets"
_POINTS = {
    "ada.png": "203,215 309,215 256,331",
    "ben.png": "195,181 317,181 256,312",
    "cleo.png": "200,206 312,206 256,320",
    "dan.png": "195,206 317,206 256,317",
    "hopper.jpg": "224,193 305,191 267,279",
}
_ALIKE = 2 / 255  # of the mean difference: decoders of JPEG differ by less


def sample_pictures(*, photos: bool) -> dict[str, Path]:
    """The files by name: the drawn portraits, and before them the photos where these are wanted."""
    found = sorted((_ASSETS / "photos").glob("*.jpg")) if photos else []
    return {path.stem: path for path in [*found, *sorted((_ASSETS / "portraits").glob("*.png"))]}


def sample_points(image: Tensor) -> str:
    """Eyes and mouth, "x,y x,y x,y", of a picture [H, W, 3] in 0..1 that is one of the pack's; of others nothing."""
    for path in sample_pictures(photos=True).values():
        if path.name in _POINTS and _is(image, path):
            return _POINTS[path.name]
    return ""


def _is(image: Tensor, path: Path) -> bool:
    with Image.open(path) as header:
        if header.size != (image.shape[1], image.shape[0]):
            return False
    return float((image[..., :3].float().cpu() - open_image(path)[..., :3]).abs().mean()) < _ALIKE
