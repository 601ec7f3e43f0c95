"""Landmarks of a face by the pack's own small network: where no face detector is installed.

It looks at square windows of a picture. In each it says whether a face fills it, and where its 45 points are; the best
window is then moved, turned and scaled so that the face is aligned in it, and looked at again.

Shapes: B windows, C channels, S = 128 pixels a side, N = 45 points, M cells a side of the heat maps, H W a picture.
"""

import cmath
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from ..heat_maps import mean_places
from ..shipped_weights import ASSETS, read_shipped
from .face_places import EYE_DISTANCE, EYES_MIDPOINT, MOUTH, SIDE
from .landmark_names import LANDMARKS, MIRRORED
from .picture import fit_image
from .placement import Placement, cut_out

EYE_CORNERS = (("right_eye_outer", "right_eye_inner"), ("left_eye_outer", "left_eye_inner"))
MOUTH_CORNERS = ("right_mouth_corner", "left_mouth_corner")
_OUTER = 0.404  # the share of an eye's outer corner in its centre: on renders, whose corners these are, MediaPipe's
# centres lie there (the median of 240)
WINDOW = 128  # pixels a side: with the mean place under a heat map fine enough, at a quarter of the work of 256
WEIGHTS = ASSETS / "face-points.safetensors"
SURE = 0.9  # the confidence from which a face is believed
WIDTHS = (24, 48, 96, 128)  # channels at 1/4, 1/8, 1/16 and 1/32 of the window


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Points and confidence that the network gives for windows."""

    points: Tensor  # [B, N, 2], x and y in pixels of the window
    error: Tensor  # [B, N], pixels by which each point is expected to be off
    face: Tensor  # [B], the logit of its being a face that fills the window
    maps: Tensor  # [B, N, M, M], heat maps before softmax


class FacePointsNet(nn.Module):
    """Windows [B, 3, S, S] in 0..1 -> `Seen`. Each point is the mean place under its heat map."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = _convolution(3, a, 7, stride=4)
        self.quarter, self.eighth = _stage(a, a, 2, stride=1), _stage(a, b, 3, stride=2)
        self.sixteenth, self.coarse = _stage(b, c, 4, stride=2), _stage(c, d, 3, stride=2)
        self.up_c, self.up_b, self.up_a = (nn.Conv2d(wide, narrow, 1) for wide, narrow in ((d, c), (c, b), (b, a)))
        self.join_c, self.join_b, self.join_a = (_stage(width, width, 1, stride=1) for width in (c, b, a))
        self.maps = nn.Conv2d(a, len(LANDMARKS), 1)
        self.judge = nn.Linear(d, len(LANDMARKS) + 1)

    def forward(self, windows_BCSS: Tensor) -> Seen:
        """Windows [B, 3, S, S] -> points [B, N, 2] and how sure they are."""
        quarter = self.quarter(self.stem(windows_BCSS - 0.5))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        coarse = self.coarse(sixteenth)
        fine = self.join_c(sixteenth + _doubled(self.up_c(coarse)))
        fine = self.join_b(eighth + _doubled(self.up_b(fine)))
        fine = self.join_a(quarter + _doubled(self.up_a(fine)))
        judged, maps = self.judge(reduce(coarse, "b c h w -> b c", "mean")), self.maps(fine)
        shares = rearrange(maps, "b n h w -> b n (h w)").softmax(dim=-1).view_as(maps)
        return Seen(
            points=mean_places(shares) * windows_BCSS.shape[-1],
            error=nn.functional.softplus(judged[:, 1:]) + 0.25,
            face=judged[:, 0],
            maps=maps,
        )


def mirrored_points(points_BN2: Tensor, width: float) -> Tensor:
    """The points [..., N, 2] of pictures of that width, in their mirror images: left and right change names."""
    return points_BN2[..., MIRRORED, :] * torch.tensor([-1.0, 1.0]) + torch.tensor([float(width), 0.0])


def _convolution(inside: int, outside: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.SiLU(),
    )


class _Block(nn.Module):
    """Depthwise 5 x 5, then 1 x 1 to twice the width and back, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.SiLU(),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _stage(inside: int, outside: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = [] if stride == 1 and inside == outside else [_convolution(inside, outside, 3, stride=stride)]
    return nn.Sequential(*first, *(_Block(outside) for _ in range(blocks)))


def _doubled(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


@lru_cache(maxsize=1)
def load_face_points(path: Path = WEIGHTS) -> FacePointsNet | None:
    """The trained network; None where its weights are not at hand.

    Raises:
        CheckpointError: the file holds other weights.
    """
    return read_shipped(FacePointsNet(), path, "the landmark network")


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A face in a picture."""

    points: Tensor  # complex [N], in pixels of the picture
    confidence: float  # 0 to 1


_SHARES = (1.0, 0.7, 0.5, 0.35, 0.25)  # a window's side, of the picture's shorter one
_STEP = 0.25  # between windows, in their sides
_AT_ONCE = 32  # windows
_LOOKS = 3  # at the best window, each better aligned than before
_SCALES, _TURNS = (0.88, 1.0, 1.13), (-0.12, 0.0, 0.12)  # of the windows that are averaged in the end, the turns in rad


