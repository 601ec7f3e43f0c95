"""``python -m knot_lab train``: reproduce the built-in model, stage by stage. Every stage resumes where it stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from knot_core.codec.taehv import TAEHV
from knot_core.errors import KnotError, SettingsError
from knot_core.model import ASSETS
from knot_core.wan.checkpoint import open_checkpoint

from ..data.clips import ClipRecipe, Clips, StillRecipe, load, prepare
from ..recipes import changed
from ..study.variant_training import VariantRecipe, train_variants, trainable
from ..training import pipeline
from ..training.calibrate import NUM_HELD_OUT
from ..training.calibrate import write as write_calibration
from ..training.codec import CodecRecipe, DecoderRecipe, train_decoder
from ..training.codec import train as train_codec
from ..training.export import export, write_samples
from ..training.knot_lora import NAME as KNOT_LORA
from ..training.knot_lora import KnotLoraRecipe, train_knot_lora
from ..training.rollout import StudentRecipe
from ..training.student import train as train_student
from ..training.training_state import load_checkpoint

NUM_SHARDS = 14


def main(argv: list[str] | None = None) -> None:
    """Run one stage, or all of them in order; or one of the stages from teacher to student, for any network.

    A user's mistake is one line, without a traceback.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        if given and given[0] in pipeline.COMMANDS:
            pipeline.run(given)
        else:
            _run(given)
    except KnotError as problem:
        raise SystemExit(f"error: {problem}") from problem


def _run(given: list[str]) -> None:
    stages = {
        "codec": _codec,
        "decoder": _decoder,
        "clips": _clips,
        "stills": _stills,
        "student": _student,
        "export": _export,
        "samples": _samples,
    }
    single = {"variants": _variants, KNOT_LORA: _knot_lora, "calibrate": _calibrate}  # no part of all
    parser = argparse.ArgumentParser(prog="python -m knot_lab train", description=__doc__)
    parser.add_argument("stage", choices=(*stages, *single, "all"))
    parser.add_argument("--folder", type=Path, default=Path("out/train"), help="checkpoints, logs and clips")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where the model goes")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument(
        "--shards", type=int, default=NUM_SHARDS, help="shards of 64 clips, or of 256 people's pictures"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="such as steps=100, of the stage's recipe"
    )
    parser.add_argument(
        "--start-from", type=Path, help="student, variants, knot-lora: begin with the weights of this file"
    )
    parser.add_argument("--pictures", type=Path, help="calibrate: a folder of pictures that cannot be rendered")
    parser.add_argument(
        "--evidence", type=Path, default=Path("out/references.json"), help="calibrate: where the scores go"
    )
    parser.add_argument("--variants", help="variants: names, with commas between; without it all that can be trained")
    args = parser.parse_args(given)
    if args.threads:
        torch.set_num_threads(args.threads)
    for stage in stages if args.stage == "all" else (args.stage,):
        (stages | single)[stage](args)


def _codec(args: argparse.Namespace) -> None:
    train_codec(changed(CodecRecipe(), args.set), args.folder)


def _decoder(args: argparse.Namespace) -> None:
    train_decoder(changed(DecoderRecipe(), args.set), _trained_codec(args), args.folder)


def _clips(args: argparse.Namespace) -> None:
    prepare(_trained_codec(args), changed(ClipRecipe(), args.set), args.shards, args.folder / "clips")


def _stills(args: argparse.Namespace) -> None:
    prepare(_trained_codec(args), changed(StillRecipe(), args.set), args.shards, args.folder / "stills")


def _student(args: argparse.Namespace) -> None:
    recipe, (clips, stills) = changed(StudentRecipe(), args.set), _examples(args)
    train_student(recipe, clips, args.folder, args.start_from, stills)


def _variants(args: argparse.Namespace) -> None:
    recipe, (clips, stills) = changed(VariantRecipe(), args.set), _examples(args)
    names = tuple(args.variants.split(",")) if args.variants else trainable(recipe)
    start_from = args.start_from or args.assets / "knot-tiny.safetensors"
    train_variants(recipe, names, clips, stills, args.folder, start_from)


def _knot_lora(args: argparse.Namespace) -> None:
    if args.start_from is None:
        raise SettingsError(f"{KNOT_LORA} got no weights to begin with; name a file with --start-from")
    recipe, (clips, stills) = changed(KnotLoraRecipe(), args.set), _examples(args)
    train_knot_lora(recipe, clips, stills, args.folder, args.start_from)


def _export(args: argparse.Namespace) -> None:
    export(args.folder, args.assets)


def _calibrate(args: argparse.Namespace) -> None:
    write_calibration(args.assets, args.evidence, args.pictures, NUM_HELD_OUT)


def _samples(args: argparse.Namespace) -> None:
    write_samples(args.assets)


def _examples(args: argparse.Namespace) -> tuple[Clips, Clips | None]:
    """The folder's clips, and its pictures of more people, if there are any."""
    clips, stills = (sorted((args.folder / name).glob("train-*.safetensors")) for name in ("clips", "stills"))
    if not clips:
        raise SettingsError(f"there are no clips in {args.folder / 'clips'}; make them with the stage 'clips' first")
    return load(clips), load(stills) if stills else None


def _trained_codec(args: argparse.Namespace) -> TAEHV:
    """This training's codec; without one, the codec that ships, whose latents the network that ships knows."""
    state = load_checkpoint(args.folder / "codec.ckpt")
    if state is not None:
        return TAEHV.from_state_dict(state["codec"])
    shipped = args.assets / "knot-tiny-codec.safetensors"
    if not shipped.exists():
        raise SystemExit(f"there is no trained codec in {args.folder} and none in {args.assets}; run the stage 'codec'")
    sys.stderr.write(f"no codec was trained in {args.folder}: {shipped.name} is taken\n")
    return TAEHV.from_state_dict({name: tensor.float() for name, tensor in open_checkpoint(shipped).tensors.items()})
