"""Pictures in and out: any file Pillow opens becomes RGB in 0..1, cropped or letterboxed to what the model wants.

Shapes: H W height and width of a picture, T pictures.
"""

import logging
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import MediaError, short
from .containers import name_of, reason
from .formats import picture_format

logger = logging.getLogger(__name__)

Fit = Literal["crop", "letterbox"]
FITS: tuple[Fit, ...] = ("crop", "letterbox")

_LARGEST_16_BIT = 65535
_MOST_PIXELS = 2**24  # of a picture that is held as numbers, 12 bytes each; no portrait is made from more
_MOST_STRETCHED = 8  # times the wanted side; what sticks out further is cut off before a picture is scaled
_BEHIND_ALPHA = 1.0  # white, what a picture viewer shows behind a cut-out


def open_image(source: str | os.PathLike[str] | BinaryIO) -> Tensor:
    """Read an image as float32 [H, W, 3] in 0..1, upright. Any mode, depth and size; transparency is composed onto
    white.

    Raises:
        MediaError: the source is no image that Pillow reads, is damaged, or is too large.
    """
    name = name_of(source, "the picture")
    return _to_rgb(_decoded(source, name), name)


def _decoded(source: str | os.PathLike[str] | BinaryIO, name: str) -> Image.Image:
    """The whole picture, or its first, upright; one of very many pixels is made smaller."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of it gets over: many pixels, broken EXIF
            with Image.open(source) as found:
                _say_of_several(found, name)
                found.load()
                return _bearable(ImageOps.exif_transpose(found), name)
    except UnidentifiedImageError as problem:
        raise MediaError(f"{name} is no picture that can be read; give a PNG, JPEG, WebP or the like") from problem
    except Image.DecompressionBombError as problem:
        raise MediaError(f"{name} is too large a picture ({short(problem, str)}); make it smaller first") from problem
    except Exception as problem:  # Pillow's readers say damage with whatever they trip over, from KeyError to struct's
        raise MediaError(
            f"the picture {name} cannot be read ({reason(problem)}); check the file and the path"
        ) from problem


def _say_of_several(image: Image.Image, name: str) -> None:
    # phones put a second picture, which is for the brightness of the first, behind it as one of these formats
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "JPEG"):
        logger.info("%s holds %d pictures: the first one is taken", name, image.n_frames)


def _bearable(image: Image.Image, name: str) -> Image.Image:
    """The image, box-averaged by a whole factor if it has more than `_MOST_PIXELS` pixels."""
    factor = math.ceil(math.sqrt(image.width * image.height / _MOST_PIXELS))
    if factor <= 1:
        return image
    logger.info("%s has %d x %d pixels: it is read at 1/%d of that", name, image.width, image.height, factor)
    if image.mode.startswith("I;"):
        image = image.convert("I")
    elif image.mode not in ("L", "RGB", "RGBA", "I", "F") or image.has_transparency_data:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.reduce(factor)


def _to_rgb(image: Image.Image, name: str) -> Tensor:
    if image.mode.startswith("I") or image.mode == "F":  # one channel of more than 8 bits
        white = 1 if image.mode == "F" else _LARGEST_16_BIT
        grey = torch.from_numpy(np.array(image, dtype=np.float32)).nan_to_num(posinf=white)
        if (most := float(grey.max())) > white:
            logger.warning("%s holds values up to %g, where white is %d: all above it are white", name, most, white)
        return (grey / white).clamp(0, 1)[..., None].repeat(1, 1, 3)
    if not image.has_transparency_data:
        return torch.from_numpy(np.array(image.convert("RGB"))).float().div_(255)
    logger.info("%s has transparent parts: they are shown on white", name)
    rgba = torch.from_numpy(np.array(image.convert("RGBA"))).float().div_(255)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return torch.lerp(torch.full_like(colour, _BEHIND_ALPHA), colour, alpha)


def fit_image(image: Tensor, height: int, width: int, fit: Fit = "crop") -> Tensor:
    """Fit [H, W, C >= 3] into [height, width, 3]: fill it and crop the rest, or fit inside with black bars.

    Raises:
        MediaError: `fit` is not one of `FITS`, or the image is not [H, W, C >= 3].
    """
    check_image(image)
    if fit not in FITS:
        raise MediaError(f"fit is {fit!r}; choose one of {', '.join(FITS)}")
    if fit == "crop":
        image = _without_long_ends(image, height, width)
    have_height, have_width = image.shape[:2]
    ratios = (height / have_height, width / have_width)
    scale = max(ratios) if fit == "crop" else min(ratios)
    inner_height, inner_width = max(1, round(have_height * scale)), max(1, round(have_width * scale))
    if (have_height, have_width) != (height, width):
        done = "cropped to the centre" if fit == "crop" else "letterboxed"
        logger.info(
            "the picture of %dx%d is scaled by %.3g and %s for %dx%d",
            have_width,
            have_height,
            scale,
            done,
            width,
            height,
        )
    planes = rearrange(image[..., :3].float().clamp(0, 1), "h w c -> 1 c h w")
    if (inner_height, inner_width) != (have_height, have_width):
        planes = F.interpolate(planes, (inner_height, inner_width), mode="bicubic", antialias=True).clamp(0, 1)
    # negative padding cuts
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    planes = F.pad(planes, (left, width - inner_width - left, top, height - inner_height - top))
    return rearrange(planes, "1 c h w -> h w c").contiguous()


def _without_long_ends(image: Tensor, height: int, width: int) -> Tensor:
    """The middle of a picture of 1 x 10,000, which to scale as a whole would take gigabytes; others as they are."""
    have_height, have_width = image.shape[:2]
    scale = max(height / have_height, width / have_width)
    longest = [max(1, math.ceil(_MOST_STRETCHED * side / scale)) for side in (height, width)]
    top, left = (max(0, (have - most) // 2) for have, most in zip((have_height, have_width), longest, strict=True))
    return image[top : top + longest[0], left : left + longest[1]]


def check_image(image: Tensor) -> None:
    """Refuse what is no picture [H, W, C >= 3] of finite values.

    Raises:
        MediaError: it is none.
    """
    if image.ndim != 3 or image.shape[-1] < 3 or 0 in image.shape:
        raise MediaError(
            f"the picture has shape {list(image.shape)}; it must be [height, width, 3]: give one RGB picture"
        )
    if not image.isfinite().all():
        raise MediaError("the picture holds values that are not finite (NaN or infinite); check where it comes from")


def save_contact_sheet(path: str | os.PathLike[str], pictures: Sequence[tuple[str, Tensor]], columns: int = 6) -> None:
    """Save labelled pictures, uint8 [H, W, 3] each and all of the first one's size, as one; the suffix names the
    format.

    Raises:
        MediaError: the file cannot be written, or its suffix names no image format.
    """
    height, width = pictures[0][1].shape[:2]
    margin, label = 4, 14
    rows = math.ceil(len(pictures) / columns)
    cell = (width + margin, height + label + margin)
    sheet = Image.new("RGB", (columns * cell[0] + margin, rows * cell[1] + margin), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (text, picture) in enumerate(pictures):
        x, y = (margin + index * step for index, step in zip((place % columns, place // columns), cell, strict=True))
        draw.text((x, y), text, fill="black")
        sheet.paste(Image.fromarray(picture.numpy()), (x, y + label))
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format=picture_format(path, "the contact sheet"))
    except OSError as problem:
        raise MediaError(
            f"the contact sheet {path} cannot be written ({problem}); choose another place or free some disk space"
        ) from problem
