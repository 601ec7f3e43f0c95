"""Processor time of a live session's chunk, stage by stage and by its latent frames: what a shorter one does not save.

Processor time of one thread, so that it hardly depends on what else the machine does.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace

import numpy as np

from ..engine import Anchor, Model, Stream, load_model, open_stream
from ..events import MediaChunk
from ..limits import Limits
from ..live_driving import LiveDriving
from ..media_encoder import ChunkEncoder
from ..messages import Create
from ..studio import Studio

STAGES = ("driving", "denoise", "decode", "commit", "encode")
_WARM, _MEASURED = 3, 12  # chunks
_COUNTS = (1, 2, 3)  # latent frames
_STEPS = 1  # denoising steps: what a server chooses on two cores


def model_and_anchor(name: str) -> tuple[Model, Anchor]:
    """A model by its name, and the reference that sessions of it begin with."""
    model = load_model(name)
    with closing(Studio(model, Limits())) as studio:
        return model, studio.anchor(Create().reference)


def bench_costs(say: Callable[[str], None], name: str) -> dict[str, dict[str, float]]:
    """Milliseconds by stage and in all, of that model's chunks of 1, 2 and 3 latent frames."""
    model, anchor = model_and_anchor(name)
    found = {}
    for count in _COUNTS:
        name = f"chunk of {count}, processor ms"
        found[name] = milliseconds(model, anchor, count)
        say(f"{name}: {found[name]}")
    return found


def milliseconds(
    model: Model, anchor: Anchor, num_latents: int, *, num_chunks: int = _MEASURED,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:  # fmt: skip
    """The median of so many chunks, by stage; `all` is their sum. `clock`: seconds of the thread that draws."""
    stamps: list[float] = []
    settings = replace(model.settings, num_chunk_frames=num_latents, steps=_STEPS)
    driving = LiveDriving(model)
    stream = open_stream(model, anchor, settings, driving, progress=lambda *_: stamps.append(clock()))
    stream.threads = 1
    height, width = anchor.video_size
    encoder = ChunkEncoder(width, height, model.fps)
    rows = [_chunk(stream, driving, encoder, stamps, clock) for _ in range(_WARM + num_chunks)][_WARM:]
    usual = {stage: 1000 * float(np.median([row[stage] for row in rows])) for stage in STAGES}
    return {stage: round(value, 2) for stage, value in usual.items()} | {"all": round(sum(usual.values()), 2)}


def _chunk(
    stream: Stream, driving: LiveDriving, encoder: ChunkEncoder, stamps: list[float], clock: Callable[[], float]
) -> Mapping[str, float]:
    """Draw and encode the next chunk; seconds by stage. `stamps` are when its stages began."""
    stamps.clear()
    began = clock()
    driving.begin_chunk(stream.plan)
    chunk = next(stream)
    committed = clock()
    sound = driving.end_chunk()
    ended = clock()
    first, frames = chunk.first_pixel_frame, chunk.pixel_frames.numpy()
    encoder.encode(MediaChunk(epoch=0, chunk=chunk.index, first_frame=first, frames=frames, sound=sound,
                              applied=(), seconds={}, buffer=0.0))  # fmt: skip
    encoded = clock()
    first_step, drawn, decoded = stamps[0], *stamps[-2:]
    return {
        "driving": first_step - began + ended - committed, "denoise": drawn - first_step, "decode": decoded - drawn,
        "commit": committed - decoded, "encode": encoded - ended,
    }  # fmt: skip
