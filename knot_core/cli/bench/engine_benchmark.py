"""The engine alone, chunk by chunk: where the time goes, how much is computed, and what a plain loop would take."""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...codec.codec_flops import decode_flops
from ...codec.taehv import TAEHV
from ...config import StreamSettings
from ...geometry import TEMPORAL, num_tokens
from ...model import Model
from ...stream import Anchor, Stream, StreamDriving, open_stream
from ...wan.network_flops import Tokens, chunk_flops, plain_flops
from .instruments import (
    ChunkClock,
    machine,
    matmul_tflops,
    peak_memory,
    percentiles,
    reset_peak_memory,
    seconds_of,
)
from .plain_loop import PlainLoop

Figures = dict[str, Any]
_TERA = 1e12


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """The stream to measure."""

    model: Model
    settings: StreamSettings
    size: tuple[int, int]  # pixels, height and width
    driving: StreamDriving
    text: Tensor | None
    num_chunks: int = 20
    num_pairs: int = 3  # chunks of the stream and of the plain loop, turn by turn; 0 leaves the plain loop out
    full_depth: int | None = None  # layers of the network that a shallower one stands for

    @property
    def tokens(self) -> Tokens:
        """The number of tokens of the network's inputs."""
        text = 1 if self.text is None else self.text.shape[1]
        return Tokens(frame=num_tokens(*self.model.latent_size(*self.size)), text=text)

    @property
    def num_warming(self) -> int:
        """Chunks until nothing grows any more."""
        kept = self.settings.num_window_frames + self.settings.num_sink_frames
        return 1 + math.ceil(kept / self.settings.num_chunk_frames)

    @property
    def num_chunk_pixels(self) -> int:
        """Pixel frames that a warm chunk commits."""
        return TEMPORAL * self.settings.num_chunk_frames

    def anchor(self) -> Anchor:
        """Encode a grey image as the anchor."""
        picture = torch.full((*self.size, 3), 0.5)
        return self.model.encode_anchor(picture, text=self.text, size=self.size)

    def stream(self, anchor: Anchor, clock: ChunkClock | None = None) -> Stream:
        """A stream at its beginning."""
        return open_stream(self.model, anchor, self.settings, self.driving, progress=clock)


def measure(task: Task) -> Figures:
    """All figures, ready for JSON; times in milliseconds."""
    device, dtype = task.model.device, task.model.dtype
    best = [matmul_tflops(device, dtype)]
    clock = ChunkClock(device)
    cold = seconds_of(lambda: next(task.stream(task.anchor())), device)
    reset_peak_memory(device)
    first = seconds_of(lambda: next(task.stream(task.anchor())), device)
    anchor = task.anchor()
    stream = task.stream(anchor, clock)
    for _ in range(task.num_warming):
        next(stream)
    seconds = seconds_of(lambda: _timed(stream, clock, task.num_chunks), device)
    stages = clock.milliseconds()
    memory = peak_memory(device)
    pairs = _pairs(task, stream, anchor)
    best.append(matmul_tflops(device, dtype))
    figures = {
        **_what(task),
        "fps": task.num_chunks * task.num_chunk_pixels / seconds,
        "realtime_factor": task.num_chunks * task.num_chunk_pixels / seconds / task.model.fps,
        "first_chunk_ms": 1000 * first,  # from a picture, its anchor included
        "first_chunk_cold_ms": 1000 * cold,  # the same, with everything that a process does once
        "ms": {stage: percentiles(taken) for stage, taken in stages.items()},
        "matmul_tflops_per_s": statistics.mean(best),
        "peak_memory": memory,
        "cache_mib": stream.num_cache_bytes / 2**20,
    }
    figures |= _work(task, figures)
    figures |= {} if pairs is None else {"plain": pairs}
    if task.full_depth not in (None, task.model.config.num_layers):
        figures["scaled_to_full_depth"] = _scaled(task, figures)
    return _rounded(figures)


def _timed(stream: Stream, clock: ChunkClock, num_chunks: int) -> None:
    for _ in range(num_chunks):
        with clock.chunk():
            next(stream)


