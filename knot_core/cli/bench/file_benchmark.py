"""The command `bench`: a portrait that idles, from its picture into a file."""

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ...errors import SettingsError
from ...geometry import first_pixel_frame
from ...media import fit_image, open_image
from ...model import Model
from ...model_loading import ASSETS
from ...run import Run, StreamLog, StreamStats
from ...stream import open_stream
from ...text import NUM_TEXT_TOKENS
from ...threads import threads_inside
from ..animate import settings_of, video_size, write_video
from ..interrupt import INTERRUPTED, Interrupt
from ..options import given_settings
from ..outputs import check_written
from .engine_command import asks_for_engine, bench_engine
from .random_models import some_driving


def bench(options: Namespace, load: Callable[[], Model]) -> int:
    """Stream a sample portrait that idles, and say where the time goes; or measure the engine alone."""
    _check(options)
    if asks_for_engine(options):
        return bench_engine(options, load, given_settings(options))
    check_written(options)
    model = load()
    with Interrupt() as interrupt, tempfile.TemporaryDirectory() as folder:
        path = options.out or Path(folder) / "bench.mp4"
        if options.busy:
            figures = _beside_busy(options, model, path, interrupt)
        else:
            stats = _streamed(options, model, path, interrupt, options.chunks)
            sys.stderr.write(stats.table() + "\n")
            stages = {name: round(seconds, 4) for name, seconds in stats.stages.items()}
            figures = stats.summary() | {"seconds": round(stats.seconds, 4), "stages": stages}
    sys.stdout.write(json.dumps(figures) + "\n")
    return INTERRUPTED if interrupt.asked else 0


def _check(options: Namespace) -> None:
    for name, least in (("chunks", 1), ("busy", 0), ("pairs", 1)):
        if getattr(options, name) < least:
            raise SettingsError(f"{name} is {getattr(options, name)}; it must be at least {least}")
    if options.busy and asks_for_engine(options):
        raise SettingsError("--busy is for whole runs, from a picture into a file; leave it out, or --engine and what "
                            "goes with it")  # fmt: skip


def _beside_busy(options: Namespace, model: Model, path: Path, interrupt: Interrupt) -> dict[str, Any]:
    from .busy_processes import figures_of, line, paired  # the registry's archive leaves it out: it begins processes

    pairs = []
    _streamed(options, model, path, interrupt, 1)  # what a process does once belongs to neither
    for pair in paired(lambda: _streamed(options, model, path, interrupt, options.chunks), options.busy, options.pairs):
        if interrupt.asked:
            break
        pairs.append(pair)
        sys.stderr.write(line(pair) + "\n")
    return figures_of(pairs, options.busy)


def _streamed(options: Namespace, model: Model, path: Path, interrupt: Interrupt, num_chunks: int) -> StreamStats:
    """Stream a picture into a file."""
    log = StreamLog(fps=model.fps, device=model.device, dtype=model.dtype)
    settings, size = settings_of(options, model), video_size(model, options)
    pictures = sorted((ASSETS / "portraits").glob("*.png"))
    picture = open_image(pictures[0]) if pictures else torch.full((128, 128, 3), 0.5)
    nothing_said = torch.zeros(1, NUM_TEXT_TOKENS, model.config.text_dim) if model.preset.needs_text else None
    since = perf_counter()
    threads = model.threads_for(settings, model.latent_size(*size))
    with threads_inside(threads):
        anchor = model.encode_anchor(fit_image(picture, *size), size=size, text=nothing_said)
    log.book("anchor", since)
    driving = some_driving(model, first_pixel_frame(num_chunks * settings.num_chunk_frames))
    stream = open_stream(model, anchor, settings, driving, should_stop=lambda: interrupt.asked)
    stream.threads = threads
    write_video(Run(stream, stream.num_pixel_frames, log), path, None, options.format)
    return log.freeze()
