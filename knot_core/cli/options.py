"""Options that several commands share: which model, and its settings."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from ..codec.codec_files import KINDS
from ..model_loading import BUILT_IN, DEFAULT_MODEL
from ..settings_text import timesteps
from ..stream_settings import CHOICES, StreamSettings
from ..wan.families import PRESETS
from ..wan.reading import SETS

SETTINGS_HELP = {
    "num_chunk_frames": "latent frames committed together",
    "num_knot_frames": "latent frames that neighbouring chunks share; 0 turns the knot off",
    "num_window_frames": "committed latent frames behind a chunk that it can see, sinks not counted",
    "num_sink_frames": "first latent frames of the stream, which every chunk can see",
    "sink_decay": "share of a sink that is kept when a frame leaves the window, 0 to 1; at 1 it never changes",
    "rope_positions": "absolute, or window: sinks are always positioned just before the window",
    "run_ahead_stride": "latent frames by which the anchor moves ahead; 0 keeps it at the beginning",
    "run_ahead_start": "position of the anchor at first, in latent frames",
    "steps": "denoising steps per chunk; replaces timesteps",
    "shift": "shift of the noise levels towards high noise; replaces timesteps, or with sigma_table shifts the table",
    "timesteps": "timesteps of the denoising steps, such as 1000,757,522; with sigma_table the last may be 0",
    "first_timesteps": "the same, for the first chunk only",
    "fusion": "weight of the earlier chunk's knot in the shared frames, 0 to 1",
    "use_anchor": "let every chunk see the reference",
    "start_from_reference": "begin the video with the reference itself",
    "sigma_table": "take noise levels from a table of 1000 rows, as CausVid, StreamDiffusionV2 and Krea do",
    "commit": "how the window is filled: by a clean pass (clean), by the last step (none), by every step (in_place), "
    "or computed again for every chunk (recompute)",
    "sampler": "renoise (for few-step students), euler, or unipc (from diffusers)",
    "text_guidance": "guidance scale of the prompt, 0 to 100; any value but 1 takes a second pass and cache",
    "sound_guidance": "guidance scale of the speech, likewise",
}
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MOST_PIXELS = 2**17  # of a side: more than the largest picture files hold
_SHORT = ("chunk", "knot", "window")  # --window is --num-window-frames


def add_model(parser: argparse.ArgumentParser, also: tuple[str, ...] = ()) -> None:
    """Add the options that name the model, say how it is read, and where it computes."""
    random = f"; or random weights of the size of {', '.join(also)}" if also else ""
    named = f"{', '.join(BUILT_IN)}, or a weights file or folder{random}"
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"{named} (default: %(default)s)")
    add_file(parser)
    parser.add_argument("--lora", type=Path, metavar="FILE", help="a LoRA, merged into the weights")
    parser.add_argument("--lora-strength", type=float, default=1.0, metavar="N", help="default: %(default)s")
    parser.add_argument("--codec", type=Path, help="weights of a video autoencoder, for models without their own")
    parser.add_argument("--codec-kind", choices=KINDS, default="auto", help="default: %(default)s")
    parser.add_argument("--size", type=size, metavar="N | WxH", help="pixels of the video (default: the model's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="auto: bfloat16 where the device supports it")
    parser.add_argument("--threads", type=int, metavar="N", help="threads per operation (default: by the size of the "
                        "network; 1 for small ones, whose stages run in parallel)")  # fmt: skip


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a weights file is to be understood."""
    parser.add_argument(
        "--family",
        metavar="NAME",
        help=f"the model's family, if the file does not tell it; one of {', '.join(PRESETS)}",
    )
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE", help="a file of further tensors, such as InfiniteTalk's audio modules"
    )
    parser.add_argument(
        "--weights", choices=SETS, help="set of weights of a training checkpoint (default: the family's)"
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """One option for every setting."""
    group = parser.add_argument_group("settings", "default: what the model was trained for")
    for setting in dataclasses.fields(StreamSettings):
        names, text = ["--" + setting.name.replace("_", "-")], SETTINGS_HELP[setting.name]
        names += [f"--{short}" for short in _SHORT if setting.name == f"num_{short}_frames"]
        if setting.type is bool:
            group.add_argument(*names, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif setting.type is str:
            group.add_argument(*names, choices=CHOICES[setting.name], help=text)
        else:
            kind = setting.type if setting.type in (int, float) else _timesteps
            group.add_argument(*names, type=kind, metavar="N", help=text)


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the user gave."""
    given = {setting.name: getattr(options, setting.name) for setting in dataclasses.fields(StreamSettings)}
    return {name: value for name, value in given.items() if value is not None}


def size(text: str) -> tuple[int, int]:
    """ "128" or "128x192" (width x height) -> (height, width)"""
    try:
        width, both, height = text.lower().partition("x")
        found = int(height if both else width), int(width)
        if max(found) > _MOST_PIXELS:
            raise argparse.ArgumentTypeError(f"size is {text!r}; a side has at most {_MOST_PIXELS} pixels")
        return found
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"size is {text!r}; give pixels, such as 128 or 128x192") from problem


def _timesteps(text: str) -> tuple[float, ...]:
    try:
        return timesteps(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"timesteps are {text!r}; give numbers, such as 1000,757,522") from problem
