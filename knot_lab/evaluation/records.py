"""The runs of an evaluation: one video each, of one identity, in one mode, by one variant; each measured once.

A run's record is one JSON line, appended as soon as it is there. What a line was made under stands in it (``made_by``),
so an evaluation that is cut off goes on where it stopped, and never mixes models, settings or lengths.

Shapes: T pixel frames, H W size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from knot_core.config import StreamSettings
from knot_core.geometry import TEMPORAL
from knot_core.model import Model
from knot_core.model_loading import load_model
from knot_core.stream import open_stream
from knot_core.stream.stream_model import fingerprint, wants_reference

from .reader import Reader
from .scenes import Scene, Truth
from .video_figures import Figures, fidelity, measure, obedience

# What each variant changes. Without the anchor only the first knot knows the reference, else it would be anybody.
VARIANTS: Mapping[str, Mapping[str, int | float | bool]] = {
    "full": {},
    "knot0": {"num_knot_frames": 0, "start_from_reference": False},
    "nofusion": {"fusion": 0.0},
    "anchor0": {"run_ahead_stride": 0},
    "noanchor": {"use_anchor": False, "start_from_reference": True},
}
# The truth (what is read from it bounds what can be read from any video), the truth through the codec alone; and two
# trivial answers: the reference as it stands, the truth's mean over time.
BASELINES = ("truth", "codec", "frozen", "mean")
DEFINITION = 2  # of the figures: raise it when their meaning changes, and old lines are measured again
CODEC_DEFINITION = 2  # the same of the baseline `codec` alone
_SEGMENT = 124  # pixel frames, whole latent frames, that the codec encodes at once, after one that it begins with
_STRIP = 10  # pictures kept of every video, for the contact sheet


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of an evaluation."""

    identities: int
    seconds: float
    steps: int
    variants: tuple[str, ...]
    modes: tuple[str, ...]
    model: str
    codec: str | None
    device: str
    dtype: torch.dtype | None
    records: Path  # the JSON lines; pictures of the runs lie beside it in a folder of the same name

    def runs(self) -> list[tuple[str, str]]:
        """(mode, variant) of every run of one identity; the baselines first."""
        first = [("full", name) for name in (*BASELINES, *self.variants)] if "full" in self.modes else []
        return first + [(mode, "full") for mode in self.modes if mode != "full"]

    def settings(self, model: Model, variant: str) -> StreamSettings:
        """The settings of a variant's stream."""
        return replace(model.settings, steps=self.steps, **VARIANTS[variant])

    def load(self) -> Model:
        return load_model(self.model, self.device, self.dtype, self.codec)

    def made_by(self, model: Model) -> dict[str, str]:
        """Variant -> what tells apart everything that changes its records."""
        weights = fingerprint(model)
        return {variant: self._made_by(weights, model, variant) for variant in (*BASELINES, *self.variants, "full")}

    def _made_by(self, weights: str, model: Model, variant: str) -> str:
        settings = None if variant in BASELINES else self.settings(model, variant).to_dict()
        parts = [DEFINITION, weights, str(model.dtype), self.seconds, settings]
        parts += [CODEC_DEFINITION] if variant == "codec" else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def strip(self, number: int, mode: str, variant: str) -> Path:
        """The path of a run's pictures."""
        return self.records.with_suffix("") / f"{number:03d}-{mode}-{variant}.png"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measured run."""

    identity: int
    mode: str
    variant: str
    made_by: str
    values: dict[str, float]
    curves: dict[str, list[float]]

    @property
    def key(self) -> tuple[int, str, str, str]:
        return self.identity, self.mode, self.variant, self.made_by


def read_records(path: Path) -> list[Record]:
    """The records of a file; an incomplete last line is ignored."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        found["values"] = {name: math.nan if value is None else value for name, value in found["values"].items()}
        records.append(Record(**found))
    return records


def records_of(path: Path, wanted: Set[tuple[int, str, str, str]]) -> list[Record]:
    """The records with the requested keys, in order; if a key occurs twice, the last one."""
    found = {record.key: record for record in read_records(path) if record.key in wanted}
    return [found[key] for key in sorted(found)]


def append_record(path: Path, record: Record) -> None:
    """One write of one line: several processes may append to one file. It starts anew after a line that was cut off."""
    line = "\n" + json.dumps(_without_nan(vars(record)))
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def run_identity(plan: Plan, number: int, threads: int | None = None) -> int:
    """Make and measure the runs of one identity that are not there yet; how many there were to do."""
    if threads is not None:
        torch.set_num_threads(threads)
    model = plan.load()
    there = {record.key for record in read_records(plan.records)}
    made_by = plan.made_by(model)
    missing = [
        (mode, variant) for mode, variant in plan.runs() if (number, mode, variant, made_by[variant]) not in there
    ]
    if missing:
        scene = Scene(number=number, seconds=plan.seconds, size=model.preset.height)
        with tempfile.TemporaryDirectory(prefix="knot-evaluate-") as folder:
            _run_scene(plan, model, scene, missing, Path(folder))
    return len(missing)


