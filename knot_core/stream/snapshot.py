"""A stream between two chunks, as a value.

Shapes: B batch (of one), F latent frames, M known latent frames, C channels, H W latent size.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cache_index import CacheIndex
from ..config import StreamSettings
from ..errors import SettingsError
from .anchor import Anchor
from .conditioning import Conditioning
from .plan import Clock, clock_anew, first_clock
from .reference_pictures import ShownReference
from .stream_model import DecoderMemory, StreamModel, fingerprint

MAX_SEED = 2**64 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamState:
    """Everything that changes from chunk to chunk, but for the cache."""

    clock: Clock
    rng_state: Tensor  # of the CPU generator that draws the noise
    knot_BMCHW: Tensor | None
    decoder_memory: DecoderMemory | None
    driving_origin: int  # the latent frame of the stream at which the driving's own frame 0 lies
    recache: str = ""  # whether the next chunk computes what it sees again, and of sinks what: see stream/committing.py
    threads: int | None = None  # inside the operations that drew the last chunk; of old files, and at first: unknown
    recent_BFCHW: Tensor | None = None  # the last settled latents, as `kept_latents` keeps them; older files have none
    shown: ShownReference | None = (
        None  # what the last chunk was decoded with, of codecs that copy pixels from the reference
    )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.clock}>"


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A stream between two chunks, whole: what a state file holds, and what a stream is made from."""

    settings: StreamSettings
    anchor: Anchor
    conditioning: Conditioning
    state: StreamState
    window_index: CacheIndex
    window: tuple[Tensor, ...]  # per layer, as `KVCache.window` gives it; nothing before the first chunk
    sinks: tuple[Tensor, ...] = ()  # per layer, as `Sinks` keeps them; nothing where they stand still

    def __repr__(self) -> str:
        clock = self.state.clock
        return f"<{type(self).__name__} before chunk {clock.chunk} (latent frame {clock.start}) of {self.anchor!r}>"


def check_beginning(model: StreamModel, anchor: Anchor, seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"seed is {seed}; it must be between 0 and {MAX_SEED}")
    if anchor.model != fingerprint(model):
        raise SettingsError("the anchor was encoded by another model, or in another dtype; encode the reference again")


def first_snapshot(settings: StreamSettings, anchor: Anchor, seed: int, start: int = 0) -> Snapshot:
    """A stream that has not begun; another `start` moves it in time, for tests of very long ones."""
    state = StreamState(
        clock=first_clock(settings, start),
        rng_state=torch.Generator().manual_seed(seed).get_state(),
        knot_BMCHW=_first_knot(settings, anchor),
        decoder_memory=None,
        driving_origin=start,
    )
    return Snapshot(
        settings=settings,
        anchor=anchor,
        conditioning=anchor.conditioning,
        state=state,
        window_index=_empty_window(settings),
        window=(),
    )


def state_anew(settings: StreamSettings, anchor: Anchor, state: StreamState) -> StreamState:
    """The state of a stream that begins anew where it stands: its clock, noise and driving go on, no more."""
    return replace(
        state,
        clock=clock_anew(settings, state.clock),
        knot_BMCHW=_first_knot(settings, anchor),
        decoder_memory=None,
        recache="",
        recent_BFCHW=None,
        shown=None,
    )


def anew(saved: Snapshot) -> Snapshot:
    """The stream without window, knot and decoder memory: it begins anew where it stands."""
    state = state_anew(saved.settings, saved.anchor, saved.state)
    return replace(saved, state=state, window_index=_empty_window(saved.settings), window=(), sinks=())


def _first_knot(settings: StreamSettings, anchor: Anchor) -> Tensor | None:
    return anchor.reference_BFCHW.clone() if settings.start_from_reference else None


def _empty_window(settings: StreamSettings) -> CacheIndex:
    return CacheIndex(capacity=settings.num_ring_frames, num_sinks=settings.num_sink_frames)
