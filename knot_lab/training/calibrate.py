"""Measuring which pictures a built-in model can render: ``python -m knot_lab train calibrate``.

Pictures as users would give them (of another size, cropped, shifted a little, through JPEG) make the cloud that
`knot_core.stream.reference_check` scores references against: drawn portraits for knot-tiny, for knot-face the rendered
people of a bank. The scores of held-out identities, and with ``--pictures`` those of a folder of other pictures, are
recorded as evidence, with a plot.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from knot_core.driving.expression_controls import CONTROLS
from knot_core.errors import SettingsError
from knot_core.media import open_image
from knot_core.media.picture import fit_image
from knot_core.model import Model
from knot_core.model_loading import load_model
from knot_core.stream.reference_check import GOOD_ENOUGH, Cloud, draw_reference, fit_cloud, measure

from ..data.face_clips import is_of_a_person
from ..synthetic import avatars

TAKES = (
    "drawn portraits like the pack's samples, upright and from the front, hair to shoulders. A drawn one can be cut "
    "with Portrait Crop; a photo needs another model: knot-face, which is built in, too"
)
FACE_TAKES = (
    "one person's face from the front, eyes and mouth in sight, in a photo or a picture like one; hands, hair or "
    "shadow over them, profiles and animals are not rendered well: take another picture"
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


@dataclass(frozen=True, kw_only=True)
class People:
    """The pictures that a model can render: those that make its cloud, and held-out ones; [H, W, 3] in 0..1, named."""

    model: str
    kind: str  # for the plot
    takes: str
    seen: Iterable[tuple[str, Tensor]]
    unseen: Iterable[tuple[str, Tensor]]


def drawn_people(count: int = NUM_CLOUD, num_held_out: int = NUM_HELD_OUT) -> People:
    """Drawn portraits, for knot-tiny; those of the split `eval` no training has seen."""
    return People(
        model="knot-tiny", kind="drawn portraits", takes=TAKES,
        seen=((f"{number:03d}", portrait(number, "train")) for number in range(count)),
        unseen=((f"{number:03d}", portrait(number, "eval")) for number in range(num_held_out)),
    )  # fmt: skip


def rendered_people(bank: Path, held_out: Path, count: int = NUM_CLOUD) -> People:
    """The references of a bank's clips, and those of another bank, for knot-face.

    Raises:
        SettingsError: a bank holds no clips of people.
    """
    return People(
        model="knot-face", kind="rendered people", takes=FACE_TAKES,
        seen=_references(bank, count), unseen=_references(held_out, NUM_HELD_OUT),
    )  # fmt: skip


def _references(bank: Path, count: int) -> Iterator[tuple[str, Tensor]]:
    files = [file for file in sorted(bank.glob("*.npz")) if is_of_a_person(file)][:count]
    if not files:
        raise SettingsError(f"{bank} holds no clips of people; render some: data heads --bank {bank}")
    for number, file in enumerate(files):
        with np.load(file) as stored:
            picture = torch.from_numpy(stored["reference"])
        given = _as_given(picture, np.random.default_rng([number, 42])) if number % 2 else picture
        yield file.stem, given.float() / 255


def calibrate(model: Model, people: People) -> Cloud:
    """The cloud of pictures of identities that the training has seen."""
    return fit_cloud([drawing(model, picture) for _, picture in people.seen], people.takes, LIMIT)


def scores(model: Model, cloud: Cloud, pictures: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Scores of named pictures, [H, W, 3] in 0..1 each: {name: score in 0..1}."""
    found = {}
    for name, picture in pictures:
        found[name] = round(cloud.score(measure(*drawing(model, picture), cloud.motion)), 4)
    return found


def files_of(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The pictures, [H, W, 3] in 0..1, of a folder and the folders below it, named by their paths in it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        picture = open_image(path)
        scale = max(1, min(picture.shape[:2]) // 512)  # a photo of many pixels says no more than its small form
        size = [side // scale for side in picture.shape[:2]]
        yield str(path.relative_to(folder).with_suffix("")), fit_image(picture, *size)


def write(people: People, assets: Path, evidence: Path, pictures: Path | None) -> None:
    """The cloud beside the weights, the scores as JSON, and a plot beside that."""
    model = replace(load_model(assets / f"{people.model}.safetensors"), good_references=None)
    cloud = calibrate(model, people)
    text = json.dumps(cloud.to_dict(), indent=None) + "\n"
    (assets / f"{people.model}-reference.json").write_text(text, encoding="utf-8")
    groups = {people.kind: scores(model, cloud, people.unseen)}
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
