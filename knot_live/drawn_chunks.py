"""Chunks of a live session once they are drawn: what is shown of them, and what is kept to take them back.

Shapes: S samples.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from . import pacing
from .chunk_pictures import Pictures
from .engine import Chunk, LateChunk
from .pacing import Span


class DrawnChunk(NamedTuple):
    """A chunk: where it lies, its pictures, the sound [S] that moved it, how many samples of that, from its first, are
    speech, and the seconds that its stages took.
    """

    span: Span
    frames: Pictures
    sound: np.ndarray
    speech: int
    seconds: Mapping[str, float]

    def cut_short(self, num_latents: int, fps: int) -> "DrawnChunk":
        """The chunk's first latent frames alone."""
        span = self.span.first_latents(num_latents)
        samples = pacing.first_sample(span.end, fps) - pacing.first_sample(span.first, fps)
        frames, sound = self.frames[: span.length], self.sound[:samples]
        return self._replace(span=span, frames=frames, sound=sound, speech=min(self.speech, samples))


class MadeChunk(NamedTuple):
    """A chunk that was given, as far as it was not cut since; `speaks`: whether speech is heard in it."""

    span: Span
    chunk: Chunk | LateChunk
    speaks: bool


def pictures_of(chunk: Chunk | LateChunk) -> Pictures:
    """The pictures of a chunk; those of a chunk that is decoded later are waited for where they are read."""
    if isinstance(chunk, LateChunk):
        return Pictures(chunk.frames, chunk.num_pixel_frames)
    return Pictures([chunk.pixel_frames], len(chunk.pixel_frames))


def is_decoded(chunk: Chunk | LateChunk) -> bool:
    """Whether some of it was decoded beside drawing, and that has ended."""
    return isinstance(chunk, LateChunk) and chunk.frames.seconds > 0 and chunk.frames.num_decoded > 0
