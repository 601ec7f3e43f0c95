"""The model that a command's options name."""

from argparse import Namespace
from dataclasses import replace

import torch

from ..errors import SettingsError, short
from ..model import Model
from ..model_loading import load_model
from .options import DTYPES
from .preflight import require_inputs, require_room

_MOST_THREADS = 1024


def load_checked(options: Namespace) -> Model:
    """`load`, after a check that the model can use what it is given."""
    require_inputs(options)
    return load(options)


def load(options: Namespace) -> Model:
    """The model that the options name, unless its stream would not fit into memory."""
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
