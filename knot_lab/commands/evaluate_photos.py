"""Measure how a model moves photos: `python -m knot_lab evaluate photos --model knot-face --heads heads.npz`.

Each photo speaks, then follows controls. Writes the figures as JSON and beside it a sheet (.png): a photo, and six
moments of its two streams. 0 if the goals are reached, 2 if not. Landmarks need MediaPipe before 0.10.30; identity
needs dlib-bin and face-recognition-models.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from knot_core import load_model
from knot_core.files import check_outputs, check_places

from ..evaluation.aligned_photos import aligned_photos
from ..evaluation.animated_photos import (
    Animated,
    animate_photo,
    as_pictures,
    face_embedder,
    figures_of,
    turned_photo,
)
from ..evaluation.face_codec_figures import means
from ..evaluation.photo_figures import unreached
from ..synthetic.heads.head_bank import read_head_bank

_MOMENTS = 3  # of each stream, on the sheet


def main(arguments: Sequence[str]) -> int:
    """Stream, measure, write, and say what misses its goal."""
    options = _parser().parse_args(arguments)
    picture = options.json.with_suffix(".png")
    outputs = {"--json": options.json, "its sheet": picture}
    check_places(outputs)
    check_outputs(outputs, {"--heads": options.heads})
    model, bank, embed = load_model(options.model), read_head_bank(options.heads), face_embedder()
    figures, rows = {}, []
    for number, (name, photo) in enumerate(aligned_photos(options.photos).items()):
        animated = animate_photo(model, photo, number, options.seconds)
        figures[name] = figures_of(animated, photo, turned_photo(bank, photo), embed)
        rows.append(_row(photo, animated))
        sys.stderr.write(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures[name].items()) + "\n")
    found = means(figures.values())
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"means": found, "photos": figures}, indent=1) + "\n", encoding="utf-8")
    Image.fromarray(np.concatenate(rows)).save(picture)
    missed = unreached(found)
    sys.stdout.write("\n".join([*(f"{name} {value:.3f}" for name, value in found.items()), *missed]) + "\n")
    return 2 if missed else 0


def _row(photo: torch.Tensor, animated: Animated) -> np.ndarray:
    """The photo and moments evenly apart, side by side: uint8 [S, 7 S, 3]."""
    shown = [as_pictures(photo)[0]]
    for frames in (animated.spoken, animated.moved):
        places = np.linspace(0, len(frames) - 1, _MOMENTS + 2).round().astype(int)[1:-1]
        shown.extend(frames[places])
    return np.concatenate(shown, axis=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab evaluate photos", description=__doc__)
    parser.add_argument("--model", default="knot-face", help="a name or a file; default: %(default)s")
    parser.add_argument("--photos", type=Path, default=Path("out/photos"), help="folder of `photos fetch`")
    parser.add_argument("--heads", type=Path, default=Path("heads.npz"), help="geometry that turns a photo")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stream; default: %(default)s")
    parser.add_argument("--json", type=Path, default=Path("out/photos.json"), help="default: %(default)s")
    return parser
