"""Measure the face codec: `python -m knot_lab evaluate face-codec --codec out/face --bank out/face/eval`.

Rendered people of the split `eval` are given back, photos are moved by known flows and by a render's latents. Writes
the figures as JSON, and beside it a sheet (.png); 0 if the gate of the figures holds, 2 if not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from knot_core.codec import load_codec
from knot_core.codec.warping import WarpingCodec
from knot_core.errors import SettingsError
from knot_core.files import check_outputs, check_places

from ..evaluation import face_codec_sheet as sheet
from ..evaluation.aligned_photos import aligned_photos
from ..evaluation.face_codec_figures import (
    EvaluationClip,
    calm_clips,
    means,
    moved_figures,
    read_evaluation_clips,
    render_figures,
    transferred,
)
from ..evaluation.photo_figures import Goal
from ..training.face_codec import trained_face_codec

GATE = (
    Goal(figure="psnr", limit=30.0),
    Goal(figure="pixels_median", limit=1.0, at_most=True),
    Goal(figure="self_psnr", limit=32.0),
)


def main(arguments: Sequence[str]) -> int:
    """Measure, write, and say which figures reach the gate; 0 if all do, 2 if some do not."""
    options = _parser().parse_args(arguments)
    picture = options.json.with_suffix(".png")
    outputs = {"--json": options.json, "its sheet": picture}
    check_places(outputs)
    check_outputs(outputs, {"--codec": options.codec})
    codec = _codec(options.codec)
    clips = read_evaluation_clips(options.bank)[: options.clips]
    rows: list[Tensor] = []
    renders = {one.name: _render(codec, one, rows) for one in clips}
    moving = calm_clips(clips)
    aligned = {} if options.photos is None else aligned_photos(options.photos)
    by_photo = {
        name: _photo(codec, photo, moving[number % len(moving)], rows)
        for number, (name, photo) in enumerate(aligned.items())
    }
    figures = means(renders.values()) | means(by_photo.values())
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"means": figures, "renders": renders, "photos": by_photo}
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sheet.write_rows(picture, rows)
    said, holds = _judged(figures)
    sys.stdout.write(said + "\n")
    return 0 if holds else 2


def _codec(path: Path) -> WarpingCodec:
    """The codec of a weights file, or of a training's folder."""
    if path.is_dir():
        return trained_face_codec(path).to(memory_format=torch.channels_last).eval()
    codec = load_codec(path)
    if not isinstance(codec, WarpingCodec):
        raise SettingsError(f"{path} is not a face codec; give the weights of `train face-export`, or its folder")
    return codec.float()


def _render(codec: WarpingCodec, one: EvaluationClip, rows: list[Tensor]) -> dict[str, float]:
    figures, made = render_figures(codec, one)
    rows.append(sheet.render_row(one, made))
    return figures


def _photo(codec: WarpingCodec, photo: Tensor, driving: EvaluationClip, rows: list[Tensor]) -> dict[str, float]:
    moved, true, made = moved_figures(codec, photo, driving)
    followed, driven = transferred(codec, photo, driving)
    rows.append(sheet.photo_row(photo, driving, true, made, driven))
    return moved | followed


def _judged(figures: Mapping[str, float]) -> tuple[str, bool]:
    """A line a figure, and whether those of the gate hold; one that was not measured does not."""
    lines = [f"{name} {value:.3f}" for name, value in figures.items()]
    missed = [goal for goal in GATE if not goal.holds(figures.get(goal.figure, float("nan")))]
    lines += [f"{goal.figure} misses {'at most' if goal.at_most else 'at least'} {goal.limit:g}" for goal in missed]
    return "\n".join(lines), not missed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab evaluate face-codec", description=__doc__)
    parser.add_argument("--codec", type=Path, required=True, help="weights, or the folder of their training")
    parser.add_argument("--bank", type=Path, required=True, help="clips of `data heads --split eval`")
    parser.add_argument("--clips", type=int, help="so many of them; all without it")
    parser.add_argument("--photos", type=Path, help="folder of `photos fetch`; without it photos are left out")
    parser.add_argument("--json", type=Path, default=Path("out/face-codec.json"), help="default: %(default)s")
    return parser
