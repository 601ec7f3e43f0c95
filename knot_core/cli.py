"""The command line: `python -m knot_core animate | inspect | evaluate | bench`.

Whatever the user gets wrong ends in one sentence on the error stream and exit code 1; standard output is JSON.
"""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from .animate import INTERRUPTED, animate, bench
from .config import StreamSettings
from .errors import KnotError, SettingsError
from .media import FITS
from .model import Model, inspect_checkpoint, load_model

SETTINGS_HELP = {
    "num_chunk_frames": "latent frames committed together",
    "num_knot_frames": "latent frames that neighbouring chunks share; 0 turns the knot off",
    "num_window_frames": "committed latent frames that a chunk may look back on",
    "run_ahead_stride": "latent frames by which the anchor jumps ahead; 0 keeps it at the beginning",
    "run_ahead_start": "latent frame at which the anchor stands first",
    "steps": "denoising steps",
    "shift": "of the noise levels towards high noise",
    "fusion": "weight of the knot against the new drawing of its frames, 0 to 1",
    "use_anchor": "let every chunk see the reference",
    "start_from_reference": "begin the video at the reference",
}
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if arguments[:1] == ["evaluate"]:  # has its own options
        from .train.evaluate import main as evaluate

        return _guarded(lambda: evaluate(arguments[1:]))
    options = _parser().parse_args(arguments)
    return _guarded(partial(options.run, options))


def _guarded(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except KnotError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m knot_core", description="Streaming portrait animation without end."
    )
    commands = parser.add_subparsers(required=True, metavar="animate | inspect | evaluate | bench")
    _add_animate(commands.add_parser("animate", help="make a video of a portrait"))
    _add_bench(commands.add_parser("bench", help="measure where the time goes"))
    looked_at = commands.add_parser("inspect", help="say what a weights file is, as JSON, without loading it")
    looked_at.add_argument("checkpoint", help="a weights file, or knot-tiny")
    looked_at.set_defaults(run=_inspect)
    commands.add_parser("evaluate", help="measure the built-in model's quality against the truth", add_help=False)
    return parser


def _add_animate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reference", type=Path, metavar="PICTURE", help="the portrait")
    parser.add_argument("--audio", type=Path, metavar="SOUND", help="speech that moves the mouth, and is heard")
    parser.add_argument("--controls", type=Path, metavar="JSON", help="expression controls over time")
    parser.add_argument("--idle", action="store_true", help="a listener; beside --audio this is what head and eyes do")
    parser.add_argument("--out", type=Path, required=True, metavar="MP4", help="the video to write")
    parser.add_argument("--seconds", type=float, help="length of what is made now (default: of the sound or controls)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", choices=FITS, default="crop", help="how the picture comes to the video's shape")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also write a contact sheet, a picture per half second"
    )
    parser.add_argument("--stats", type=Path, metavar="FILE", help="also write the figures that are printed")
    parser.add_argument("--save-state", type=Path, metavar="FILE", help="afterwards save the stream, to go on later")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="go on with a saved stream; its picture and settings"
    )
    _add_model(parser)
    _add_settings(parser)
    parser.set_defaults(run=lambda options: animate(options, partial(_load, options)))


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunks", type=int, default=20, help="how many to make (default: 20)")
    parser.add_argument("--out", type=Path, metavar="MP4", help="keep the video here (default: thrown away)")
    _add_model(parser)
    _add_settings(parser)
    parser.set_defaults(run=lambda options: bench(options, partial(_load, options)))


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="knot-tiny", help="knot-tiny, or a weights file")
    parser.add_argument("--codec", type=Path, help="weights of a TAEHV autoencoder, for models without their own")
    parser.add_argument("--size", type=_size, metavar="N | WxH", help="pixels of the video (default: the model's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="auto: bfloat16 where the device has it")
    parser.add_argument("--threads", type=int, help=f"processor threads (default: {torch.get_num_threads()})")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings", "default: what the model was trained for")
    for setting in dataclasses.fields(StreamSettings):
        option, text = "--" + setting.name.replace("_", "-"), SETTINGS_HELP[setting.name]
        if setting.type is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            group.add_argument(option, type=setting.type, metavar="N", help=text)


def _size(text: str) -> tuple[int, int]:
    """ "128" or "128x192" (width x height) -> (height, width)"""
    try:
        width, _, height = text.lower().partition("x")
        return int(height or width), int(width)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"size is {text!r}; give pixels, such as 128 or 128x192") from problem


def _load(options: argparse.Namespace) -> Model:
    if options.threads is not None:
        if options.threads < 1:
            raise SettingsError(f"threads is {options.threads}; it must be at least 1")
        torch.set_num_threads(options.threads)
    return load_model(options.model, device=options.device, dtype=DTYPES[options.dtype], codec=options.codec)


def _inspect(options: argparse.Namespace) -> int:
    found = inspect_checkpoint(options.checkpoint)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return int(found["problem"] is not None)
