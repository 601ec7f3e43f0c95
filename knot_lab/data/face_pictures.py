"""Batches for the face codec: warped pictures, drawn portraits, and rendered heads from a bank that may still grow.

The bank is a folder of npz files, one clip each: frames uint8 [T, S, S, 3], reference uint8 [S, S, 3], flow float16
[T, S/2, S/2, 2] (how far away in the reference a pixel lies, in pixels), visible bool [T, S/2, S/2]; T = 1 + 4 n. Of
people also landmarks [T, L, 2] and reference_landmarks [L, 2], in pixels.
Shapes: B clips, T pixel frames (whole groups of four), H W pixels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.latent_matching import warp
from knot_core.media.face_points import mirrored_points
from knot_core.media.landmark_names import PARTS

from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice, DiceOf
from ..stage_recipes import FaceCodecRecipe
from ..synthetic import avatars
from ..synthetic.avatars import box_mask
from ..synthetic.motion import lively_controls
from .face_batch import FaceClips, stacked, unseen_clip
from .other_cameras import in_one_tone, rephotographed
from .warped_pictures import Painter, paint_shapes, warped_clip

_LOOK_AGAIN = 50  # steps after which new files of the bank are looked for
_STORED = ("frames", "reference", "flow", "visible", "landmarks", "reference_landmarks")
_FACE = (0.5, 0.56)  # the middle of an aligned face (x, y), in sides
_POOL = 48  # painted pictures that are at hand in a step


@dataclass(kw_only=True, eq=False)
class FacePictures:
    """`bank`: a folder, or None. A step is of one kind; without a bank its share goes to the others."""

    own: FaceCodecRecipe
    bank: Path | None = None
    paint: Painter = paint_shapes
    renderer: Callable = field(default_factory=avatars.compiled_draw)

    def __post_init__(self) -> None:
        self._files: list[Path] = []
        self._step, self._looked = 0, -_LOOK_AGAIN
        self._pool: dict[tuple[int, int], np.ndarray] = {}  # by number and side

    def draw(self, _: Recipe, team: Team, dice_of: DiceOf) -> Iterator[tuple[FaceClips, Dice]]:
        """This process's part of one update."""
        own, lots = self.own, dice_of(())
        self._look(lots.step)
        groups = 0 if lots.shared_uniform() < own.stills else own.groups
        count, lot = own.clips if groups else own.still_clips, lots.shared_uniform()
        rendered = own.rendered if self._files else 0.0
        if lot < rendered:
            make = self._rendered
            if lots.shared_uniform() < own.cropped:
                make, count = self._part, own.crops if groups else 4 * own.crops
        elif lot < rendered + own.portraits:
            make = self._portrait
        else:
            make, count = partial(self._warped, own.warped_size), 2 * count
        for rows in team.rows(count, max(1, count // team.size)):
            dice = lots.of(rows)
            yield stacked([self._seen(rng, make(groups, rng)) for rng in dice.numpy()]), dice

    def batch(self, _: Recipe, dice: Dice) -> FaceClips:
        """Clips to look at: warped pictures, and three times as many rendered heads where there are some."""
        self._look(dice.step)
        warped = partial(self._warped, self.own.size)
        kinds = [warped] + 3 * [self._rendered if self._files else warped]
        return stacked([kinds[i % len(kinds)](self.own.groups, rng) for i, rng in enumerate(dice.numpy())])

    def _look(self, step: int) -> None:
        self._step = step
        if self.bank is not None and abs(step - self._looked) >= _LOOK_AGAIN:
            self._files, self._looked = sorted(self.bank.glob("*.npz")), step

    def _seen(self, rng: np.random.Generator, clip: FaceClips) -> FaceClips:
        """The clip with its frames and its reference as two other cameras show them to the encoder."""
        if self.own.toned and rng.random() < self.own.toned:
            frames, still = in_one_tone(rng, clip.frames_BT3HW[0], clip.reference_B3HW)
            clip = replace(clip, frames_BT3HW=frames[None], reference_B3HW=still)
        frames, still = rephotographed(rng, clip.frames_BT3HW[0], clip.reference_B3HW, self.own.cameras)
        return replace(clip, frames_seen_BT3HW=frames[None], reference_seen_B3HW=still)

    def _warped(self, size: int, groups: int, rng: np.random.Generator) -> FaceClips:
        return warped_clip(rng, size, _num_frames(groups), self._painted)

    def _painted(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A picture is met for `_POOL` steps, turned and in other colours, because painting takes time."""
        number = self._step + int(rng.integers(_POOL))
        if (number, side) not in self._pool:
            self._pool = {key: kept for key, kept in self._pool.items() if self._step <= key[0]}
            self._pool[number, side] = self._new(np.random.default_rng([self.own.seed, number]), side)
        picture = np.rot90(self._pool[number, side], int(rng.integers(4)))
        return picture[:, :: rng.choice([-1, 1]), rng.permutation(3)]

    def _new(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """By the painter, or a part of a rendered picture."""
        if not self._files or rng.random() < 0.6:
            return self.paint(rng, side)
        with np.load(self._files[rng.integers(len(self._files))]) as stored:
            picture = _tensor(stored["reference"])[None]
        crop = int(rng.integers(picture.shape[-1] // 2, picture.shape[-1] + 1))
        top, left = rng.integers(0, picture.shape[-1] - crop + 1, 2)
        part = fn.interpolate(picture[..., top : top + crop, left : left + crop], size=(side, side), mode="bicubic")
        return part[0].movedim(0, -1).clamp(0, 1).mul(255).byte().numpy()

    def _portrait(self, groups: int, rng: np.random.Generator) -> FaceClips:
        """Drawn people, of whose flow nothing is known."""
        size, count = self.own.size, _num_frames(groups)
        values = avatars.stack_identities([avatars.identity(int(rng.integers(1 << 40)))])
        moving, still = (lively_controls(rng, 1, max(4, count))[:, :length] for length in (count, 1))
        controls = torch.cat([moving, still], dim=1)
        pixels = avatars.render(values, controls, size, draw=self.renderer)
        where = (values[:, None], controls[:, :count], size)
        features = torch.maximum(box_mask(avatars.eye_boxes(*where), size).amax(-3),
                                 box_mask(avatars.mouth_box(*where), size))  # fmt: skip
        weight = 1 + self.own.face * box_mask(avatars.face_box(*where), size) + self.own.features * features
        nothing = torch.zeros(1, count, 1, size // 2, size // 2)
        return unseen_clip(
            frames_BT3HW=pixels[:, :count], reference_B3HW=pixels[:, count], flow_BT2HW=nothing.repeat(1, 1, 2, 1, 1),
            visible_BT1HW=nothing, hidden_BT1HW=nothing, weight_B1HW=_mean_one(weight.amax(1, keepdim=True)),
        )  # fmt: skip

    def _rendered(self, groups: int, rng: np.random.Generator) -> FaceClips:
        """Some groups of a clip of the bank, whole pictures."""
        clip = replace(self._read(groups, rng), weight_B1HW=_face_weight(self.own))
        return self._changed(clip, rng)

    def _part(self, groups: int, rng: np.random.Generator) -> FaceClips:
        """An eye or the mouth of such a clip, where it moves: a sixteenth of the picture shows more of it, faster."""
        side, part = self.own.crop, PARTS[rng.integers(len(PARTS))]
        clip = self._read(groups, rng, part)
        places = torch.cat([clip.landmarks_BTL2[0], clip.reference_landmarks_BL2])[:, part]
        middle = places.nanmean(dim=(0, 1)).nan_to_num(float(rng.random()))  # of a natural picture: anywhere
        left, top = self.own.size * middle.numpy() - side / 2 + rng.uniform(-1, 1, 2) * side / 6
        top, left = (int(np.clip(2 * round(edge / 2), 0, self.own.size - side)) for edge in (top, left))
        return self._changed(cropped(clip, top, left, side), rng)

    def _read(self, groups: int, rng: np.random.Generator, part: Sequence[int] | None = None) -> FaceClips:
        clip = None
        while clip is None:
            clip = read_rendered(self._files[rng.integers(len(self._files))], rng, groups, self.own.tries, part)
        return clip

    def _changed(self, clip: FaceClips, rng: np.random.Generator) -> FaceClips:
        """As it is, mirrored, or with texture on it."""
        if rng.random() < 0.5:
            clip = mirrored(clip)
        if rng.random() < self.own.textured:
            clip = _textured(clip, self._painted(rng, clip.reference_B3HW.shape[-1]), rng.uniform(0.1, 0.6))
        return clip


def _num_frames(groups: int) -> int:
    return 4 * groups or 1


def read_rendered(
    path: Path, rng: np.random.Generator, groups: int, tries: int = 1, part: Sequence[int] | None = None
) -> FaceClips | None:
    """Some groups of a clip; a quarter begin like a stream, with the first picture four times. None: unfinished.

    Of so many `tries` those groups are taken in which a part, these landmarks or one of `PARTS`, moves most by itself.
    """
    try:
        with np.load(path) as stored:
            parts = {name: stored[name] for name in stored.files if name in _STORED}
            return _clip(parts, partial(_liveliest, rng, parts, groups, tries, part))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError):
        return None


def read_whole(path: Path) -> FaceClips:
    """All frames of a clip."""
    with np.load(path) as stored:
        return _clip({name: stored[name] for name in stored.files if name in _STORED}, np.arange)


def _clip(stored: Mapping[str, np.ndarray], rows_of: Callable[[int], np.ndarray]) -> FaceClips:
    """The rows of a clip that `rows_of` chooses of so many frames."""
    reference, rows = stored["reference"], rows_of(len(stored["frames"]))
    seen = torch.from_numpy(stored["visible"][rows].astype(np.float32))[None, :, None]
    clip = unseen_clip(
        frames_BT3HW=_tensor(stored["frames"][rows])[None], reference_B3HW=_tensor(reference)[None],
        flow_BT2HW=torch.from_numpy(stored["flow"][rows].astype(np.float32)).movedim(-1, 1)[None],
        visible_BT1HW=seen, hidden_BT1HW=1 - seen, weight_B1HW=torch.ones(1, 1, *reference.shape[:2]),
    )  # fmt: skip
    if "reference_landmarks" not in stored:
        return clip
    own, still = (torch.from_numpy(np.float32(stored[name]) / len(reference)) for name in
                  ("landmarks", "reference_landmarks"))  # fmt: skip
    return replace(clip, landmarks_BTL2=own[rows][None], reference_landmarks_BL2=still[None])


def _rows(rng: np.random.Generator, num_frames: int, *, groups: int) -> np.ndarray:
    """Which frames of a clip: one, or whole groups."""
    if not groups:
        return rng.integers(num_frames, size=1)
    first = int(rng.integers(-1, (num_frames - 1) // 4 - groups + 1))
    return np.r_[[0] * 4, 1 : 4 * groups - 3] if first < 0 else 1 + 4 * first + np.arange(4 * groups)


def _liveliest(
    rng: np.random.Generator,
    stored: Mapping[str, np.ndarray],
    groups: int,
    tries: int,
    part: Sequence[int] | None,
    num_frames: int,
) -> np.ndarray:
    """Choose frames ``tries`` times and keep the choice in which a part of the face moves most in itself."""
    if tries == 1 or "reference_landmarks" not in stored:
        return _rows(rng, num_frames, groups=groups)
    part = PARTS[rng.integers(len(PARTS))] if part is None else part
    moved = stored["landmarks"][:, part] - stored["reference_landmarks"][part]
    own = np.nan_to_num(np.linalg.norm(moved - moved.mean(axis=1, keepdims=True), axis=-1)).max(axis=1)
    return max((_rows(rng, num_frames, groups=groups) for _ in range(tries)), key=lambda rows: own[rows].max())


def cropped(clip: FaceClips, top: int, left: int, side: int) -> FaceClips:
    """A square of the clips. What lies outside of it in the reference is hidden in the square's; corners are even."""
    whole = clip.reference_B3HW.shape[-1]
    parts = {}
    for name, part in vars(clip).items():
        if "landmarks" in name:
            parts[name] = (part * whole - torch.tensor([left, top])) / side
        else:
            down, across, long = (value * part.shape[-1] // whole for value in (top, left, side))
            parts[name] = part[..., down : down + long, across : across + long]
    places = (torch.arange(side // 2) + 0.5) * 2
    at = parts["flow_BT2HW"] + torch.stack(torch.meshgrid(places, places, indexing="xy"))
    inside = ((at >= 0) & (at <= side)).all(dim=2, keepdim=True)
    parts["hidden_BT1HW"] = torch.maximum(parts["hidden_BT1HW"], parts["visible_BT1HW"] * ~inside)
    parts["visible_BT1HW"] = parts["visible_BT1HW"] * inside
    return FaceClips(**parts | {"weight_B1HW": _mean_one(parts["weight_B1HW"])})


def mirrored(clip: FaceClips) -> FaceClips:
    """The clips in a mirror: a person's left landmarks lie where the right ones were."""
    parts = {name: part.flip(-1) for name, part in vars(clip).items() if "landmarks" not in name}
    parts["flow_BT2HW"] = parts["flow_BT2HW"] * torch.tensor([-1.0, 1.0])[:, None, None]
    for name in ("landmarks_BTL2", "reference_landmarks_BL2"):
        parts[name] = mirrored_points(getattr(clip, name), 1)
    return FaceClips(**parts)


def _textured(clip: FaceClips, texture: np.ndarray, strength: float) -> FaceClips:
    """The clip with a texture on all that the reference shows, which moves along: detail that only copying returns."""
    grain = strength * (_tensor(texture)[None] - 0.5)
    flow = fn.interpolate(clip.flow_BT2HW[0], scale_factor=2, mode="bilinear")
    seen = fn.interpolate(clip.visible_BT1HW[0], scale_factor=2, mode="bilinear")
    moved = warp(grain.expand(len(flow), -1, -1, -1), flow, 1) * seen
    frames = (clip.frames_BT3HW * (1 + moved[None])).clamp(0, 1)
    still = (clip.reference_B3HW * (1 + grain)).clamp(0, 1)
    return replace(clip, frames_BT3HW=frames, reference_B3HW=still, frames_seen_BT3HW=frames, reference_seen_B3HW=still)


def _face_weight(own: FaceCodecRecipe) -> Tensor:
    """The weight of each pixel of an aligned face, [1, 1, S, S]: eyes at 112/256, mouth at 178/256 of the height."""
    axis = torch.linspace(0, 1, own.size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    weight = 1 + own.face * _bump(x, y, _FACE, (0.22, 0.3))
    eyes = sum(_bump(x, y, (0.5 + side * 0.121, 0.4375), (0.1, 0.07)) for side in (-1, 1))
    return _mean_one(weight + own.features * (eyes + _bump(x, y, (0.5, 0.7), (0.15, 0.11))))[None, None]


def _bump(x: Tensor, y: Tensor, centre: tuple[float, float], width: tuple[float, float]) -> Tensor:
    distance = ((x - centre[0]) / width[0]).square() + ((y - centre[1]) / width[1]).square()
    return torch.exp(-(distance.square()))


def _mean_one(weight: Tensor) -> Tensor:
    return weight / weight.mean()


def _tensor(pixels: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> [..., 3, H, W] in 0..1."""
    return torch.from_numpy(np.array(pixels)).movedim(-1, -3).float() / 255
