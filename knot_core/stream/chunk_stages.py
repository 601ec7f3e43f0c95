"""A chunk on its way: begun, drawn, decoded; each is a value that says all that the next step needs.

Shapes: B batch (of one), F latent frames, M known latent frames, T pixel frames, C channels, H W size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..config import StreamSettings
from ..geometry import TEMPORAL, first_pixel_frame, num_latent_frames
from ..wan.adapters import NO_DRIVING, DrivingFeatures
from .anchor import Anchor
from .chunk import Conditions
from .committing import kept_latents, num_kept_latents
from .conditioning import Conditioning
from .denoise import Denoiser
from .plan import ChunkPlan, Clock
from .reference_pictures import ChunkDecoding, References
from .snapshot import Snapshot, StreamState
from .stream_model import DecoderMemory, StreamDriving
from .timing import Mark


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Committed latents and decoded frames that a stream yields together."""

    index: int
    start_frame: int  # first latent frame
    latents: Tensor  # float32 [F, C, h, w]; float64 of a float64 model
    pixel_frames: Tensor  # uint8 [T, H, W, 3], on the CPU
    seconds: Mapping[str, float]  # spent on "denoise", "decode" and "commit"; reading it waits for the commit

    def __repr__(self) -> str:
        frames, height, width, _ = self.pixel_frames.shape
        return f"<{type(self).__name__} {self.index}: {frames} pixel frames of {width}x{height}>"

    @property
    def first_pixel_frame(self) -> int:
        """The stream's pixel frame at which the chunk starts."""
        return first_pixel_frame(self.start_frame)


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """The conditions of one chunk, fixed when it begins, whatever is changed meanwhile."""

    plan: ChunkPlan
    state: StreamState  # before it
    anchors: tuple[Anchor, ...]  # as each branch of guidance sees it; the first as it was set
    conditioning: Conditioning
    denoiser: Denoiser
    driving: StreamDriving
    settings: StreamSettings
    mark: Mark

    @property
    def anchor(self) -> Anchor:
        return self.anchors[0]

    def decoding(self, references: References, memory: DecoderMemory | None) -> ChunkDecoding:
        """The decoding of this chunk; `memory` of the chunk before it."""
        shown, late = (self.state.shown, self.anchor.shown), self.plan.is_late_beginning
        return ChunkDecoding(references, memory, shown, self.plan.num_frames, is_late_beginning=late)

    @property
    def num_steps(self) -> int:
        return len(self.plan.sigmas)

    @property
    def end(self) -> int | None:
        """The stream's length in pixel frames, as its driving now says; None: without end."""
        length = self.driving.num_pixel_frames
        return None if length is None else TEMPORAL * self.state.driving_origin + length

    def conditions(self) -> Conditions:
        """The knot, where its frames stand in time, and what moves them."""
        return replace(self.conditions_of(self.plan.positions), knot_BMCHW=self.state.knot_BMCHW)

    def conditions_of(self, frames: range) -> Conditions:
        """The conditions of any latent frames of the stream as they are committed: without a knot."""
        first = frames.start - self.state.driving_origin
        signal = torch.as_tensor(self.driving.signal(first, len(frames)))[None]
        from_reference = frames.start == self.plan.begin and self.settings.start_from_reference
        known = self.denoiser.layout.known_at_commit(self.anchor.reference_BFCHW, from_reference=from_reference)
        return Conditions(
            knot_BMCHW=known,
            rope=self.denoiser.rope(frames, self.anchor.latent_size),
            driving=self.denoiser.driving(signal, len(frames), starts=first == 0),
            silence=self._silence(signal, starts=first == 0),
            unknown_BFCHW=self._unknown(frames),
        )

    def _silence(self, signal_BFTQ: Tensor, *, starts: bool) -> DrivingFeatures:
        if not any(guide.branch.silent for guide in self.denoiser.guides):
            return NO_DRIVING
        return self.denoiser.driving(torch.zeros_like(signal_BFTQ), signal_BFTQ.shape[1], starts=starts)

    def _unknown(self, frames: range) -> Tensor | None:
        """The latents of grey frames behind the reference, for a stream that starts from it; for later frames, and for
        other streams, what that comes to in the end.
        """
        grey_BGCHW = self.anchor.grey_BGCHW
        if grey_BGCHW is None:
            return None
        begin, last = self.plan.begin, grey_BGCHW.shape[1] - 1
        behind = [frame - begin - 1 if self.settings.start_from_reference else last for frame in frames]
        places = [min(max(number, 0), last) for number in behind]
        return torch.cat([grey_BGCHW[:, place : place + 1] for place in places], dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Settled, to be decoded and committed, in any order or at once."""

    begun: Begun
    conditions: Conditions
    x0_BFCHW: Tensor  # of all frames that were denoised
    rng_state: Tensor
    threads: int  # inside the operations that drew it
    mark: Mark

    @property
    def plan(self) -> ChunkPlan:
        return self.begun.plan

    def latents(self) -> Tensor:
        """[B, F, C, H, W] of what it commits and gives, of its own."""
        return self.x0_BFCHW[:, : self.plan.num_frames].clone()

    def recent(self) -> Tensor:
        """The last settled latents [B, F, C, H, W] that the stream keeps; this chunk's stand at their end."""
        begun, settled = self.begun, self.x0_BFCHW[:, : self.plan.num_frames]
        return kept_latents(num_kept_latents(begun.settings), begun.state.recent_BFCHW, settled)

    def after(self, memory: DecoderMemory | None) -> StreamState:
        """The stream's state behind this chunk, once it is committed and decoded."""
        plan = self.plan
        return replace(
            self.begun.state,
            clock=plan.next_clock,
            recent_BFCHW=self.recent(),
            recache="",
            rng_state=self.rng_state,
            knot_BMCHW=self.x0_BFCHW[:, plan.num_frames :].clone() if plan.num_knot_frames else None,
            decoder_memory=memory,
            shown=self.begun.anchor.shown,
            threads=self.threads,
        )

    def emit(self, latents: Tensor, pixel_frames: Tensor, seconds: Mapping[str, float]) -> Chunk:
        """[F, C, H, W] and [T, H, W, 3], without what lies behind the driving's end."""
        plan, end = self.plan, self.begun.end
        if end is not None:
            latents = latents[: num_latent_frames(end) - plan.start]
            pixel_frames = pixel_frames[: end - first_pixel_frame(plan.start)]
        return Chunk(
            index=plan.chunk,
            start_frame=plan.start,
            latents=latents,
            pixel_frames=pixel_frames,
            seconds=seconds,
        )


class Ahead(Protocol):
    """Draws a stream's chunks before they are asked for."""

    @property
    def next_clock(self) -> Clock:
        """The clock of the next chunk that has not begun."""

    def snapshot(self) -> Snapshot:
        """The stream behind the last chunk that was given, whatever is drawn ahead of it."""
