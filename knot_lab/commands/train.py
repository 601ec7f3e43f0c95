"""``python -m knot_lab train``: from clips to weights, stage by stage. Every stage resumes where it stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from knot_core.codec import load_codec
from knot_core.errors import KnotError, SettingsError
from knot_core.model_loading import ASSETS

from ..changes import changed
from ..data.clip_shards import prepare
from ..data.examples import open_examples
from ..data.face_clips import prepare_bank
from ..data.face_pictures import FacePictures
from ..data.picture_batches import Pictures
from ..data.videos import prepare_videos
from ..parallel import Team, join_team, leave_team
from ..recipes import KNOT_FACE, KNOT_TINY, RECIPES, Recipe, find_recipe
from ..study.variant_training import train_variants, trainable
from ..training import calibrate
from ..training.codec import build_codec, build_decoder
from ..training.export import export, write_samples
from ..training.face_codec import NAME as FACE_CODEC
from ..training.face_codec import build_face_codec, export_face_codec
from ..training.face_points_training import FACE_POINTS_STEPS, train_face_points
from ..training.knot_lora import NAME as KNOT_LORA
from ..training.knot_lora import build_knot_lora
from ..training.landmark_code_fit import fit_landmark_code
from ..training.loop import Outputs, train_stage
from ..training.memory_table import memory_table
from ..training.regression_stage import build_regression
from ..training.spoken_units_training import SPOKEN_UNITS_STEPS, train_spoken_units
from ..training.stages import STAGES, build_stage
from .stage_files import (
    clips_folder,
    codec_file,
    face_codec_of,
    landmark_code_of,
    outputs_of,
    portraits_of,
    starts_of,
    trained_codec,
    weights_in,
)

NUM_SHARDS = 14
ALL = ("codec", "decoder", "clips", "stills", "student", "export", "samples")  # in this order


def main(argv: Sequence[str] | None = None) -> None:
    """Run one stage, or all that make the built-in model, in order.

    A user's mistake is one line, without a traceback.
    """
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        for stage in ALL if args.stage == "all" else (args.stage,):
            _COMMANDS[stage](args, _recipe(args, stage))
    except KnotError as problem:
        raise SystemExit(f"error: {problem}") from problem


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab train", description=__doc__)
    parser.add_argument("stage", choices=(*_COMMANDS, "all"), help=f"all: {', '.join(ALL)}")
    parser.add_argument("videos", nargs="?", type=Path, help="prepare: a folder of videos with sound")
    parser.add_argument("--recipe", default=KNOT_TINY.name, choices=RECIPES)
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="a value of the stage, such as steps=100, or of the whole recipe, such as stream.steps=2",
    )
    parser.add_argument("--folder", type=Path, default=Path("out/train"), help="checkpoints, logs, samples, clips")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder for the built-in model")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument("--start-from", type=Path, help="initial weights of the stage's network")
    _add_data(parser)
    parser.add_argument("--variants", help="variants: names, with commas between; without it all that can be trained")
    parser.add_argument(
        "--pictures", type=Path, help="calibrate: a folder of other pictures, whose scores are recorded"
    )
    parser.add_argument(
        "--evidence", type=Path, default=Path("out/references.json"), help="calibrate: file for the scores"
    )
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=Path, help="the clips' folder; FOLDER/videos, or else FOLDER/clips")
    parser.add_argument(
        "--bank",
        type=Path,
        help="face-codec and calibrate: clips, FOLDER/bank; face-points: pictures with key points, FOLDER/landmarks",
    )
    parser.add_argument("--held-out", type=Path, help="calibrate: clips of people not trained on, FOLDER/eval")
    parser.add_argument("--codec", type=Path, help="the clips' codec: a Wan VAE or a tiny one; knot-tiny has its own")
    parser.add_argument(
        "--shards", type=int, default=NUM_SHARDS, help="shards of 64 clips, or of 256 people's pictures"
    )


def _recipe(args: argparse.Namespace, stage: str) -> Recipe:
    """With the changes that were asked for: a plain name is a field of the stage's own part, if that has it."""
    recipe, part = find_recipe(args.recipe), stage.replace("-", "_")
    own = getattr(recipe, part, None) if part in vars(recipe) else None
    if own is None and part in vars(recipe):
        raise SettingsError(f"the recipe {recipe.name} has no stage {stage}; choose --recipe {KNOT_TINY.name}")
    changes = []
    for change in args.set:
        name = change.partition("=")[0]
        is_own = own is not None and "." not in name and (name in vars(own) or name not in vars(recipe))
        changes.append(f"{part}.{change}" if is_own else change)
    return changed(recipe, changes)


def _codec(args: argparse.Namespace, recipe: Recipe) -> None:
    with _team(args) as team:
        train_stage(build_codec(recipe, team), Pictures(own=recipe.codec), Outputs(folder=args.folder))


def _decoder(args: argparse.Namespace, recipe: Recipe) -> None:
    with _team(args) as team:
        stage = build_decoder(recipe, team, trained_codec(args))
        train_stage(stage, Pictures(own=recipe.decoder), Outputs(folder=args.folder))


def _face_codec(args: argparse.Namespace, recipe: Recipe) -> None:
    source = FacePictures(own=recipe.face_codec, bank=args.bank or args.folder / "bank")
    with _team(args) as team:
        train_stage(build_face_codec(recipe, team, weights_in(args.start_from)), source, Outputs(folder=args.folder))


