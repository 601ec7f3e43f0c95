"""The pace of a stream that is watched while it is drawn: when a chunk begins, and what is shown as it is decoded.

Shapes: T pixel frames, H W size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .plan import ChunkPlan


class Abandoned(Exception):  # noqa: N818 - not an error
    """The chunk that is being drawn is not wanted as it was begun."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Decoded frames of a chunk, those of one latent frame."""

    chunk: int
    first_pixel_frame: int  # of the stream
    pixel_frames: Tensor  # uint8 [T, H, W, 3], on the CPU


class Pace(Protocol):
    """Asked and told by the threads of `pipelined`."""

    def begin(self, closed: Callable[[], bool]) -> bool:
        """Wait in the drawing thread until the next chunk may begin; False if there is to be none.

        What is changed here, driving, prompt, anchor or settings, the chunk is drawn under. `closed` says whether
        nobody wants chunks any more: look at it while waiting.
        """

    def abandons(self) -> bool:
        """Whether to drop the chunk that is being drawn, and begin it anew. Asked in the drawing thread before each of
        its stages; a chunk that is on its way to the decoder is never dropped.
        """

    def drawn(self, plan: ChunkPlan) -> None:
        """The chunk will be given, and is not dropped any more. In the drawing thread, before any of it is shown."""

    def shows(self, piece: Piece) -> None:
        """The next frames, in order, in the decoding thread, before the chunk is given whole."""
