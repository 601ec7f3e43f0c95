"""The commands and their options."""

from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from ..media import FITS
from ..media.reference_crop import ALIGNS
from ..model_loading import BUILT_IN
from .animate import animate
from .bench.engine_command import ATTENTION
from .bench.file_benchmark import bench
from .bench.random_models import PUBLISHED
from .driving_options import add_directing
from .inspect import inspect
from .loading import load, load_checked
from .options import DTYPES, add_file, add_model, add_settings, size
from .outputs import add_format


def command_parser() -> ArgumentParser:
    """The parser of all commands; the parsed options have the command as `run`."""
    parser = ArgumentParser(prog="python -m knot_core", description="Streaming portrait animation.")
    commands = parser.add_subparsers(required=True, metavar="animate | inspect | evaluate | bench")
    _add_animate(commands.add_parser("animate", help="make a video of a portrait"))
    _add_bench(commands.add_parser("bench", help="measure the time per stage"))
    _add_inspect(commands.add_parser("inspect", help="describe a weights file as JSON, without loading it"))
    commands.add_parser(
        "evaluate", help="measure the built-in model's quality against the ground truth", add_help=False
    )
    return parser


def _add_animate(parser: ArgumentParser) -> None:
    parser.add_argument("--reference", type=Path, metavar="PICTURE", help="the portrait")
    parser.add_argument(
        "--audio", type=Path, metavar="SOUND", help="speech that drives the mouth, and becomes the sound track"
    )
    parser.add_argument("--controls", type=Path, metavar="JSON", help="expression controls over time")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="the prompt as UMT5 tokens: a safetensors file of one tensor"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="the prompt in words; needs --text-encoder")
    parser.add_argument(
        "--negative-prompt", metavar="TEXT", help="the negative prompt of guidance; needs --text-encoder"
    )
    parser.add_argument("--text-encoder", type=Path, metavar="FOLDER", help="UMT5 with its tokenizer")
    parser.add_argument(
        "--speech-encoder", type=Path, metavar="PATH", help="a wav2vec2, for models driven by its features"
    )
    parser.add_argument("--idle", action="store_true", help="idle motion: a listener; with --audio for head and eyes")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the video to write, such as x.mp4")
    add_format(parser)
    parser.add_argument("--seconds", type=float, help="length of this video (default: that of the sound or controls)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", choices=FITS, default="crop", help="how to fit the picture to the output aspect ratio")
    parser.add_argument("--align", choices=ALIGNS, default="auto", help="bring the face to where the model has faces; "
                        "auto: for models whose faces are aligned, or with --points")  # fmt: skip
    parser.add_argument("--points", nargs=3, metavar="X,Y", help="the eyes and the mouth in pixels of the picture, "
                        "where no face is found or not the one that is meant")  # fmt: skip
    parser.add_argument("--detail", type=int, default=1, metavar="N", help="frames N times as large, each way, as "
                        "sharp as the picture: 1 to 4, with models that copy pixels from it (knot-face)")  # fmt: skip
    parser.add_argument("--paste-back", action="store_true", help="write the whole picture, with the animated part in "
                        "its place")  # fmt: skip
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also write a contact sheet, one picture per half second"
    )
    parser.add_argument("--stats", type=Path, metavar="FILE", help="also write the figures that are printed")
    parser.add_argument("--save-state", type=Path, metavar="FILE", help="save the stream, to continue it later")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="continue a saved stream, with its picture and settings"
    )
    add_directing(parser)
    add_model(parser)
    add_settings(parser)
    parser.set_defaults(run=lambda options: animate(options, partial(load_checked, options)))


def _add_inspect(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", help=f"a weights file or folder, or {' or '.join(BUILT_IN)}")
    add_file(parser)
    group = parser.add_argument_group("memory", "computed for these options and for the settings below")
    group.add_argument("--size", type=size, metavar="N | WxH", help="pixels of the video (default: the model's)")
    group.add_argument("--dtype", choices=[name for name in DTYPES if name != "auto"], default="bfloat16")
    add_settings(parser)
    parser.set_defaults(run=inspect)


def _add_bench(parser: ArgumentParser) -> None:
    parser.add_argument("--chunks", type=int, default=20, help="number of chunks (default: 20)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the video here (default: deleted)")
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="also measure beside N busy processes, in paired runs"
    )
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="number of pairs (default: %(default)s)")
    add_format(parser)
    _add_engine(parser)
    add_model(parser, also=tuple(PUBLISHED))
    add_settings(parser)
    parser.set_defaults(run=lambda options: bench(options, partial(load, options)))


def _add_engine(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("the engine alone", "without reading and writing files")
    group.add_argument("--engine", action="store_true", help="measure the engine alone (always with random weights)")
    group.add_argument("--layers", type=int, metavar="N", help="build a network of random weights with N layers")
    group.add_argument(
        "--plain", type=int, default=3, metavar="N", help="chunks of a plain loop to compare with (default: 3)"
    )
    group.add_argument(
        "--attention", choices=ATTENTION, default="auto", help="attention kernel (default: torch chooses)"
    )
    group.add_argument("--compile", action="store_true", help="compile the network's forward with torch.compile")
    group.add_argument(
        "--streams", metavar="N,N", help="chunks a second of so many streams: together, apart, and in processes"
    )
