"""The cache that a stream begins or goes on with."""

from ..cache import CacheShape, KVCache
from ..geometry import num_tokens
from ..wan.branches import branches
from .snapshot import Snapshot
from .stream_model import StreamModel


def filled_cache(model: StreamModel, snapshot: Snapshot) -> KVCache:
    """A cache of the sizes that the settings ask for, filled with the stored window."""
    config, settings, anchor = model.config, snapshot.settings, snapshot.anchor
    shape = CacheShape(
        num_layers=config.num_layers * len(branches(settings, config)),
        batch=1,
        num_tokens=num_tokens(*anchor.latent_size),
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        num_window_frames=settings.num_ring_frames,
        num_anchor_frames=int(settings.use_anchor),
        num_pass_frames=settings.num_pass_frames,
        num_sink_frames=settings.num_sink_frames,
    )
    cache = KVCache(shape, dtype=model.dtype, device=model.device)
    if snapshot.window_index.num_committed:
        cache.load_window(snapshot.window_index, snapshot.window)
    return cache
