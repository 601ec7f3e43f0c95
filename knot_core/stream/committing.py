"""How a settled chunk comes into the window: by a pass of its own, by what its steps left, or all of it anew.

Shapes: B batch, F latent frames, C channels, H W latent size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cache import KVCache, Overwritten
from ..config import StreamSettings
from ..errors import SettingsError
from .chunk import Conditions, clean_pieces, commit_pieces
from .denoise import Denoiser
from .pieces import Pieces
from .plan import ChunkPlan, Clock, place_in_ring
from .recaching import Recached
from .sinks import Sinks

ConditionsOf = Callable[[range], Conditions]  # of settled latent frames, by their numbers in the stream
KEEP_SINKS, RENEW_SINKS = "keep_sinks", "renew_sinks"  # what a recache does with sinks; "" is no recache


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """Cache and sinks of one stream, and how its settings say that they are filled.

    A chunk is committed in two steps: `run`, the passes that it takes, then `write`.
    """

    settings: StreamSettings
    cache: KVCache
    sinks: Sinks

    def before_step(self, plan: ChunkPlan, step: int) -> None:
        """Say where the step's pass writes its keys and values, if passes write in place."""
        if self.settings.commit == "in_place":
            self.cache.write_in_place(place_in_ring(self.settings, (plan.start - plan.begin) // plan.num_frames, step))

    def run(
        self,
        denoiser: Denoiser,
        plan: ChunkPlan,
        conditions: Conditions,
        recent_BFCHW: Tensor,
        conditions_of: ConditionsOf,
    ) -> Pieces[None]:
        """`conditions` of all that was denoised; `recent`: the last settled latents, the chunk's at their end."""
        if self.settings.commit == "recompute":
            before = 0
            for frames in self._recomputed(plan):
                self.cache.pass_alone(before)
                latents = _of(recent_BFCHW, plan.committed.stop, frames)
                yield from clean_pieces(denoiser, conditions_of(frames), latents, self.cache)
                before += len(frames)
        elif self.settings.commit == "clean" and self.settings.num_window_frames + self.settings.num_sink_frames > 0:
            settled = recent_BFCHW[:, -plan.num_frames :]
            yield from commit_pieces(denoiser, conditions, plan, settled, self.cache)

    def write(self, plan: ChunkPlan, *, keep: bool = False) -> Overwritten | None:
        """Write the passes' results into the window; `keep`: return what they overwrote."""
        recomputes, num_frames = self.settings.commit == "recompute", plan.num_frames
        overwritten = self.sinks.overwritten(self.cache, num_frames, wholly=recomputes) if keep else None
        if recomputes:
            self.cache.replace_window([len(frames) for frames in self._recomputed(plan)], num_frames)
        else:
            self.sinks.commit(self.cache, num_frames)
        return overwritten

    def _recomputed(self, plan: ChunkPlan) -> list[range]:
        """The window's frames once the chunk is in it, chunk by chunk from its first one on: each sees itself and those
        before it.
        """
        stop, chunk = plan.committed.stop, plan.num_frames
        start = max(stop - self.settings.num_window_frames, plan.begin)
        return [range(first, min(first + chunk, stop)) for first in range(start, stop, chunk)]

    def recache(
        self, denoiser: Denoiser, plan: ChunkPlan, recent_BFCHW: Tensor, conditions_of: ConditionsOf, sinks: str
    ) -> Pieces[None]:
        """Compute what the next chunk sees again, from the latents before it, in one pass that sees all of itself
        (LongLive's KV recache): the window, and a chunk before it.

        Sinks are computed anew with everything else as long as the kept latents reach the stream's beginning; after
        that they stay, or with RENEW_SINKS the first of the kept latents take their place.
        """
        start = self.cache.index.num_committed - recent_BFCHW.shape[1]  # counted from the stream's beginning
        keeps = sinks == KEEP_SINKS and start > 0
        latents = recent_BFCHW[:, self.settings.num_sink_frames :] if keeps else recent_BFCHW
        recached = Recached(self.cache, self.sinks, num_frames=latents.shape[1], kept_sinks=start if keeps else None)
        frames = range(plan.start - latents.shape[1], plan.start)
        yield from clean_pieces(denoiser, conditions_of(frames), latents, recached)
        recached.commit(latents.shape[1])


def stronger(one: str, other: str) -> str:
    """Both recaches in one: sinks that one of them renews are renewed."""
    return max(one, other, key=("", KEEP_SINKS, RENEW_SINKS).index)


def check_recache(settings: StreamSettings, recent_BFCHW: Tensor | None, clock: Clock) -> None:
    """SettingsError where the window cannot be computed again."""
    if settings.commit == "in_place":
        raise SettingsError(
            "commit is in_place, whose window holds what noisy steps left and cannot be computed again; set the "
            "prompt without recache, or commit to clean"
        )
    held = min(clock.num_committed, num_kept_latents(settings))
    have = 0 if recent_BFCHW is None else recent_BFCHW.shape[1]
    if have < min(held, settings.num_sink_frames + settings.num_window_frames):  # with shorter chunks fewer were kept
        raise SettingsError(
            f"the window is computed again from the last {held} latent frames, and of this stream, which an older "
            f"version saved, {have} are kept; let it run on first, or set the prompt without recache"
        )


def num_kept_latents(settings: StreamSettings) -> int:
    """As many as sinks, window and a chunk are, from which keys can be computed anew."""
    return settings.num_sink_frames + settings.num_window_frames + settings.num_chunk_frames


def kept_latents(count: int, recent_BFCHW: Tensor | None, latents_BFCHW: Tensor) -> Tensor:
    """The last `count` latents [B, count, C, H, W] of those kept so far and a chunk's settled ones."""
    settled = latents_BFCHW if recent_BFCHW is None else torch.cat([recent_BFCHW, latents_BFCHW], dim=1)
    return settled[:, -count:].clone()


def _of(recent_BFCHW: Tensor, stop: int, frames: range) -> Tensor:
    """The latents of `frames`; the last one kept is that of frame `stop` - 1."""
    first = recent_BFCHW.shape[1] - (stop - frames.start)
    return recent_BFCHW[:, first : first + len(frames)]