def _face_points(args: argparse.Namespace, _: Recipe) -> None:
    weights = train_face_points(args.folder, args.bank or args.folder / "landmarks", steps=FACE_POINTS_STEPS)
    sys.stderr.write(f"wrote {weights}\n")


def _spoken_units(args: argparse.Namespace, _: Recipe) -> None:
    sys.stderr.write(f"wrote {train_spoken_units(args.folder, steps=SPOKEN_UNITS_STEPS)}\n")


def _face_code(args: argparse.Namespace, _: Recipe) -> None:
    channels = face_codec_of(args).config.latent_channels
    sys.stderr.write(f"wrote {fit_landmark_code(args.bank or args.folder / 'bank', args.folder, channels)}\n")


def _face_clips(args: argparse.Namespace, _: Recipe) -> None:
    folder = args.clips or args.folder / "clips"
    prepare_bank(face_codec_of(args), args.bank or args.folder / "bank", folder)


def _face_export(args: argparse.Namespace, _: Recipe) -> None:
    sys.stderr.write(f"wrote {export_face_codec(args.folder, args.assets)}\n")


def _clips(args: argparse.Namespace, recipe: Recipe) -> None:
    prepare(trained_codec(args), recipe.clips, args.shards, args.folder / "clips")


def _stills(args: argparse.Namespace, recipe: Recipe) -> None:
    prepare(trained_codec(args), recipe.stills, args.shards, args.folder / "stills")


def _student(args: argparse.Namespace, recipe: Recipe) -> None:
    own, source, start = recipe.student, portraits_of(args, recipe.student), weights_in(args.start_from)
    with _team(args) as team:
        code = landmark_code_of(args).to(team.device) if own.landmarks else None
        train_stage(build_regression(recipe, own, team, start, code), source, outputs_of(args, recipe, team))


def _variants(args: argparse.Namespace, recipe: Recipe) -> None:
    source = portraits_of(args, recipe.variants)
    names = tuple(args.variants.split(",")) if args.variants else trainable(recipe.stream)
    start = weights_in(args.start_from or args.assets / "knot-tiny.safetensors")
    with _team(args) as team:
        train_variants(recipe, names, source, args.folder, start, team)


def _knot_lora(args: argparse.Namespace, recipe: Recipe) -> None:
    if args.start_from is None:
        raise SettingsError(f"{KNOT_LORA} got no weights to begin with; name a file with --start-from")
    source = portraits_of(args, recipe.knot_lora)
    with _team(args) as team:
        train_stage(build_knot_lora(recipe, team, args.start_from), source, outputs_of(args, recipe, team))


def _from_teacher_to_student(args: argparse.Namespace, recipe: Recipe) -> None:
    with _team(args) as team:
        if team.is_first:
            sys.stderr.write(memory_table(recipe, (team.size,), (args.stage,)) + "\n")
        examples = open_examples(clips_folder(args), recipe)
        starts = starts_of(args, team)
        stage = build_stage(args.stage, recipe, team, starts, with_text=examples.text_BTD.shape[1] > 1)
        train_stage(stage, examples, outputs_of(args, recipe, team))


def _prepare(args: argparse.Namespace, recipe: Recipe) -> None:
    if args.videos is None:
        raise SettingsError("prepare got no folder of videos; name one: prepare FOLDER")
    codec = codec_file(args, recipe)
    if codec is None:
        raise SettingsError(f"the recipe {recipe.name} brings no codec; name a Wan VAE with --codec")
    found = prepare_videos(args.videos, load_codec(codec).to(args.device), recipe, args.clips or args.folder / "videos")
    counts = f"{sum(found.clips.values())} clips of {len(found.done)} videos in {found.shards} shards"
    bad = "".join(f"\n  {name}: {why}" for name, why in found.bad.items())
    print(counts + (f"; {len(found.bad)} videos were skipped:{bad}" if bad else ""))  # noqa: T201


def _memory(_: argparse.Namespace, recipe: Recipe) -> None:
    print(memory_table(recipe))  # noqa: T201


def _export(args: argparse.Namespace, recipe: Recipe) -> None:
    export(args.folder, args.assets, recipe.family)


def _samples(args: argparse.Namespace, _: Recipe) -> None:
    write_samples(args.assets)


def _calibrate(args: argparse.Namespace, recipe: Recipe) -> None:
    people = calibrate.drawn_people()
    if recipe.name == KNOT_FACE.name:
        people = calibrate.rendered_people(args.bank or args.folder / "bank", args.held_out or args.folder / "eval")
    calibrate.write(people, args.assets, args.evidence, args.pictures)


_COMMANDS = {
    "codec": _codec,
    "decoder": _decoder,
    FACE_CODEC: _face_codec,
    "face-export": _face_export,
    "face-points": _face_points,
    "face-code": _face_code,
    "face-clips": _face_clips,
    "spoken-units": _spoken_units,
    "clips": _clips,
    "stills": _stills,
    "student": _student,
    "variants": _variants,
    KNOT_LORA: _knot_lora,
    **dict.fromkeys(STAGES, _from_teacher_to_student),
    "prepare": _prepare,
    "memory": _memory,
    "export": _export,
    "samples": _samples,
    "calibrate": _calibrate,
}


@contextmanager
def _team(args: argparse.Namespace) -> Iterator[Team]:
    """The processes that `torchrun` started, or this one alone."""
    team = join_team(args.device)
    try:
        yield team
    finally:
        leave_team(team)
