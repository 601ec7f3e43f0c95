"""All that was done to a session's stream, in order, so that another process can do it again, bit for bit.

A session is a function of its seed, of what was asked, and of the times that its driving was told; all are in here.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .chunk_lengths import TakenBack
from .controls import Control


@dataclass(frozen=True)
class Begun:
    """The driving of the next chunk was frozen, at that time of its clock; so many latent frames it was to have."""

    at: float
    num_latents: int


@dataclass(frozen=True)
class GivenUp:
    """The chunk that was begun was given up, to be begun again."""


@dataclass(frozen=True)
class Kept:
    """The chunk that was begun was drawn; `digest`: of its latents."""

    chunk: int
    digest: int


@dataclass(frozen=True)
class Did:
    """A control was heeded, at that time of the driving's clock. `settings`: all that are asked for then, where it has
    changed some.
    """

    number: int
    control: Control
    at: float
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TookBack:
    """Chunks that were made are drawn anew: see `Drawing.take_back`."""

    what: TakenBack
    played_frame: int | None


Step = Begun | GivenUp | Kept | Did | TookBack


class Journal:
    """A journal of a session's steps, and its driving's clock; both belong to the drawing thread.

    While it is held, which is when steps are done again, nothing is written and its time stands still.
    """

    def __init__(
        self, write: Callable[[Step], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self.at, self._offset, self._held = 0.0, 0.0, False
        self.repeated: Step | None = None  # the last step that was done again

    def now(self) -> float:
        """Seconds; goes on behind the last time that it was held at."""
        if not self._held:
            self.at = self._clock() + self._offset
        return self.at

    def hold(self, at: float) -> None:
        """Stand still at that time."""
        self.at, self._held = at, True

    def release(self) -> None:
        """Go on from the time at which it stands."""
        self._offset, self._held = self.at - self._clock(), False

    def write(self, step: Step) -> None:
        """One more step was done, or was done again."""
        if self._held:
            self.repeated = step
        else:
            self._write(step)


def digest(tensor: Tensor) -> int:
    """CRC-32 of its bytes, of any shape: [...]."""
    return zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
