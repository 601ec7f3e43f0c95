"""The command `bench`, where it measures the engine alone."""

import contextlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import SettingsError
from ...model import Model
from ...model_loading import native_dtype, pick_device
from ...wan.preset import with_settings
from .compiled_forward import compiled_forward
from .engine_benchmark import Task, measure
from .random_models import PUBLISHED, network_config, random_model, random_text, some_driving
from .stage_table import table

# "auto" leaves the choice to torch
ATTENTION = {
    "auto": (),
    "flash": (SDPBackend.FLASH_ATTENTION,),
    "cudnn": (SDPBackend.CUDNN_ATTENTION,),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION,),
    "math": (SDPBackend.MATH,),
}


def asks_for_engine(options: Namespace) -> bool:
    """Whether the engine alone is to be measured: asked for, or implied by an option that only it has."""
    only_there = options.layers is not None or options.attention != "auto" or options.compile or options.streams
    return options.engine or only_there or options.model in PUBLISHED


def bench_engine(options: Namespace, load: Callable[[], Model], given: dict[str, Any]) -> int:
    """Measure, write a table to the error stream and JSON to standard output; `given` are the user's settings."""
    if options.chunks < 1:
        raise SettingsError(f"chunks is {options.chunks}; it must be at least 1")
    if options.plain < 0:
        raise SettingsError(f"plain is {options.plain}; it must be 0 or more")
    task = _task(options, load, given)
    with contextlib.ExitStack() as around:
        if ATTENTION[options.attention]:
            around.enter_context(sdpa_kernel(list(ATTENTION[options.attention])))
        if options.compile:
            around.enter_context(compiled_forward())
        if options.streams:
            return _bench_streams(options, task)
        figures = measure(task)
    figures |= {"attention": options.attention, "compiled": options.compile}
    sys.stderr.write(table(figures) + "\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _bench_streams(options: Namespace, task: Task) -> int:
    from .streams_benchmark import counts_of, measure_streams, table_of  # it begins processes: the archive has none

    figures = measure_streams(task, counts_of(options.streams), options.pairs)
    sys.stderr.write(table_of(figures) + "\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _task(options: Namespace, load: Callable[[], Model], given: dict[str, Any]) -> Task:
    published = options.model in PUBLISHED
    if options.layers is not None and not published:
        raise SettingsError(f"layers is {options.layers}, but {options.model} has a fixed depth; leave it out, or "
                            f"measure one of {', '.join(PUBLISHED)}")  # fmt: skip
    model = _random(options) if published else load()
    size = options.size or (model.preset.height, model.preset.width)
    model.latent_size(*size)  # refuses what does not divide into tokens
    return Task(
        model=model,
        settings=with_settings(model.settings, **given),
        size=size,
        driving=some_driving(model),
        text=random_text(model),
        num_chunks=options.chunks,
        num_pairs=options.plain,
        full_depth=network_config(options.model).num_layers if published else None,
    )


def _random(options: Namespace) -> Model:
    device = pick_device(options.device)
    dtype = getattr(torch, options.dtype) if options.dtype != "auto" else native_dtype(device)
    return random_model(options.model, device, dtype, options.layers)
