"""Training of the landmark network (`knot_core/media/face_points.py`) on pictures whose points are known.

Pictures lie in npz files: `pictures` uint8 [n, P, P, 3], `points` float32 [n, k, 2] in pixels, `names` of the k points.
Renders of `knot_lab/synthetic/heads` are one source; pictures that MediaPipe labelled another. A clip of anything else
(`data natural` writes them) shows what is no face. Files that come into the folder while it trains are read, too.

Shapes: B windows, S = 128 pixels a side, n pictures, P = 256 pixels of theirs, N = 45 points of k.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knot_core.media.face_places import EYE_DISTANCE, EYES_MIDPOINT, SIDE
from knot_core.media.face_points import WINDOW, FacePointsNet, Seen, mirrored_points
from knot_core.media.landmark_names import LANDMARKS
from knot_core.shipped_weights import write_shipped

FACE_POINTS_STEPS = 24_000
_HELD_OUT = 20  # files whose number is a multiple of it are never trained on
_BATCH, _RATE, _WARM_UP = 16, 2e-3, 100
_NO_FACE = 0.15  # share of a face's windows that it does not fill
_NOWHERE = -1e4  # pixels: where the points of pictures without a face lie


class PointPictures:
    """The pictures of a folder, split by file (so by identity) into those to train on and those held out."""

    def __init__(self, folder: Path, *, held_out: bool) -> None:
        self._folder, self._held_out = folder, held_out
        self._read: dict[Path, tuple[np.ndarray, np.ndarray]] = {}

    def refresh(self) -> int:
        """Read files that are new; the number of pictures."""
        for path in sorted(self._folder.glob("*.npz")):
            if (_number(path) % _HELD_OUT == 0) == self._held_out and path not in self._read:
                self._read[path] = _read(path)
        self.pictures = np.concatenate([pictures for pictures, _ in self._read.values()])
        self.points = np.concatenate([points for _, points in self._read.values()])
        return len(self.pictures)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Pictures float [count, 3, S, S] in 0..1 and points [count, N, 2] in pixels."""
        chosen = rng.integers(len(self.pictures), size=count)
        pictures = torch.from_numpy(self.pictures[chosen]).permute(0, 3, 1, 2).float() / 255
        return pictures, torch.from_numpy(self.points[chosen])


def _number(path: Path) -> int:
    """By which a file is held out, whichever others lie beside it: its name's last number, 0 without one."""
    return int((re.findall(r"\d+", path.stem) or ["0"])[-1])


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as stored:
        if "frames" in stored:  # a clip; one frame is much like the next
            pictures = stored["frames"][::2]
            points = np.full((len(pictures), len(LANDMARKS), 2), _NOWHERE, np.float32)
        else:
            places = [list(stored["names"]).index(name) for name in LANDMARKS]
            pictures, points = stored["pictures"], stored["points"][:, places].astype(np.float32)
    whole = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    small = F.interpolate(whole, WINDOW, mode="area").round().byte().permute(0, 2, 3, 1)
    return small.numpy(), points * np.float32(WINDOW / whole.shape[-1])


