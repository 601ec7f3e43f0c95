"""A stream that runs under ComfyUI: watched, stopped and measured, from a state to a state."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import comfy.model_management as host
import torch
from comfy.utils import ProgressBar
from torch import Tensor

from ...knot_core import (
    Anchor,
    Chunk,
    Driving,
    KnotError,
    Model,
    Snapshot,
    Stream,
    StreamSettings,
    StreamStats,
    begin_stream,
    continue_stream,
    state_of,
)
from ...knot_core.geometry import first_pixel_frame
from ...knot_core.run import Length, Run, length_of
from ...knot_core.stream import Conditioning, driving_played, in_whole_chunks, pipelined
from ...knot_core.wan.family_inputs import check_inputs
from .directing import directed
from .host_model import HostModel, at_hand, running
from .media import HostLatent, still, to_image, to_latent
from .memory_budget import memory_budget

logger = logging.getLogger(__name__)

ENDLESS = -1  # seconds


class HostRun(Run):
    """A run with ComfyUI's progress bar and a still of every chunk; stop is obeyed before every step.

    Models of our own generate ahead, and write each chunk on a thread of its own. What ComfyUI holds computes in this
    thread, the only one in which ComfyUI tells of progress and of stop. Where it stands between two chunks can be
    asked for at any time.
    """

    num_pixel_frames: int

    def __init__(self, stream: Stream, num_pixel_frames: int, num_bytes: int) -> None:
        """`num_bytes` beside the weights are what a pass takes."""
        super().__init__(stream, num_pixel_frames)
        self._num_bytes, self._bar = num_bytes, ProgressBar(num_pixel_frames)

    def __iter__(self) -> Iterator[Chunk]:
        return self.written(lambda _: None)

    def written(self, write: Callable[[Chunk], object]) -> Iterator[Chunk]:
        """Every chunk, once it is written and shown."""
        with closing(super().written(write)) as chunks:
            for chunk in chunks:
                try:
                    self._bar.update_absolute(self.end_of(chunk), preview=("JPEG", still(chunk), None))
                finally:  # which ComfyUI's stop may leave; the chunk has happened by then, so it is handed on first
                    yield chunk

    def generated(self, made: Callable[[Chunk], object]) -> Iterator[Chunk]:
        """Ahead, or here."""
        if computes_here(self.model, self.stream.conditioning):
            return self._generated_here(made)
        return pipelined(self.stream, write=made, wait=stop_if_asked)

    def state(self) -> Snapshot:
        """The state as it lies between nodes: where ComfyUI keeps what nodes hand on."""
        return state_of(self.stream, host.intermediate_device())

    def stats(self) -> StreamStats:
        return self.log.freeze()

    def _generated_here(self, made: Callable[[Chunk], object]) -> Iterator[Chunk]:
        """The chunks. Before each the model is loaded again, since other nodes may have displaced it."""
        chunks = directed(self.stream, self.model)
        while True:
            stop_if_asked()
            if isinstance(self.model, HostModel):
                self.model.bring_in(self._num_bytes)
            chunk = next(chunks, None)
            if chunk is None:
                return
            made(chunk)
            yield chunk


def computes_here(model: Model, conditioning: Conditioning) -> bool:
    """Whether a stream must stay in the thread in which ComfyUI executes nodes; prompts change there, too."""
    return isinstance(model, HostModel) or conditioning.prompts is not None


def begin(model: Model, anchor: Anchor, settings: StreamSettings | None, seed: int) -> Snapshot:
    """A state before the first chunk."""
    return begin_stream(model, anchor, _fitting(anchor, settings or model.settings), seed)


def begun_or_given(
    model: Model, anchor: Anchor | None, settings: StreamSettings | None, seed: int, state: Snapshot | None
) -> Snapshot:
    """The state to go on from; one that is given brings its own anchor, settings and random state. What its anchor is
    given along now, prompts over time, it goes on under.
    """
    if state is None:
        if anchor is None:
            raise KnotError("got neither an anchor nor a state: connect an anchor to begin, or a state to go on")
        return begin(model, anchor, settings, seed)
    if anchor is not None and anchor.digest != state.anchor.digest:
        raise KnotError("got a state of another reference than the anchor's: connect one of the two")
    if settings is not None and settings != state.settings:
        raise KnotError("got settings other than the state's, which a stream keeps: leave settings unconnected")
    prompts = None if anchor is None else anchor.conditioning.prompts
    return state if prompts is None else replace(state, conditioning=replace(state.conditioning, prompts=prompts))


@contextmanager
def streaming(
    model: Model, saved: Snapshot, driving: Driving | None, seconds: float, *, whole_chunks: bool = False
) -> Iterator[HostRun]:
    """A run of so many seconds, or as long as the driving, from a state on."""
    _check_driving(model, driving)
    length = _length(model, saved, driving, seconds, whole_chunks=whole_chunks)
    budget = memory_budget(model, saved.anchor, saved.settings)
    with running(model, budget.whole):
        placed = replace(saved, anchor=at_hand(saved.anchor, model))
        # the stages of a model of our own have threads on which ComfyUI's stop must not be raised
        here = stop_if_asked if computes_here(model, saved.conditioning) else None
        stream = continue_stream(model, placed, length.driving, should_stop=here)
        stream.threads = model.threads_for(saved.settings, saved.anchor.latent_size, as_before=stream.threads)
        yield HostRun(stream, length.num_pixel_frames, budget.a_pass)


def stream_chunks(
    model: Model, anchor: Anchor, driving: Driving | None, settings: StreamSettings | None, seed: int, seconds: float
) -> Iterator[Chunk]:
    """All of a stream from its beginning."""
    with streaming(model, begin(model, anchor, settings, seed), driving, seconds) as run:
        yield from run


def sample_chunks(
    model: Model, saved: Snapshot, driving: Driving | None, count: int
) -> tuple[list[Chunk], Snapshot, StreamStats]:
    """The next chunks whole, also past the driving's end; the state after them; their figures."""
    num_pixel_frames = in_whole_chunks(saved, 1)
    for _ in range(count - 1):
        num_pixel_frames = in_whole_chunks(saved, num_pixel_frames + 1)
    with streaming(model, saved, driving, num_pixel_frames / model.fps) as run:
        chunks = []
        for chunk in run:
            run.log.add(chunk)
            chunks.append(chunk)
        return chunks, run.state(), run.stats()


