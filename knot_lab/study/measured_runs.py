"""The runs of a study: every variant streams every identity twice, and each stream is measured once.

Truth, masks and reader are made once an identity. Records are those of ``runs``: a study that was cut off goes on.

Shapes: T pixel frames, H W size.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from knot_core.driving.expression_controls import CONTROLS
from knot_core.model import Model

from ..evaluation import metrics
from ..evaluation.reader import Reader
from ..evaluation.records import Record, append_record, baseline, read_records, records_of
from ..evaluation.scenes import Scene, Truth, check_room
from ..evaluation.video_figures import Figures, fidelity, measure, obedience
from . import temporal_metrics
from .ablations import RESTART_CHUNKS
from .study_plan import MODES, StepScene, StudyPlan
from .variants import VARIANTS

_PART = 100  # pixel frames whose masks are made at once


def current_records(plan: StudyPlan, models: Mapping[str, Model]) -> list[Record]:
    """The records of this plan; lines of other models, settings or lengths are skipped."""
    made_by = plan.made_by(models)
    wanted = {(i, *run, made_by[run]) for i in range(plan.identities) for run in plan.runs()}
    return records_of(plan.records, wanted)


def run_identity(plan: StudyPlan, number: int, threads: int | None = None) -> int:
    """Make and measure the runs of one identity that are not there yet; how many there were to do."""
    if threads is not None:
        torch.set_num_threads(threads)
    models = plan.load()
    made_by = plan.made_by(models)
    there = {record.key for record in read_records(plan.records)}
    missing = [run for run in plan.runs() if (number, *run, made_by[run]) not in there]
    if missing:
        size = models["full"].preset.height
        bench = _Bench(plan, models, Reader.of(Scene(number=number, seconds=1, size=size).identity, size))
        for mode in MODES:
            names = [name for run_mode, name in missing if run_mode == mode]
            for name, figures in bench.measured(plan.scene(mode, number, size), mode, names):
                made = made_by[mode, name]
                values = {"identity": number, "mode": mode, "variant": name, "made_by": made} | vars(figures)
                append_record(plan.records, Record(**values))
    return len(missing)


@dataclass(frozen=True)
class _Bench:
    """The objects that an identity's runs share."""

    plan: StudyPlan
    models: Mapping[str, Model]
    reader: Reader

    def measured(self, scene: Scene, mode: str, names: list[str]) -> Iterator[tuple[str, Figures]]:
        """The figures of each run, as soon as they are there."""
        if not names:
            return
        with tempfile.TemporaryDirectory(prefix="knot-study-") as folder:
            needs_truth = mode == "full" or "truth" in names
            truth = Truth.of(scene, Path(folder)) if needs_truth else None
            static = _static(truth, Path(folder)) if mode == "full" else None
            for name in names:
                began = time.process_time()
                pieces = self._pieces(scene, mode, name, truth)
                figures = self._steps(scene, pieces) if static is None else self._full(scene, pieces, truth, static)
                figures.values["cpu_seconds"] = time.process_time() - began
                yield name, figures

    def _pieces(self, scene: Scene, mode: str, name: str, truth: Truth | None) -> Iterator[Tensor]:
        if name not in VARIANTS:
            return baseline(name, self.models["full"], scene, truth)
        model = self.models[name]
        stream = VARIANTS[name].opened(
            model,
            model.encode_anchor(scene.reference),
            self.plan.settings(self.models["full"].settings, name),
            scene.driving(mode, model),
            scene.number,
        )
        return (chunk.pixel_frames for chunk in stream)

    @property
    def _chunk_frames(self) -> int:
        return self.models["full"].settings.num_chunk_frames

    def _full(self, scene: Scene, pieces: Iterable[Tensor], truth: Truth, static: np.ndarray) -> Figures:
        energies: list[np.ndarray] = []
        track = measure(_watched(pieces, static, energies), truth, self.reader)
        seen, period = fidelity(track, self._chunk_frames), temporal_metrics.period_of(self._chunk_frames)
        values = obedience(track, scene.controls).values | seen.values
        power = temporal_metrics.spectrum(temporal_metrics.log_change(track["change"], track["true_change"]), period)
        head = ("yaw", "pitch", "roll")
        asked = scene.controls[:, [CONTROLS.index(name) for name in head]]
        values |= {
            "drift": values["psnr_last"] - values["psnr_first"],
            "identity_drift": values["identity_last"] - values["identity_first"],
            "seam": temporal_metrics.seam(power, period, self._chunk_frames),
            "beat": temporal_metrics.beat(power, period, self._chunk_frames),
            "restart": metrics.boundary_ratio(track["change"], RESTART_CHUNKS * self._chunk_frames),
            "flicker": temporal_metrics.flicker(np.concatenate(energies)),
            "roughness": temporal_metrics.roughness(np.stack([track[f"read_{name}"] for name in head], axis=1), asked),
        }
        return Figures(values, seen.curves | {"spectrum": power.tolist()})

    def _steps(self, scene: StepScene, pieces: Iterable[Tensor]) -> Figures:
        track = measure(pieces, None, self.reader)
        asked = scene.controls[:, CONTROLS.index("yaw")]
        period = temporal_metrics.period_of(self._chunk_frames)
        values = temporal_metrics.mean_response(track["read_yaw"], asked, scene.steps, period)
        mouth = scene.controls[:, CONTROLS.index("mouth_open")]
        return Figures(values | {"lips": metrics.pearson(track["read_mouth_open"], mouth)}, {})


def _static(truth: Truth, folder: Path) -> np.ndarray:
    """``static_masks`` of a whole scene, on disc: uint8 [T, H, W]."""
    shape = truth.pictures.shape[:3]
    check_room(folder, int(np.prod(shape)))
    masks = np.lib.format.open_memmap(folder / "static.npy", mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, len(masks), _PART):
        before = max(0, start - 1)
        pictures = torch.from_numpy(truth.pictures[before : start + _PART])
        masks[start : start + _PART] = temporal_metrics.static_masks(pictures)[start - before :].numpy()
    return masks


def _watched(pieces: Iterable[Tensor], static: np.ndarray, energies: list[np.ndarray]) -> Iterator[Tensor]:
    """The same segments; their change in static regions is gathered on the way."""
    start, before = 0, None
    for piece in pieces:
        first = start if before is None else start - 1
        masks = torch.from_numpy(static[first : start + len(piece)])
        joined = piece if before is None else torch.cat([before, piece])
        energies.append(temporal_metrics.change_energy(joined, masks)[-len(piece) :])
        start, before = start + len(piece), piece[-1:]
        yield piece