def augmented(rng: np.random.Generator, pictures: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Windows [B, 3, S, S], their points [B, N, 2], and whether a face fills them, [B].

    Moved, turned and scaled; mirrored; before other backgrounds; in other light and colour; blurred, noisy, partly
    covered.
    """
    count, pictured = len(pictures), points[:, 0, 0] > _NOWHERE / 2
    pictures, points = _mirrored(rng, pictures, points)
    backdrop = F.interpolate(F.avg_pool2d(pictures.roll(1, 0), 8), pictures.shape[-2:], mode="bilinear").flip(-1)
    angle = torch.from_numpy(rng.normal(0, 0.25, count)).float()
    scale = torch.from_numpy(np.exp(rng.normal(0, 0.22, count))).float()
    shift = torch.from_numpy(rng.normal(0, 0.06 * WINDOW, (count, 2))).float()
    none = torch.from_numpy(rng.random(count) < _NO_FACE)
    scale = torch.where(none, scale * torch.from_numpy(rng.choice([0.2, 0.3, 4.0, 5.0], count)).float(), scale)
    shift = torch.where(
        none[:, None], shift + 120 * torch.from_numpy(rng.choice([-1.0, 1.0], (count, 2))).float(), shift
    )
    windows, points = _moved(pictures, points, angle, scale, shift, backdrop)
    return _covered(rng, _photographed(rng, windows)).clamp(0, 1), points, (pictured & ~none).float()


def _mirrored(rng: np.random.Generator, pictures: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    flip = torch.from_numpy(rng.random(len(pictures)) < 0.5)
    other = mirrored_points(points, pictures.shape[-1])
    pictures = torch.where(flip[:, None, None, None], pictures.flip(-1), pictures)
    return pictures, torch.where(flip[:, None, None], other, points)


def _moved(
    pictures: Tensor, points: Tensor, angle: Tensor, scale: Tensor, shift: Tensor, backdrop: Tensor
) -> tuple[Tensor, Tensor]:
    """A similarity transform around where faces lie; `scale` > 1 enlarges. What comes into view is the backdrop."""
    centre = torch.tensor([EYES_MIDPOINT[0], EYES_MIDPOINT[1] + 0.4 * EYE_DISTANCE]) * WINDOW / SIDE
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)  # [B, 2, 2]
    placed = (points - centre) @ turn.transpose(1, 2) * scale[:, None, None] + centre + shift[:, None]
    axis = torch.arange(WINDOW) + 0.5
    there = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(1, -1, 2)
    back = (there - centre - shift[:, None]) @ turn / scale[:, None, None] + centre
    grid = (2 * back / WINDOW - 1).reshape(-1, WINDOW, WINDOW, 2)
    inside = F.grid_sample(torch.ones_like(pictures[:, :1]), grid, padding_mode="zeros", align_corners=False)
    sampled = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return torch.lerp(backdrop, sampled, inside), placed


def _photographed(rng: np.random.Generator, windows: Tensor) -> Tensor:
    """Other light, colour, focus and grain."""
    count = len(windows)
    shape = (count, 1, 1, 1)
    draw = lambda low, high, size=shape: torch.from_numpy(rng.uniform(low, high, size)).float()  # noqa: E731
    grey = windows.mean(dim=1, keepdim=True)
    windows = torch.lerp(grey, windows, torch.where(draw(0, 1) < 0.25, torch.zeros(shape), draw(0.4, 1.4)))
    windows = windows.clamp(1e-3, 1) ** torch.exp(0.45 * torch.from_numpy(rng.normal(0, 1, shape)).float())
    windows = (windows - 0.5) * draw(0.55, 1.3) + 0.5 + draw(-0.15, 0.15)
    windows = windows * draw(0.82, 1.18, (count, 3, 1, 1))
    smaller = int(rng.choice([WINDOW, 96, 64, 48, 32], p=[0.5, 0.2, 0.15, 0.1, 0.05]))
    if smaller < WINDOW:
        windows = F.interpolate(F.interpolate(windows, smaller, mode="area"), WINDOW, mode="bilinear")
    return windows + draw(0, 0.08) * torch.from_numpy(rng.standard_normal((count, 1, WINDOW, WINDOW), np.float32))


def _covered(rng: np.random.Generator, windows: Tensor) -> Tensor:
    """In every third window a rectangle of one colour, or of another window, covers something."""
    for index in range(len(windows)):
        if rng.random() < 0.35:
            height, width = rng.integers(8, 50, 2)
            top, left = rng.integers(0, WINDOW - height), rng.integers(0, WINDOW - width)
            colour = torch.from_numpy(rng.random((3, 1, 1))).float()
            other = windows[(index + 1) % len(windows), :, :height, :width] if rng.random() < 0.5 else colour
            windows[index, :, top : top + height, left : left + width] = other
    return windows


def loss_of(seen: Seen, points: Tensor, face: Tensor) -> Tensor:
    """Laplace's likelihood of the points [B, N, 2] where there is a face [B], their heat maps, and of there being one.

    The heat maps' cross entropy with a small Gaussian teaches the network in a fraction of the steps that the mean
    place alone would take.
    """
    away = (seen.points - points).norm(dim=-1)
    within = ((points > -4) & (points < WINDOW + 4)).all(dim=-1) * face[:, None]
    likely = away / seen.error.detach().clamp(min=1) + away.detach() / seen.error + torch.log(seen.error)
    judged = F.binary_cross_entropy_with_logits(seen.face, face)
    drawn = (likely + 2 * _map_loss(seen.maps, points)) * within
    return drawn.sum() / within.sum().clamp(min=1) + judged


def _map_loss(maps_BNMM: Tensor, points: Tensor) -> Tensor:
    """[B, N]: cross entropy of the maps with a Gaussian of one cell around each point, of pixels of the window."""
    size = maps_BNMM.shape[-1]
    centres = torch.arange(size) + 0.5
    x, y = ((centres - (points[..., axis, None] * size / WINDOW)) ** 2 for axis in (0, 1))  # [B, N, M] each
    wanted = (-0.5 * (y[..., :, None] + x[..., None, :])).flatten(2).softmax(dim=-1)
    return -(wanted * maps_BNMM.flatten(2).log_softmax(dim=-1)).sum(dim=-1)


def train_face_points(folder: Path, pictures: Path, *, steps: int, seed: int = 0, seconds: float = math.inf) -> Path:
    """Train on the npz files in `pictures`; writes checkpoints, a log and `face-points.safetensors` into `folder`.

    It goes on where an earlier training of the folder stopped. `seconds` bounds the time, of this call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, unseen = (PointPictures(pictures, held_out=held_out) for held_out in (False, True))
    torch.manual_seed(seed)  # the weights that it begins with
    network, averaged = FacePointsNet().to(memory_format=torch.channels_last), FacePointsNet()
    step = 0
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.01)
    checkpoint = folder / "face-points.ckpt"
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(stored["network"])
        averaged.load_state_dict(stored["averaged"])
        optimizer.load_state_dict(stored["optimizer"])
        step = stored["step"]
    end, rng = time.monotonic() + seconds, np.random.default_rng([seed, step])
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        for line in _steps(network, averaged, optimizer, (data, unseen), rng, range(step, steps)):
            log.write(json.dumps(line) + "\n")
            log.flush()
            _save(checkpoint, network, averaged, optimizer, line["step"])
            write_shipped(averaged, folder / "face-points.safetensors", "face-points", eight_bits=True)
            if time.monotonic() > end:
                break
    return folder / "face-points.safetensors"


