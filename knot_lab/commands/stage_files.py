"""The files that a stage of the training reads and writes: the folder's layout, and what the command line names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from knot_core.codec import load_codec
from knot_core.codec.landmark_code import LandmarkCode
from knot_core.codec.taehv import TAEHV
from knot_core.codec.warping import WarpingCodec
from knot_core.errors import SettingsError
from knot_core.model_loading import ASSETS
from knot_core.wan.checkpoint import open_checkpoint

from ..data.clip_shards import load
from ..data.portraits import Portraits
from ..parallel import Team
from ..recipes import KNOT_TINY, Recipe
from ..stage_recipes import RegressionRecipe
from ..training.export import codec_weights
from ..training.face_codec import FILE as FACE_FILE
from ..training.face_codec import NAME as FACE_CODEC
from ..training.face_codec import trained_face_codec
from ..training.loop import Outputs
from ..training.sheets import codec_pictures
from ..training.training_state import load_training

_CODEC = ASSETS / "knot-tiny-codec.safetensors"
# The stage before, whose result a role begins with
_BEFORE = {"teacher": {}, "causal": {"student": "teacher", "teacher": "teacher"},
            "distill": {"student": "causal", "teacher": "teacher", "critic": "teacher"}}  # fmt: skip


def portraits_of(args: argparse.Namespace, own: RegressionRecipe) -> Portraits:
    """The clips, and the pictures of more people in the folder `stills` beside theirs, if there are any.

    Raises:
        SettingsError: there are no clips.
    """
    folder = args.clips or args.folder / "clips"
    clips, stills = (sorted(one.glob("train-*.safetensors")) for one in (folder, folder.with_name("stills")))
    if not clips:
        raise SettingsError(f"there are no clips in {folder}; make them with the stage 'clips' first")
    people = load(clips)
    return Portraits(own=own, clips=people, stills=load(stills) if stills else people)


def outputs_of(args: argparse.Namespace, recipe: Recipe, team: Team) -> Outputs:
    """Samples are decoded where the codec of the clips is at hand."""
    codec = codec_file(args, recipe)
    shown = codec is not None and team.is_first
    return Outputs(folder=args.folder, pictures=codec_pictures(load_codec(codec)) if shown else None)


def weights_in(path: Path | None) -> Mapping[str, Tensor] | None:
    """The tensors of a file of weights; None without a file."""
    return None if path is None else open_checkpoint(path).tensors


def clips_folder(args: argparse.Namespace) -> Path:
    """The folder of the clips: the one that was named, else that of videos where there is one, else that of clips."""
    if args.clips is not None:
        return args.clips
    videos = args.folder / "videos"
    return videos if videos.is_dir() else args.folder / "clips"


def codec_file(args: argparse.Namespace, recipe: Recipe) -> Path | None:
    """The codec of the clips; None where none was named and the recipe brings none."""
    if args.codec is not None:
        return args.codec
    return _CODEC if recipe.name == KNOT_TINY.name else None


def starts_of(args: argparse.Namespace, team: Team) -> Mapping[str, Mapping[str, Tensor]]:
    """Role -> weights: of the stages before; `--start-from` for the role that this stage trains.

    Raises:
        SettingsError: the weights of a stage before are not there.
    """
    files = {role: args.folder / f"{stage}.safetensors" for role, stage in _BEFORE[args.stage].items()}
    if args.start_from is not None:
        files["teacher" if args.stage == "teacher" else "student"] = args.start_from
    for role, path in files.items():
        if not path.exists():
            raise SettingsError(f"the {role} begins with {path}, which is not there; run that stage first")
    team.wait()
    return {role: open_checkpoint(path).tensors for role, path in files.items()}


def trained_codec(args: argparse.Namespace) -> TAEHV:
    """This training's codec; without one, the codec that ships, whose latents the network that ships knows."""
    state = load_training(args.folder / "codec.ckpt")
    if state is not None:
        return TAEHV.from_state_dict(codec_weights(state))
    shipped = args.assets / "knot-tiny-codec.safetensors"
    if not shipped.exists():
        raise SystemExit(f"there is no trained codec in {args.folder} and none in {args.assets}; run the stage 'codec'")
    sys.stderr.write(f"no codec was trained in {args.folder}: {shipped.name} is taken\n")
    return TAEHV.from_state_dict({name: tensor.float() for name, tensor in open_checkpoint(shipped).tensors.items()})


def face_codec_of(args: argparse.Namespace) -> WarpingCodec:
    """This training's face codec; without one, the codec that ships, whose latents the network that ships knows."""
    if (args.folder / f"{FACE_CODEC}.ckpt").exists():
        return trained_face_codec(args.folder)
    shipped = args.assets / FACE_FILE
    sys.stderr.write(f"no face codec was trained in {args.folder}: {shipped.name} is taken\n")
    return load_codec(shipped)


def landmark_code_of(args: argparse.Namespace) -> LandmarkCode:
    """The code of landmarks' motion in that codec's latents.

    Raises:
        SettingsError: it has none.
    """
    points = face_codec_of(args).decoder.points
    if points is None or points.code is None:
        raise SettingsError(f"the face codec in {args.folder} has no code of landmarks; run the stage face-code first")
    return points.code