def joined(chunks: list[Chunk], model: Model) -> tuple[Tensor, HostLatent]:
    """One IMAGE and one LATENT of them all."""
    latents = [to_latent(chunk, model)["samples"] for chunk in chunks]
    return torch.cat([to_image(chunk) for chunk in chunks]), {"samples": torch.cat(latents, dim=2)}


def begins_at(model: Model, saved: Snapshot) -> float:
    """Seconds of the whole stream before the state's next chunk."""
    return first_pixel_frame(saved.state.clock.start) / model.fps


def played_out(driving: Driving | None, saved: Snapshot) -> bool:
    length = None if driving is None else driving.num_pixel_frames
    return length is not None and driving_played(saved) >= length


def seconds_played(model: Model, saved: Snapshot) -> float:
    """The time in the driving, in seconds, at which a state continues."""
    return driving_played(saved) / model.fps


def _check_driving(model: Model, driving: Driving | None) -> None:
    if driving is None and model.config.adapter is not None and model.preset.speech != "mel":
        raise KnotError(f"got no driving, but {model.preset.title} is driven by speech: connect Driving from Audio")
    if driving is not None:
        speech, controls = driving.speech is not None, (driving.pose or driving.mouth) is not None
        check_inputs(model.preset, model.config, has_text=model.preset.needs_text, has_speech=speech,
                     has_controls=controls)  # fmt: skip


def stop_if_asked() -> bool:
    """Never True: ComfyUI's own exception must reach ComfyUI, so it is raised here and passes through the stream."""
    host.throw_exception_if_processing_interrupted()
    return False


def _fitting(anchor: Anchor, settings: StreamSettings) -> StreamSettings:
    if anchor.has_picture or not (settings.use_anchor or settings.start_from_reference):
        return settings
    logger.info("There is no picture, only a prompt: the stream runs without an anchor")
    return replace(settings, use_anchor=False, start_from_reference=False)


def check_seconds(seconds: float) -> None:
    """Refuse a length that is none."""
    if math.isnan(seconds):  # which ComfyUI lets pass: it is neither too small nor too large
        raise KnotError("got seconds that are no number (NaN): set the length wanted, 0 for the driving's, or -1")
    if seconds < 0 and seconds != ENDLESS:
        raise KnotError(f"got {seconds:g} seconds: set the length wanted, 0 for the driving's, or -1 for no end")


def _length(model: Model, saved: Snapshot, driving: Driving | None, seconds: float, *, whole_chunks: bool) -> Length:
    check_seconds(seconds)
    if seconds == 0 and (driving is None or driving.num_pixel_frames is None):
        raise KnotError("this driving never ends and seconds is 0: set seconds to the length wanted, or to -1")
    asked = {ENDLESS: math.inf, 0: None}.get(seconds, seconds)
    return length_of(saved, driving or Driving.none(), model.fps, asked, whole_chunks=whole_chunks,
                     remedy="set seconds, connect a longer driving, or let it begin anew with Knot Forcing New "
                            "Driving")  # fmt: skip