def _steps(
    network: FacePointsNet, averaged: FacePointsNet, optimizer: torch.optim.Optimizer,
    data: tuple[PointPictures, PointPictures], rng: np.random.Generator, steps: range,
) -> Iterator[dict]:  # fmt: skip
    """Train; the figures of every hundredth step, and of the last."""
    total, since = 0.0, time.monotonic()
    for step in steps:
        if step == steps.start or step % 100 == 0:
            count, _ = data[0].refresh(), data[1].refresh()
        for group in optimizer.param_groups:
            done = step / steps.stop
            group["lr"] = _RATE * min(1, (step + 1) / _WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        windows, points, face = augmented(rng, *data[0].draw(rng, _BATCH))
        loss = loss_of(network.train()(windows.contiguous(memory_format=torch.channels_last)), points, face)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        _average(averaged, network, min(0.995, (step + 1) / (step + 10)))
        total += float(loss.detach())
        if (step + 1) % 100 == 0 or step + 1 == steps.stop:
            figures = {"step": step + 1, "loss": round(total / 100, 3), "pictures": count}
            yield figures | {"off": round(off(averaged, data[1]), 4), "seconds": round(time.monotonic() - since)}
            total = 0.0


@torch.no_grad()
def _average(averaged: FacePointsNet, network: FacePointsNet, keep: float) -> None:
    for mean, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        mean.lerp_(new, 1 - keep) if mean.dtype.is_floating_point else mean.copy_(new)


@torch.no_grad()
def off(network: FacePointsNet, unseen: PointPictures, count: int = 64) -> float:
    """How far eyes' and mouth corners are off in pictures that were held out, in eye distances, on average."""
    rng = np.random.default_rng(0)
    windows, points, face = augmented(rng, *unseen.draw(rng, count))
    seen = network.eval()(windows)
    corners = [LANDMARKS.index(name) for name in LANDMARKS if name.endswith(("outer", "inner", "corner"))
               and "brow" not in name]  # fmt: skip
    eyes = (points[:, [0, 1]].mean(dim=1) - points[:, [4, 5]].mean(dim=1)).norm(dim=-1).clamp(min=5)
    away = ((seen.points - points).norm(dim=-1)[:, corners].mean(dim=1) / eyes)[face > 0]
    return float(away.mean())


def _save(path: Path, network: FacePointsNet, averaged: FacePointsNet, optimizer: torch.optim.Optimizer,
          step: int) -> None:  # fmt: skip
    stored = {"network": network.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**stored, "step": step}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
