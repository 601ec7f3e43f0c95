"""A stream between two chunks, as a value.

Shapes: B batch (of one), F latent frames, M known latent frames, C channels, H W latent size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..cache_index import CacheIndex
from ..config import StreamSettings
from ..errors import SettingsError
from .anchor import Anchor
from .conditioning import Conditioning
from .model import DecoderMemory, StreamModel, fingerprint
from .plan import Clock, first_clock

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
        knot_BMCHW=anchor.reference_BFCHW.clone() if settings.start_from_reference else None,
        decoder_memory=None,
        driving_origin=start,
    )
    index = CacheIndex(capacity=settings.num_ring_frames, num_sinks=settings.num_sink_frames)
    return Snapshot(
        settings=settings, anchor=anchor, conditioning=anchor.conditioning, state=state, window_index=index, window=()
    )
