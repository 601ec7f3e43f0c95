"""The commands `teacher`, `causal`, `distill` and `prepare`: from videos to a student that streams."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from knot_core.codec import load_codec
from knot_core.errors import SettingsError
from knot_core.model import ASSETS
from knot_core.wan.checkpoint import open_checkpoint

from ..data.examples import open_examples
from ..data.videos import prepare_videos
from ..recipes import RECIPES, Recipe, changed, find_recipe
from .loop import Outputs, train_stage
from .memory_table import memory_table
from .parallel import Team, join_team, leave_team
from .sheets import codec_pictures
from .stages import STAGES, build_stage

COMMANDS = (*STAGES, "prepare", "memory")
_CODEC = ASSETS / "knot-tiny-codec.safetensors"
# The stage before, whose result a role begins with
_BEFORE = {"teacher": {}, "causal": {"student": "teacher", "teacher": "teacher"},
           "distill": {"student": "causal", "teacher": "teacher", "critic": "teacher"}}  # fmt: skip


def run(argv: list[str]) -> None:
    """One of ``COMMANDS``."""
    args = _parser().parse_args(argv)
    recipe = changed(find_recipe(args.recipe), args.set)
    if args.command == "memory":
        print(memory_table(recipe))  # noqa: T201
    elif args.command == "prepare":
        _prepare(args, recipe)
    else:
        _train(args, recipe)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab train", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("videos", nargs="?", type=Path, help="prepare: a folder of videos with sound")
    parser.add_argument("--recipe", default="knot-tiny", choices=RECIPES)
    parser.add_argument("--folder", type=Path, default=Path("out/train"), help="checkpoints, logs, samples, clips")
    parser.add_argument("--clips", type=Path, help="the clips' folder; FOLDER/videos, or else FOLDER/clips")
    parser.add_argument("--codec", type=Path, help="of the clips: a Wan VAE or a tiny one; knot-tiny has its own")
    parser.add_argument("--start-from", type=Path, help="weights that the stage's network begins with")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="such as distill.steps=100")
    return parser


def _prepare(args: argparse.Namespace, recipe: Recipe) -> None:
    if args.videos is None:
        raise SettingsError("prepare got no folder of videos; name one: prepare FOLDER")
    codec = _codec_file(args, recipe)
    if codec is None:
        raise SettingsError(f"the recipe {recipe.name} brings no codec; name a Wan VAE with --codec")
    found = prepare_videos(args.videos, load_codec(codec).to(args.device), recipe, args.clips or args.folder / "videos")
    counts = f"{sum(found.clips.values())} clips of {len(found.done)} videos in {found.shards} shards"
    bad = "".join(f"\n  {name}: {why}" for name, why in found.bad.items())
    print(counts + (f"; {len(found.bad)} videos were skipped:{bad}" if bad else ""))  # noqa: T201


def _train(args: argparse.Namespace, recipe: Recipe) -> None:
    team = join_team(args.device)
    try:
        if team.is_first:
            sys.stderr.write(memory_table(recipe, (team.size,), (args.command,)) + "\n")
        examples = open_examples(_clips(args), recipe)
        starts = _starts(args, team)
        with_text = examples.text_BTD.shape[1] > 1
        stage = build_stage(args.command, recipe, team, starts, with_text=with_text)
        codec = _codec_file(args, recipe)
        pictures = codec_pictures(load_codec(codec)) if codec is not None and team.is_first else None
        train_stage(stage, examples, Outputs(folder=args.folder, pictures=pictures))
    finally:
        leave_team(team)


def _clips(args: argparse.Namespace) -> Path:
    if args.clips is not None:
        return args.clips
    videos = args.folder / "videos"
    return videos if videos.is_dir() else args.folder / "clips"


def _codec_file(args: argparse.Namespace, recipe: Recipe) -> Path | None:
    if args.codec is not None:
        return args.codec
    return _CODEC if recipe.name == "knot-tiny" else None


def _starts(args: argparse.Namespace, team: Team) -> Mapping[str, Mapping[str, Tensor]]:
    """Role -> weights: of the stages before; `--start-from` for the role that this stage trains."""
    files = {role: args.folder / f"{stage}.safetensors" for role, stage in _BEFORE[args.command].items()}
    if args.start_from is not None:
        files["teacher" if args.command == "teacher" else "student"] = args.start_from
    for role, path in files.items():
        if not path.exists():
            raise SettingsError(f"the {role} begins with {path}, which is not there; run that stage first")
    team.wait()
    return {role: open_checkpoint(path).tensors for role, path in files.items()}
