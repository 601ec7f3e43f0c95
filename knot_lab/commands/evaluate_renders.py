"""Measure streams of rendered people against the renders: `python -m knot_lab evaluate renders --heads heads.npz`.

People whom no training has seen speak and move; the model moves their reference by the same units and pose, with its
own settings and as variants of the study. Writes the figures as JSON and beside it a sheet (.png): the reference, then
for three moments the truth and what was made. 0 if the goals are reached, 2 if not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from knot_core import Driving, load_model
from knot_core.driving.audio import FPS
from knot_core.files import check_outputs, check_places
from knot_core.model import Model
from knot_core.stream import Chunk

from ..evaluation.photo_figures import unreached
from ..evaluation.streamed_renders import (
    GOALS,
    StreamedRender,
    differences,
    draw_render,
    driving_of,
    render_stream_figures,
    speaking_clips,
    streamed,
    summary,
)
from ..study.variants import VARIANTS
from ..synthetic.heads.head_bank import read_head_bank

_MOMENTS = 3  # of each stream, on the sheet


def main(arguments: Sequence[str]) -> int:
    """Stream, measure, write, and say what misses its goal."""
    options = _parser().parse_args(arguments)
    names = options.variants.split(",")
    if wrong := sorted(set(names) - set(VARIANTS)):
        raise SystemExit(f"error: there is no variant {wrong[0]!r}; choose of {', '.join(VARIANTS)}")
    picture = options.json.with_suffix(".png")
    check_places({"--json": options.json, "its sheet": picture})
    check_outputs({"--json": options.json, "its sheet": picture}, {"--heads": options.heads})
    model, bank = load_model(options.model), read_head_bank(options.heads)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in ("full", *names)}
    rows = []
    for seed, clip in enumerate(speaking_clips(bank, options.people, round(options.seconds * FPS))):
        drawn = draw_render(clip)
        for name, found in figures.items():
            made = streamed(drawn, _chunks(model, name, drawn, driving_of(clip), seed))
            found.append(render_stream_figures(made, model.settings.num_chunk_frames))
            rows += [_row(made)] * (name == "full")
            told = ", ".join(f"{key} {value:.3f}" for key, value in found[-1].items())
            sys.stderr.write(f"{seed} {name}: {told}\n")
    means = {name: summary(found) for name, found in figures.items()}
    apart = {name: differences(found, figures["full"]) for name, found in figures.items() if name != "full"}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"means": means, "differences": apart, "people": figures}, indent=1)
    options.json.write_text(text + "\n", encoding="utf-8")
    Image.fromarray(np.concatenate(rows)).save(picture)
    missed = unreached(means["full"], GOALS)
    sys.stdout.write("\n".join([*_table(means, apart), *missed]) + "\n")
    return 2 if missed else 0


def _chunks(model: Model, name: str, drawn: StreamedRender, driving: Driving, seed: int) -> Iterator[Chunk]:
    anchor = model.encode_anchor(torch.from_numpy(drawn.reference).float() / 255)
    return VARIANTS[name].opened(model, anchor, VARIANTS[name].settings(model.settings), driving, seed)


def _table(
    means: Mapping[str, Mapping[str, float]], apart: Mapping[str, Mapping[str, tuple[float, float]]]
) -> Iterator[str]:
    """The full stream's figures; of a variant by how much each differs from them."""
    for name, value in means["full"].items():
        others = [f"{variant} {found[name][0]:+.3f} ± {found[name][1]:.3f}"
                  for variant, found in apart.items() if name in found]  # fmt: skip
        yield "; ".join([f"{name} {value:.3f}", *others])


def _row(one: StreamedRender) -> np.ndarray:
    """The reference, then moments evenly apart, each as it was and as it was made: uint8 [S, 7 S, 3]."""
    places = np.linspace(0, len(one.truth) - 1, _MOMENTS + 2).round().astype(int)[1:-1]
    shown = [part[place] for place in places for part in (one.truth, one.made)]
    return np.concatenate([one.reference, *shown], axis=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab evaluate renders", description=__doc__)
    parser.add_argument("--model", default="knot-face", help="a name or a file; default: %(default)s")
    parser.add_argument("--heads", type=Path, default=Path("heads.npz"), help="geometry of the people")
    parser.add_argument("--people", type=int, default=12, help="how many; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each stream; default: %(default)s")
    parser.add_argument("--variants", default="full", help="names of the study's, with commas between; default: full")
    parser.add_argument("--json", type=Path, default=Path("out/renders.json"), help="default: %(default)s")
    return parser
