"""The command line: `python -m knot_core animate | inspect | evaluate | bench`.

Whatever the user gets wrong ends in one sentence on the error stream and exit code 1; standard output is JSON.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from .animate import animate
from .bench.command import ATTENTION
from .bench.models import PUBLISHED
from .bench.streamed import bench
from .directing import add_directing
from .errors import KnotError, SettingsError, short
from .inspection import inspect_checkpoint
from .interrupt import INTERRUPTED
from .media import FITS
from .model import Model, load_model
from .options import DTYPES, add_file, add_model, add_settings, given_settings, size
from .outputs import add_format
from .preflight import require_inputs, require_room
from .room import is_lack_of_memory

_MOST_THREADS = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if arguments[:1] == ["evaluate"]:  # has moved to the lab, and has its own options
        from .train import start_lab

        return start_lab(arguments, instead_of="python -m knot_core evaluate")
    options = _parser().parse_args(arguments)
    return guarded(partial(options.run, options))


def guarded(command: Callable[[], int | None]) -> int:
    """The command's exit code; what the user got wrong is said in one sentence, and the exit code is then 1."""
    try:
        return command() or 0
    except KnotError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    except (MemoryError, RuntimeError) as problem:
        if not is_lack_of_memory(problem):
            raise
        said = short(str(problem).splitlines()[0] if str(problem) else "MemoryError", str)
        sys.stderr.write(f"error: there is not as much memory as this needs ({said}); take a smaller --size, fewer "
                         "--num-window-frames, or a smaller model\n")  # fmt: skip
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
    _add_inspect(commands.add_parser("inspect", help="say what a weights file is, as JSON, without loading it"))
    commands.add_parser("evaluate", help="measure the built-in model's quality against the truth", add_help=False)
    return parser


def _add_animate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reference", type=Path, metavar="PICTURE", help="the portrait")
    parser.add_argument("--audio", type=Path, metavar="SOUND", help="speech that moves the mouth, and is heard")
    parser.add_argument("--controls", type=Path, metavar="JSON", help="expression controls over time")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="the prompt as UMT5 tokens: a safetensors file of one tensor"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="the prompt in words; needs --text-encoder")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what guidance leads away from; needs --text-encoder")
    parser.add_argument("--text-encoder", type=Path, metavar="FOLDER", help="UMT5 with its tokenizer")
    parser.add_argument("--speech-encoder", type=Path, metavar="PATH", help="wav2vec2, for models that hear through it")
    parser.add_argument("--idle", action="store_true", help="a listener; beside --audio this is what head and eyes do")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the video to write, such as x.mp4")
    add_format(parser)
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
    add_directing(parser)
    add_model(parser)
    add_settings(parser)
    parser.set_defaults(run=lambda options: animate(options, partial(_load_checked, options)))


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a weights file or folder, or knot-tiny")
    add_file(parser)
    group = parser.add_argument_group("memory", "it is computed for these, and for the settings below")
    group.add_argument("--size", type=size, metavar="N | WxH", help="pixels of the video (default: the model's)")
    group.add_argument("--dtype", choices=[name for name in DTYPES if name != "auto"], default="bfloat16")
    add_settings(parser)
    parser.set_defaults(run=_inspect)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunks", type=int, default=20, help="how many to make (default: 20)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the video here (default: thrown away)")
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="measure beside N busy processes too, pair by pair"
    )
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="how many (default: %(default)s)")
    add_format(parser)
    _add_engine(parser)
    add_model(parser, also=tuple(PUBLISHED))
    add_settings(parser)
    parser.set_defaults(run=lambda options: bench(options, partial(_load, options)))


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the engine alone", "without reading and writing files")
    group.add_argument("--engine", action="store_true", help="measure it (always so with random weights)")
    group.add_argument("--layers", type=int, metavar="N", help="build a network of random weights less deep")
    group.add_argument(
        "--plain", type=int, default=3, metavar="N", help="chunks of a plain loop beside it (default: 3)"
    )
    group.add_argument("--attention", choices=ATTENTION, default="auto", help="the kernel (default: torch chooses)")
    group.add_argument("--compile", action="store_true", help="compile the network's forward with torch.compile")


def _load_checked(options: argparse.Namespace) -> Model:
    require_inputs(options)
    return _load(options)


def _load(options: argparse.Namespace) -> Model:
    if options.threads is not None:
        if not 1 <= options.threads <= _MOST_THREADS:
            raise SettingsError(f"threads is {short(options.threads)}; it must be from 1 to {_MOST_THREADS}")
        torch.set_num_threads(options.threads)
    if getattr(options, "resume", None) is None:  # a saved stream brings its own settings
        require_room(options)
    model = load_model(
        options.model,
        device=options.device,
        dtype=DTYPES[options.dtype],
        codec=options.codec,
        codec_kind=options.codec_kind,
        family=options.family,
        overlay=options.overlay,
        lora=options.lora,
        lora_strength=options.lora_strength,
        weights=options.weights,
    )
    return replace(model, threads=options.threads)


def _inspect(options: argparse.Namespace) -> int:
    found = inspect_checkpoint(
        options.checkpoint,
        family=options.family,
        overlay=options.overlay,
        weights=options.weights,
        size=options.size,
        dtype=DTYPES[options.dtype],
        **given_settings(options),
    )
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return int(found["problem"] is not None)
