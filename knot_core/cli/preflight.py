"""Checks before the first step: inputs that the model cannot use, and streams that do not fit into memory."""

import argparse
import logging

from ..config import takes_controls
from ..errors import SettingsError
from ..free_memory import free_memory, total_memory
from ..model_loading import native_dtype, open_model_file, pick_device
from ..wan.checkpoint import Checkpoint
from ..wan.family_inputs import check_inputs
from ..wan.memory import check_memory, memory_needed
from ..wan.preset import with_settings
from .options import DTYPES, given_settings

logger = logging.getLogger(__name__)

_GIB = 2**30


def model_header(options: argparse.Namespace) -> Checkpoint:
    """Read the header of the model file that the options name."""
    return open_model_file(
        options.model, header_only=True, family=options.family, overlay=options.overlay, weights=options.weights
    )


def require_inputs(options: argparse.Namespace) -> None:
    """Refuse what the model cannot use, or do without; a stream that goes on has its text in its state."""
    header = model_header(options)
    check_inputs(
        header.preset,
        header.config,
        has_text=options.text is not None
        or options.prompt is not None
        or (options.resume is not None and header.preset.needs_text),
        has_speech=options.audio is not None,
        has_controls=options.controls is not None,
    )
    hears_alone = header.config.adapter is not None and not takes_controls(header.config.adapter)
    if hears_alone and options.audio is None:
        raise SettingsError(f"got no speech, but {header.preset.title} is driven by speech; give --audio")


def require_room(options: argparse.Namespace) -> None:
    """Refuse a stream that a device's memory cannot hold; on a processor, where it would be slow, say so."""
    header, device = model_header(options), pick_device(options.device)
    dtype = DTYPES[options.dtype] or native_dtype(device)
    settings = with_settings(header.preset.settings, **given_settings(options))
    size = options.size or (header.preset.height, header.preset.width)
    need = memory_needed(
        header.config, settings, size, dtype, has_text=header.preset.needs_text, spatial=header.preset.spatial
    )
    free, total = free_memory(device), total_memory(device)
    if total is not None and need.least > total:
        raise SettingsError(f"this stream needs {need}, and {device} has {total / _GIB:.2f} GiB in all; take a smaller "
                            "size or fewer num_window_frames")  # fmt: skip
    if free is None:
        return
    if device.type != "cpu":
        check_memory(need, free, str(device))
    if need.total > free:
        logger.warning("this stream needs %s, and %s has %.2f GiB free", need, device, free / _GIB)
