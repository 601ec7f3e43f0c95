"""Finding a face in a picture without a trained detector: by the outline of head and shoulders.

A head stands out from what is behind it, is nearly its own mirror image, and has its edges at eyes and mouth, whatever
its colour. That finds one person before a backdrop that is fairly even. Where nothing looks enough like it, as in front
of a crowded scene, the picture's centre is taken, and that is said.

Shapes: H W height and width of a picture, N places looked at, k = 20 x 20 cells of the pattern, c = 3 colours.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

_SMALLEST, _LARGEST, _STEP = 0.15, 0.7, 1.2  # widths of faces looked for, as parts of the shorter side
_SIDE = 20  # cells of the pattern each way: head and shoulders, and what is behind them
_FACE = (5.0, 6.5, 10.0, 10.5)  # of it the face, brows to chin: left, top, width, height
SURE = 0.375  # the score from which a face is believed; pictures without one stay below
_LONGEST = 300  # cells of the picture's longer side: in a panorama only larger faces are looked for
_DIFFERENT = 0.22  # from the backdrop, of a colour in 0..1 each way
_CENTRE_WEIGHT = 0.06  # of two like faces, the one nearer to the centre


@dataclass(frozen=True)
class FaceRegion:
    """A box from brows to chin in pixels, and whether it was found or is the centre by default."""

    left: float
    top: float
    width: float
    height: float
    score: float
    found: bool
    finder: str = "the outline of head and shoulders"
    count: int = 1  # faces that the finder saw, of which this is the largest


def find_by_outline(image: Tensor) -> FaceRegion:
    """Find the face by the head's outline in an image [H, W, 3] in 0..1."""
    height, width = image.shape[:2]
    planes = rearrange(image[..., :3].float().clamp(0, 1), "h w c -> 1 c h w")
    short = min(height, width)
    best = FaceRegion(0, 0, 0, 0, -1.0, False)
    left, top, face_width, face_height = _FACE
    share = _SMALLEST
    while share <= _LARGEST:
        scale = face_width / (share * short)  # so that a face of that width is the pattern's
        size = (round(height * scale), round(width * scale))
        if min(size) >= _SIDE and max(size) <= _LONGEST:
            small = F.interpolate(planes, size, mode="bilinear", antialias=True)
            score, row, column = _best_place(small)
            if score > best.score:
                y, x = height / size[0], width / size[1]
                place = ((column + left) * x, (row + top) * y, face_width * x, face_height * y)
                best = FaceRegion(*place, score, score >= SURE)
        share *= _STEP
    return best if best.found else _centre(height, width, best.score)


def _centre(height: int, width: int, score: float) -> FaceRegion:
    face = 0.4 * min(height, width)
    return FaceRegion((width - face) / 2, (height - face) / 2, face, face, score, False)


def _best_place(picture: Tensor) -> tuple[float, int, int]:
    """Score, row and column of the patch [20, 20] of [1, 3, H, W] that looks most like head and shoulders."""
    patches = rearrange(F.unfold(picture, (_SIDE, _SIDE)), "1 (c k) n -> n k c", c=3)
    behind, head, outline = _behind(), _head(), _outline()
    backdrop = patches[:, behind].mean(dim=1, keepdim=True)
    uneven = patches[:, behind].std(dim=1).mean(dim=1)
    differs = (patches - backdrop).norm(dim=2).clamp(max=_DIFFERENT)  # hair and skin alike are not backdrop
    silhouette = _correlation(differs, outline[None])
    contrast = differs[:, head].mean(dim=1) / _DIFFERENT
    grey = rearrange(patches.mean(dim=2), "n (h w) -> n h w", w=_SIDE)
    mirrored, flat_edges = grey.flip(-1), F.pad((grey[:, 2:] - grey[:, :-2]).abs(), (0, 0, 1, 1))
    symmetry = _correlation(grey.flatten(1)[:, head], mirrored.flatten(1)[:, head])
    features = _correlation(flat_edges.flatten(1)[:, head], _features()[head][None])
    rows, columns = (size - _SIDE + 1 for size in picture.shape[-2:])
    score = contrast * (0.5 * silhouette + 0.25 * symmetry + 0.25 * features) - 0.8 * uneven
    score = score - _CENTRE_WEIGHT * _off_centre(rows, columns)
    place = int(score.argmax())
    return float(score[place]), place // columns, place % columns


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, row by row: [N, C] and [N or 1, C] -> [N]."""
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (a, b))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-4)


def _off_centre(rows: int, columns: int) -> Tensor:
    """[N], 0 at the centre, 1 at the edges' middles."""
    y, x = (torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1) for count in (rows, columns))
    return rearrange(y[:, None] ** 2 + x**2, "h w -> (h w)")


def _cells() -> tuple[Tensor, Tensor]:
    """Rows and columns of the pattern's cells, each [k]; its head is about (9.5, 10)."""
    y, x = torch.meshgrid(torch.arange(_SIDE) + 0.5, torch.arange(_SIDE) + 0.5, indexing="ij")
    return y.flatten(), x.flatten()


def _head() -> Tensor:
    """bool [k]: from hair to chin"""
    y, x = _cells()
    return ((x - 10) / 5.5) ** 2 + ((y - 9.5) / 7) ** 2 < 1


def _behind() -> Tensor:
    """bool [k]: beside and above the head, a little away from it, down to the shoulders"""
    y, x = _cells()
    return (((x - 10) / 7) ** 2 + ((y - 9.5) / 8.5) ** 2 > 1) & (y < 13)


def _outline() -> Tensor:
    """[k], 1 where head, neck and shoulders are"""
    y, x = _cells()
    neck, shoulders = (y > 14) & ((x - 10).abs() < 3), (y > 17) & ((x - 10).abs() < 3 + 2.2 * (y - 16))
    return (_head() | neck | shoulders).float()


def _features() -> Tensor:
    """[k], 1 where brows, eyes and mouth make edges that lie flat"""
    y, x = _cells()
    eyes = ((y - 8.6).abs() < 1.6) & ((x - 10).abs() > 0.8) & ((x - 10).abs() < 4)
    mouth = ((y - 13.2).abs() < 0.9) & ((x - 10).abs() < 1.8)
    return (eyes | mouth).float()