def _run_scene(plan: Plan, model: Model, scene: Scene, runs: list[tuple[str, str]], folder: Path) -> None:
    reader, made_by = Reader.of(scene.identity, scene.size), plan.made_by(model)
    truth = Truth.of(scene, folder) if any(mode == "full" for mode, _ in runs) else None
    for mode, variant in runs:
        figures, pictures = _run(plan, model, scene, (mode, variant), reader, truth)
        _save_strip(plan.strip(scene.number, mode, variant), pictures)
        append_record(
            plan.records,
            Record(
                identity=scene.number,
                mode=mode,
                variant=variant,
                made_by=made_by[variant],
                values=figures.values,
                curves=figures.curves,
            ),
        )


def _run(
    plan: Plan, model: Model, scene: Scene, run: tuple[str, str], reader: Reader, truth: Truth | None
) -> tuple[Figures, list[np.ndarray]]:
    mode, variant = run
    driving = scene.driving(mode, model)
    if variant in BASELINES:
        assert truth is not None, run
        pieces, chunk_frames = baseline(variant, model, scene, truth), model.settings.num_chunk_frames
    else:
        settings = plan.settings(model, variant)
        stream = open_stream(model, model.encode_anchor(scene.reference), settings, driving, seed=scene.number)
        pieces, chunk_frames = (chunk.pixel_frames for chunk in stream), settings.num_chunk_frames
    kept: list[np.ndarray] = []
    began = time.perf_counter()
    track = measure(_keeping(pieces, strip_frames(scene), kept), truth if mode == "full" else None, reader)
    figures = obedience(track, scene.expected(mode, driving))
    figures.values["wall_seconds"] = time.perf_counter() - began
    if mode == "full":
        seen = fidelity(track, chunk_frames)
        figures = Figures(figures.values | seen.values, seen.curves)
    return figures, kept


def strip_frames(scene: Scene) -> list[int]:
    """The pixel frames that are kept: the middles of equal parts."""
    count = min(_STRIP, scene.num_pixel_frames)
    return [int((i + 0.5) * scene.num_pixel_frames / count) for i in range(count)]


def baseline(name: str, model: Model, scene: Scene, truth: Truth) -> Iterator[Tensor]:
    """The pictures of one of BASELINES in segments, uint8 [T, H, W, 3] each."""
    if name == "codec":
        return through_codec(model, truth.pictures)
    parts = [slice(i, i + _SEGMENT) for i in range(0, len(truth.pictures), _SEGMENT)]
    if name == "truth":
        return (torch.from_numpy(truth.pictures[part]) for part in parts)
    still = (scene.reference * 255).round().byte() if name == "frozen" else _mean_picture(truth.pictures)
    return (still.expand(len(truth.pictures[part]), *still.shape) for part in parts)


@torch.no_grad()
def through_codec(model: Model, pictures: np.ndarray) -> Iterator[Tensor]:
    """uint8 [T, H, W, 3] encoded and decoded again, in segments that begin anew, on one grid of latent frames.

    A codec's first latent frame is one picture: each later segment begins with the picture before it, which is dropped.
    """
    dtype = next(model.codec.parameters()).dtype
    for start, stop in pairwise([0, *range(1 + _SEGMENT, len(pictures), _SEGMENT), len(pictures)]):
        before = min(start, 1)
        part = torch.from_numpy(pictures[start - before : stop])
        length = 1 + TEMPORAL * -(-(len(part) - 1) // TEMPORAL)
        filled = torch.cat([part, part[-1:].expand(length - len(part), *part.shape[1:])])
        pixels = filled.movedim(-1, -3)[None].to(model.device, dtype) / 255
        latents = model.codec.encode(pixels)
        read = (model.codec.read_reference(pixels[:, 0]),) if wants_reference(model.codec) else ()
        decoded, _ = model.codec.decode(latents, None, *read)
        yield decoded[0, before : len(part)].float().clamp(0, 1).mul(255).round().byte().movedim(-3, -1).cpu()


def _mean_picture(pictures: np.ndarray) -> Tensor:
    total = np.zeros(pictures.shape[1:], dtype=np.float64)
    for start in range(0, len(pictures), _SEGMENT):
        total += pictures[start : start + _SEGMENT].sum(axis=0, dtype=np.float64)
    return torch.from_numpy((total / len(pictures)).round().astype(np.uint8))


def _keeping(pieces: Iterable[Tensor], frames: list[int], kept: list[np.ndarray]) -> Iterator[Tensor]:
    """The same segments; the pictures of some frames are copied on the way."""
    start = 0
    for piece in pieces:
        kept += [piece[i - start].numpy().copy() for i in frames if start <= i < start + len(piece)]
        start += len(piece)
        yield piece


def _save_strip(path: Path, pictures: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(pictures, axis=1)).save(path)


def _without_nan(value: object) -> object:
    """The same for JSON, which has no nan: None in its place; numbers shortened."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list) else value
