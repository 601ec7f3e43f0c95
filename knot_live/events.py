"""A session's output: chunks of pictures with their sound, and events beside them.

Shapes: T pixel frames, H W height and width, S samples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .chunk_pictures import Pictures
from .pacing import first_sample

READY, RUNNING, PAUSED, FINISHING, ENDED = "ready", "running", "paused", "finishing", "ended"  # states


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaChunk:
    """Pictures from `first_frame` on with the sound that moves them: what the viewer shows next.

    With a higher `epoch` than before they replace what he holds from `first_frame` on.
    """

    epoch: int
    chunk: int  # number of the stream's chunk; after a cut it may come again, and begin inside
    first_frame: int
    frames: Pictures | np.ndarray  # uint8 [T, H, W, 3], decoded or on their way
    sound: np.ndarray  # float32 [S], mono at 24 kHz
    speech: int = 0  # of its samples, from the first on, those that are speech which was asked for
    applied: tuple[int, ...]  # numbers of the controls that took hold with it
    seconds: Mapping[str, float]  # by stage, and "chunk" of all
    buffer: float  # seconds of pictures that were unplayed when it was ready
    keyframe: bool = True  # it can be decoded without what came before
    every: int = 1  # of its pictures, every so manieth need be shown, beginning with the stream's first

    def pieces(self, fps: int) -> Iterator["MediaChunk"]:
        """The same in pieces, as its pictures come; waits for them. Controls took hold with the first."""
        first, begins = self.first_frame, first_sample(self.first_frame, fps)
        for frames in [self.frames] if isinstance(self.frames, np.ndarray) else self.frames.pieces():
            stop = first + len(frames)
            is_first = first == self.first_frame
            start, end = first_sample(first, fps) - begins, first_sample(stop, fps) - begins
            yield replace(
                self, first_frame=first, frames=frames, applied=self.applied if is_first else (), keyframe=is_first,
                sound=self.sound[start:end], speech=min(max(self.speech - start, 0), end - start),
            )  # fmt: skip
            first = stop


@dataclass(frozen=True)
class Applied:
    """A control has taken hold with the chunk that begins at that frame."""

    number: int
    chunk: int
    frame: int


@dataclass(frozen=True)
class Refused:
    """A control cannot be; the message says why, and the session goes on without it."""

    number: int
    message: str


@dataclass(frozen=True)
class Degraded:
    """From that chunk on the session is drawn as a rung of its ladder says; 0: as it was asked for.

    `settings` are what a client may know of it, and `message` says why.
    """

    rung: int
    chunk: int
    frame: int
    settings: Mapping[str, int]  # steps, num_chunk_frames, every (of so many pictures, one is shown)
    message: str


@dataclass(frozen=True)
class Cut:
    """Frames from that one on are not to be shown; those of this epoch take their place."""

    epoch: int
    first_frame: int


@dataclass(frozen=True)
class StateChanged:
    """The session is ready, running, paused, finishing or ended."""

    state: str


@dataclass(frozen=True)
class Recorded:
    """A recording has ended; `message` says why it broke off, and is empty where it is whole."""

    path: Path
    message: str = ""


@dataclass(frozen=True)
class Ended:
    """The last event. Reasons: finished, longest, driving, stopped, error."""

    reason: str
    message: str


Event = Applied | Refused | Degraded | Cut | StateChanged | Recorded | Ended