def _what(task: Task) -> Figures:
    model = task.model
    return {
        "model": model.preset.family,
        "parameters": sum(weight.numel() for weight in model.network.parameters()),
        "layers": model.config.num_layers,
        "width": task.size[1],
        "height": task.size[0],
        "text_tokens": task.tokens.text,
        "settings": task.settings.to_dict(),
        "device": machine(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "chunks": task.num_chunks,
        "pixel_frames_per_chunk": task.num_chunk_pixels,
    }


def _work(task: Task, figures: Figures) -> Figures:
    """Operations, and how many a second, held against the machine's own matrix product."""
    flops = chunk_flops(task.model.config, task.settings, task.tokens)
    middle = {stage: taken["p50"] / 1000 for stage, taken in figures["ms"].items()}
    steps = sum(seconds for stage, seconds in middle.items() if stage.startswith("step"))
    rate = flops.total / (steps + middle["commit"]) / _TERA
    decoding = _decode_flops(task)
    return {
        "tflop_per_chunk": {
            "steps": flops.step * flops.steps / _TERA,
            "commit": flops.commit / _TERA,
            "network": flops.total / _TERA,
            "decode": None if decoding is None else decoding / _TERA,
        },
        "tflops_per_s": {
            "network": rate,
            "network_share_of_matmul": rate / figures["matmul_tflops_per_s"],
            "decode": None if decoding is None else decoding / middle["decode"] / _TERA,
        },
    }


def _decode_flops(task: Task) -> int | None:
    codec = task.model.codec
    if not isinstance(codec, TAEHV):
        return None
    return decode_flops(codec.config, task.settings.num_chunk_frames, task.model.latent_size(*task.size))


def _pairs(task: Task, stream: Stream, anchor: Anchor) -> Figures | None:
    """Turn by turn, so that whatever else the machine does meets both."""
    if not task.num_pairs:
        return None
    loop = PlainLoop(task.model, anchor, task.settings, task.driving)
    _turn(stream, loop, task.model.device)  # the loop's first chunk is shorter, and chooses its kernels
    reset_peak_memory(task.model.device)
    turns = [_turn(stream, loop, task.model.device) for _ in range(task.num_pairs)]
    operations = plain_flops(task.model.config, task.settings, task.tokens)
    return {
        "pairs": task.num_pairs,
        "stream_chunk_ms": percentiles([1000 * turn.streamed.chunk for turn in turns]),
        "plain_chunk_ms": percentiles([1000 * turn.plain.chunk for turn in turns]),
        "times_as_long": statistics.median(turn.plain.chunk / turn.streamed.chunk for turn in turns),
        "network_times_as_long": statistics.median(turn.plain.network / turn.streamed.network for turn in turns),
        "times_the_operations": operations / chunk_flops(task.model.config, task.settings, task.tokens).total,
        "peak_memory": peak_memory(task.model.device),
    }


class _Taken(NamedTuple):
    """Seconds: of a whole chunk, and of it without decoding."""

    chunk: float
    network: float


class _Turn(NamedTuple):
    streamed: _Taken
    plain: _Taken


def _turn(stream: Stream, loop: PlainLoop, device: torch.device) -> _Turn:
    chunks, latents = [], []
    streamed = seconds_of(lambda: chunks.append(next(stream)), device)
    network = chunks[0].seconds["denoise"] + chunks[0].seconds["commit"]
    denoised = seconds_of(lambda: latents.append(loop.denoise()), device)
    finished = seconds_of(lambda: loop.finish(latents[0]), device)
    return _Turn(_Taken(streamed, network), _Taken(denoised + finished, denoised))


def _scaled(task: Task, figures: Figures) -> Figures:
    """Computed times of the full depth at the same rate; they are not measured."""
    assert task.full_depth is not None
    shallow = chunk_flops(task.model.config, task.settings, task.tokens).total
    full = chunk_flops(replace(task.model.config, num_layers=task.full_depth), task.settings, task.tokens).total
    middle = {stage: taken["p50"] for stage, taken in figures["ms"].items()}
    beside = middle["prepare"] + middle["decode"]
    chunk = (middle["chunk"] - beside) * full / shallow + beside
    fps = 1000 * task.num_chunk_pixels / chunk
    return {
        "note": "computed, not measured: steps and commit times the ratio of operations, the rest as it is",
        "layers": task.full_depth,
        "tflop_per_chunk": full / _TERA,
        "chunk_ms": chunk,
        "fps": fps,
        "realtime_factor": fps / task.model.fps,
    }


def _rounded(value: Any) -> Any:
    """Five digits are more than any of this repeats."""
    if isinstance(value, dict):
        return {name: _rounded(inside) for name, inside in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
