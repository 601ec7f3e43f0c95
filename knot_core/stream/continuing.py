"""States as values: begun, held, handed on, gone on from as often as wanted. A stream never writes into one."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..config import StreamSettings
from ..errors import StateError
from ..geometry import TEMPORAL, first_pixel_frame, whole_chunks
from .anchor import Anchor
from .conditioning import Conditioning
from .sampler import Progress, ShouldStop, Stream
from .snapshot import Snapshot, StreamState, check_beginning, first_snapshot
from .state_file import load_stream
from .stream_model import StreamDriving, StreamModel, fingerprint

logger = logging.getLogger(__name__)


def open_stream(  # noqa: PLR0913 - the public door; a host's callables may be left out
    model: StreamModel,
    anchor: Anchor,
    settings: StreamSettings,
    driving: StreamDriving,
    seed: int = 0,
    *,
    conditioning: Conditioning | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Stream:
    """Begin a stream; nothing is computed before its first chunk is asked for.

    `conditioning`: what it is told; None: what the anchor was encoded under.
    """
    begun = begin_stream(model, anchor, settings, seed, conditioning)
    return Stream(model, begun, driving, progress=progress, should_stop=should_stop)


def resume_stream(
    model: StreamModel,
    path: str | os.PathLike[str],
    driving: StreamDriving,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Stream:
    """Go on, bit for bit, from what `Stream.save` wrote, with the driving that was playing."""
    return Stream(model, load_stream(path, model), driving, progress=progress, should_stop=should_stop)


def begin_stream(
    model: StreamModel,
    anchor: Anchor,
    settings: StreamSettings,
    seed: int = 0,
    conditioning: Conditioning | None = None,
) -> Snapshot:
    """A state before its first chunk."""
    check_beginning(model, anchor, seed)
    begun = first_snapshot(settings, anchor, seed)
    return begun if conditioning is None else replace(begun, conditioning=conditioning)


def state_of(stream: Stream, device: torch.device | str = "cpu") -> Snapshot:
    """A copy of the stream's state, independent of the stream, which may go on."""
    return placed(stream.snapshot(), device, copy=True)


def continue_stream(
    model: StreamModel,
    saved: Snapshot,
    driving: StreamDriving,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Stream:
    """Go on from a state, bit for bit, with the driving that was playing; the state stays as it is.

    Raises:
        StateError: the state was made with another model or dtype.
    """
    if saved.anchor.model != fingerprint(model):
        raise StateError("the state is of another model, or of another dtype; load the model that it was made with")
    return Stream(model, placed(saved, model.device), driving, progress=progress, should_stop=should_stop)


def restart_driving(saved: Snapshot) -> Snapshot:
    """The same state, whose driving begins to play at its next chunk: for one after the other."""
    return replace(saved, state=replace(saved.state, driving_origin=saved.state.clock.start))


def driving_played(saved: Snapshot) -> int:
    """The next chunk's beginning in the driving's own time, in pixel frames.

    A driving that begins there plays 3 pixel frames later, and this is -3: of the latent frame in which a driving
    begins, its first pixel frame is the last one.
    """
    return first_pixel_frame(saved.state.clock.start) - TEMPORAL * saved.state.driving_origin


def in_whole_chunks(saved: Snapshot, num_pixel_frames: int) -> int:
    """The fewest pixel frames, at least so many, after which the stream stands between two chunks."""
    start = saved.state.clock.start
    begun = first_pixel_frame(start)
    return whole_chunks(start, saved.settings.num_chunk_frames, begun + num_pixel_frames) - begun


def leave_state(stream: Stream, path: str | os.PathLike[str]) -> bool:
    """Save where a stream stands that something has ended. If that fails too it is said: the reason for the end counts.

    A chunk that was cut off has not happened, so the state is that after the last whole one.
    """
    try:
        stream.save(path)
    except (StateError, RuntimeError) as problem:  # an accelerator that failed may not give its tensors back
        logger.warning("the stream leaves no state to go on from: %s", problem)
        return False
    logger.info("the stream can be gone on with from %s", path)
    return True


def placed(saved: Snapshot, device: torch.device | str, *, copy: bool = False) -> Snapshot:
    """The state on a device; the random state stays on the CPU. `copy`: the cache's views are copied."""

    def there(tensor: Tensor) -> Tensor:
        return tensor.to(device, copy=copy)

    return replace(
        saved,
        anchor=saved.anchor.on(device),
        conditioning=saved.conditioning.on(device),
        state=_state_on(saved.state, there),
        window=tuple(map(there, saved.window)),
        sinks=tuple(map(there, saved.sinks)),
    )


def _state_on(state: StreamState, there: Callable[[Tensor], Tensor]) -> StreamState:
    knot, recent, memory = state.knot_BMCHW, state.recent_BFCHW, state.decoder_memory
    return replace(
        state,
        knot_BMCHW=None if knot is None else there(knot),
        recent_BFCHW=None if recent is None else there(recent),
        decoder_memory=None if memory is None else tuple(map(there, memory)),
        shown=None if state.shown is None else state.shown.placed(there),
    )
