"""Measuring which pictures the built-in model can render: ``python -m knot_lab train calibrate``.

Drawn portraits as users would give them (of another size, cropped, shifted a little, through JPEG) make the cloud that
`knot_core.stream.reference_check` scores references against. The scores of held-out identities, and with ``--pictures``
those of a folder of pictures that the model cannot render, are recorded as evidence, with a plot.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from knot_core.driving.expression_controls import CONTROLS
from knot_core.media import open_image
from knot_core.media.picture import fit_image
from knot_core.model import Model
from knot_core.model_loading import load_model
from knot_core.stream.reference_check import GOOD_ENOUGH, Cloud, draw_reference, fit_cloud, measure

from ..synthetic import avatars

TAKES = (
    "drawn portraits like the pack's samples, upright and from the front, hair to shoulders. A drawn one can be cut "
    "with Portrait Crop; a photo needs another model, such as LiveTalk"
)
NUM_CLOUD, NUM_HELD_OUT = 160, 500
LIMIT = 6.0  # standard deviations; the evidence says how far both sides are from it
_SIDES = (96, 128, 160, 200, 256, 320)  # pixels of the pictures that users give
_MOST_CUT = 0.1  # of the sides of a picture that is cropped closer
_MOST_SHIFT = 0.02
_POSE = 0.25  # of yaw, pitch and roll
_QUALITY = (40, 95)  # of JPEG


def portrait(number: int, split: str) -> Tensor:
    """A drawn portrait as a user would give it, [H, W, 3] in 0..1: every second one only scaled, half at rest."""
    rng = np.random.default_rng([number, 41])
    controls = torch.zeros(1, len(CONTROLS))
    if number % 4 < 2:
        controls[0, :3] = torch.from_numpy(rng.uniform(-_POSE, _POSE, 3).astype(np.float32))
    values = avatars.stack_identities([avatars.identity(number, split)])[0]
    picture = avatars.render_clip(values, controls, int(rng.choice(_SIDES)))[0]
    return (_as_given(picture, rng) if number % 2 else picture).float() / 255


def _as_given(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Cropped closer, a little off the middle, and through JPEG; uint8 [H, W, 3]."""
    side = picture.shape[0]
    cut = round(side * (1 - rng.uniform(0, _MOST_CUT)))
    left, top = (
        int(np.clip((side - cut) / 2 + rng.uniform(-_MOST_SHIFT, _MOST_SHIFT) * side, 0, side - cut)) for _ in range(2)
    )
    file = io.BytesIO()
    part = picture[top : top + cut, left : left + cut]
    Image.fromarray(part.numpy()).save(file, "JPEG", quality=int(rng.integers(*_QUALITY)))
    return torch.from_numpy(np.array(Image.open(file).convert("RGB")))


def drawing(model: Model, picture: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The result of `draw_reference` for a picture [H, W, 3] at the model's own size."""
    return draw_reference(model, model.encode_anchor(picture), model.settings)


def calibrate(model: Model, count: int = NUM_CLOUD) -> Cloud:
    """The cloud of portraits of the training's identities."""
    return fit_cloud([drawing(model, portrait(number, "train")) for number in range(count)], TAKES, LIMIT)


def scores(model: Model, cloud: Cloud, pictures: Iterator[tuple[str, Tensor]]) -> dict[str, float]:
    """Scores of named pictures, [H, W, 3] in 0..1 each: {name: score in 0..1}."""
    found = {}
    for name, picture in pictures:
        found[name] = round(cloud.score(measure(*drawing(model, picture), cloud.motion)), 4)
    return found


def held_out(count: int = NUM_HELD_OUT) -> Iterator[tuple[str, Tensor]]:
    """Portraits, [H, W, 3] in 0..1, of identities that no training has seen, with their numbers as names."""
    return ((f"{number:03d}", portrait(number, "eval")) for number in range(count))


def files_of(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The pictures, [H, W, 3] in 0..1, of a folder and the folders below it, named by their paths in it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        picture = open_image(path)
        scale = max(1, min(picture.shape[:2]) // 512)  # a photo of many pixels says no more than its small form
        size = [side // scale for side in picture.shape[:2]]
        yield str(path.relative_to(folder).with_suffix("")), fit_image(picture, *size)


def write(assets: Path, evidence: Path, pictures: Path | None, count: int) -> None:
    """The cloud beside the weights, the scores as JSON, and a plot beside that."""
    model = replace(load_model("knot-tiny"), good_references=None)
    cloud = calibrate(model)
    text = json.dumps(cloud.to_dict(), indent=None) + "\n"
    (assets / "knot-tiny-reference.json").write_text(text, encoding="utf-8")
    groups = {"drawn portraits": scores(model, cloud, held_out(count))}
    groups |= {} if pictures is None else {"other pictures": scores(model, cloud, files_of(pictures))}
    evidence.parent.mkdir(parents=True, exist_ok=True)
    evidence.write_text(json.dumps({"good enough": GOOD_ENOUGH} | groups, indent=1) + "\n", encoding="utf-8")
    plot(groups).save(evidence.with_suffix(".png"))


def plot(groups: Mapping[str, Mapping[str, float]], width: int = 800, row: int = 120) -> Image.Image:
    """A histogram of scores for each group, from 0 to 1, and the score from which nothing is said."""
    image = Image.new("RGB", (width, row * len(groups)), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, found) in enumerate(groups.items()):
        bottom = row * (number + 1) - 20
        heights, edges = np.histogram(list(found.values()), bins=100, range=(0, 1))
        tallest = max(1, heights.max())
        for height, left, right in zip(heights, edges[:-1], edges[1:], strict=True):
            box = (left * width, bottom - (row - 50) * height / tallest, right * width - 1, bottom)
            draw.rectangle(box, fill="#2563eb" if height else "white")
        draw.text((4, bottom - row + 24), f"{name}: {len(found)}, scores {min(found.values())} to "
                  f"{max(found.values())}", fill="black")  # fmt: skip
        for tenth in range(11):
            draw.text((tenth * width / 10 - 8, bottom + 4), f"{tenth / 10}", fill="black")
    draw.line((GOOD_ENOUGH * width, 0, GOOD_ENOUGH * width, row * len(groups)), fill="#d62728")
    return image
