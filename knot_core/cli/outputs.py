"""Output files of commands: their formats, and that they never overwrite inputs. Checked before anything is opened."""

from argparse import ArgumentParser, Namespace

from ..files import check_outputs, check_places
from ..media import FORMAT_NAMES, PICTURES, format_of, picture_format
from ..model_loading import model_files

_INPUTS = ("reference", "audio", "controls", "expression", "pose_video", "face_model", "text", "text_encoder",
           "speech_encoder", "resume", "overlay", "lora", "codec")  # fmt: skip
_OUTPUTS = ("out", "sheet", "stats", "save_state", "preview")
_PICTURES = {"sheet": "the contact sheet", "preview": "the preview"}


def add_format(parser: ArgumentParser) -> None:
    """Add the option that says how the video is written, where its name should not decide."""
    parser.add_argument("--format", choices=FORMAT_NAMES, help="format of the video (default: by the suffix of --out)")


def check_written(options: Namespace) -> None:
    """Set the video's format from its name, if it was not given; refuse what cannot be written, or would harm."""
    if options.out is not None and options.format is None:
        options.format = format_of(options.out)
    for name, what in _PICTURES.items():
        if getattr(options, name, None) is not None:
            picture_format(getattr(options, name), what)
    outputs = {_option(name): getattr(options, name, None) for name in _OUTPUTS}
    folders = ("--out",) if options.format == PICTURES else ()
    check_places(outputs, folders=folders)
    check_outputs(
        outputs,
        {_option(name): getattr(options, name, None) for name in _INPUTS} | model_files(options.model),
        folders=folders,
        replaces={"--save-state": "--resume"},
    )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