@torch.no_grad()
def locate(network: FacePointsNet, image: Tensor, *, fills: bool = False) -> Found | None:
    """The face of a picture [H, W, 3] in 0..1 of which the network is surest; None where it believes in none.

    `fills` says that a face is expected to fill the picture: only where it does not it is looked for all over it.
    """
    shrunk = max(1.0, min(image.shape[:2]) * _SHARES[-1] / WINDOW)
    small = _smaller(image, shrunk)
    windows = _windows(*small.shape[:2])
    found = (_locate(network, small, windows[:1]) if fills else None) or _locate(network, small, windows)
    return None if found is None else Found(points=found.points * shrunk, confidence=found.confidence)


def _smaller(image: Tensor, factor: float) -> Tensor:
    """[H, W, 3], its sides divided by the factor."""
    height, width = (max(1, round(side / factor)) for side in image.shape[:2])
    return fit_image(image, height, width) if factor > 1 else image[..., :3].float()


def _locate(network: FacePointsNet, image: Tensor, windows: list[Placement]) -> Found | None:
    whole = tuple(image.shape[:2])
    faces = torch.cat([_look(network, image, windows[i : i + _AT_ONCE]).face
                       for i in range(0, len(windows), _AT_ONCE)])  # fmt: skip
    window = windows[int(faces.argmax())]
    for _ in range(_LOOKS):
        seen = _look(network, image, [window])
        points = window.to_whole(torch.complex(seen.points[0, :, 0], seen.points[0, :, 1]))
        window = _around(points, whole)
    confidence = float(seen.face.sigmoid())
    return Found(points=_averaged(network, image, window), confidence=confidence) if confidence >= SURE else None


def _averaged(network: FacePointsNet, image: Tensor, window: Placement) -> Tensor:
    """Points complex [N] as several windows around that one show them, and their mirror images; each counts as far as
    the network trusts it.
    """
    windows = [_turned(window, scale, turn) for scale in _SCALES for turn in _TURNS]
    straight = _cut_out(image, windows)
    seen, mirrored = network(straight), network(straight.flip(-1))
    back = mirrored_points(mirrored.points, WINDOW)
    trust = torch.stack([seen.error, mirrored.error[:, MIRRORED]]) ** -2
    mean = (torch.stack([seen.points, back]) * trust[..., None]).sum(dim=0) / trust.sum(dim=0)[..., None]
    placed = torch.stack([one.to_whole(torch.complex(*at.unbind(-1))) for one, at in zip(windows, mean, strict=True)])
    weight = trust.sum(dim=0) / torch.tensor([abs(one.scale) ** 2 for one in windows])[:, None]
    return (placed * weight).sum(dim=0) / weight.sum(dim=0)


def _turned(window: Placement, scale: float, turn: float) -> Placement:
    """The window about the same middle, that many times as large, turned by that angle in rad."""
    middle, scaled = complex(WINDOW / 2, WINDOW / 2), window.scale * cmath.rect(scale, turn)
    return replace(window, scale=scaled, origin=window.origin + (window.scale - scaled) * middle)


def _look(network: FacePointsNet, image: Tensor, windows: list[Placement]) -> Seen:
    return network(_cut_out(image, windows))


def _cut_out(image: Tensor, windows: list[Placement]) -> Tensor:
    """[B, 3, S, S]"""
    return torch.stack([rearrange(cut_out(image, window), "h w c -> c h w") for window in windows])


def _windows(height: int, width: int) -> list[Placement]:
    """Square windows all over a picture, from the whole of it to a quarter."""
    found = []
    for share in _SHARES:
        side = share * min(height, width)
        rows, columns = (max(1, round((length - side) / (_STEP * side)) + 1) for length in (height, width))
        for row in range(rows):
            for column in range(columns):
                top, left = ((length - side) * (place / (count - 1) if count > 1 else 0.5)
                             for length, place, count in ((height, row, rows), (width, column, columns)))  # fmt: skip
                found.append(_window(complex(left, top), side / WINDOW, (height, width)))
    return found


def _window(origin: complex, scale: complex, whole: tuple[int, int]) -> Placement:
    return Placement(scale=complex(scale), origin=origin, size=(WINDOW, WINDOW), whole=whole)


def _around(points: Tensor, whole: tuple[int, int]) -> Placement:
    """The window in which a face with these points, complex [N], is upright and where the network knows it best."""
    left, right, mouth = (complex(middle) for middle in eyes_and_mouth(points))
    eyes = (left + right) / 2
    down = mouth - eyes  # of a turned face the eyes come nearer to each other, but not to the mouth
    sizes = abs(right - left) / EYE_DISTANCE + abs(down) / (MOUTH[1] - EYES_MIDPOINT[1])
    scale = SIDE / WINDOW * sizes / 2 * (-1j * down / max(abs(down), 1e-6))
    return _window(eyes - scale * WINDOW / SIDE * complex(*EYES_MIDPOINT), scale, whole)


def eyes_and_mouth(points: Tensor) -> tuple[complex, complex, complex]:
    """The picture's left eye, its right eye and the mouth, of points complex [N]: each between its corners."""
    by_name = dict(zip(LANDMARKS, points.tolist(), strict=True))
    eyes = (_OUTER * by_name[outer] + (1 - _OUTER) * by_name[inner] for outer, inner in EYE_CORNERS)
    return *eyes, sum(by_name[name] for name in MOUTH_CORNERS) / 2
